"""The longest chains of operations are compiled from deep inside a program too, and Python's own limit comes back."""

from __future__ import annotations

import sys

from cello.cells.definition import Cell, cell
from cello.cells.functions import tanh
from cello.compiler.plain.program import program
from cello.compiler.render import render


def runge_kutta(steps: int) -> Cell:
    """A continuous-time network, h' = tanh(W x + U h + b) - h."""

    @cell
    def own(x, h, W, U, b):  # type: ignore[no-untyped-def]
        def slope(h):  # type: ignore[no-untyped-def]
            return tanh(W @ x + U @ h + b) - h

        for _ in range(steps):
            first = slope(h)
            second = slope(h + 0.05 * first)
            third = slope(h + 0.05 * second)
            h = h + (first + 2 * second + 2 * third + slope(h + 0.1 * third)) / 60
        return h

    return own


def inside(calls: int, cell: Cell) -> str:
    if calls:
        return inside(calls - 1, cell)
    assert program(cell).instructions
    return render(cell, "js")


def test_ten_steps_of_runge_kutta_are_compiled_deep_inside_a_program() -> None:
    before = sys.getrecursionlimit()
    assert "tanh" in inside(before - 300, runge_kutta(10))
    assert sys.getrecursionlimit() == before
