"""The longest chains of operations are compiled from deep inside a program too, and Python's own limit comes back."""

from __future__ import annotations

import re
import sys
import time
from functools import reduce

from cello.cells.definition import Cell, cell
from cello.cells.functions import tanh
from cello.compiler.c.text import own_text
from cello.compiler.c99.step import step_text
from cello.compiler.plain.program import program
from cello.compiler.render import render
from cello.compiler.stages import lower


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


def deepest(text: str) -> int:
    """The most brackets inside one another, outside comments."""
    text = re.sub(r"(?s:/\*.*?\*/)|//.*", "", text)
    depth = found = 0
    for char in text:
        depth += (char == "(") - (char == ")")
        found = max(found, depth)
    return found


def test_no_expression_of_c_has_more_brackets_than_compilers_take() -> None:
    """Clang takes 256 inside one another."""

    @cell
    def own(x, h, W, U):  # type: ignore[no-untyped-def]
        return reduce(lambda value, _: tanh(value * 0.5) + 0.1, range(400), W @ x + U @ h)

    assert deepest(own_text(own)) < 256
    assert deepest("\n".join(step_text(own, "layer_0", 3).lines)) < 256


def test_a_long_sum_is_taken_once() -> None:
    """What hurts: time and memory that grow with the square of a chain of additions."""

    @cell
    def own(x, h, W, U, b):  # type: ignore[no-untyped-def]
        return reduce(lambda value, k: value + (k + 1) * b, range(1900), W @ x + U @ h)

    began = time.process_time()
    plan = lower(own)
    assert [len(each.invariant) for stage in plan.stages for each in stage.sums] == [1900]
    assert time.process_time() - began < 2  # with every partial sum by itself it grows with the square


def test_ten_steps_of_runge_kutta_are_compiled_deep_inside_a_program() -> None:
    before = sys.getrecursionlimit()
    assert "tanh" in inside(before - 300, runge_kutta(10))
    assert sys.getrecursionlimit() == before
