"""A step has an end: what is too deep for the passes over a graph is refused, what is just not is compiled."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch

from cello.cells.definition import Cell
from cello.cells.trace import LONGEST_CHAIN
from cello.compiler.render import TARGETS, render
from cello.compiler.scan import scan

CHAIN = """
@cell
def own(x, h, W, U, b):
    n = W @ x + U @ h
    for k in range({}):
        n = {}  # here
    return n + b
"""
DEEP = ["tanh(n)", "n * h", "h - n", "tanh(U @ n)", "n + U @ n", "(1 - b) * n + b * h", "where(n > h, n, h)", "b + n"]


@pytest.mark.parametrize("formula", DEEP)
def test_a_chain_without_end_is_refused(refusal: Callable[[str], str], formula: str) -> None:
    assert refusal(CHAIN.format(10**9, formula)) == (
        "more than 3,000 operations follow on one another. "
        "See whether a loop in the function ends, or compute in fewer steps."
    )


def test_a_loop_that_computes_the_same_for_ever_is_refused(refusal: Callable[[str], str]) -> None:
    message = refusal(CHAIN.format(10**9, "W @ x + tanh(U @ h)"))
    assert message == "a step has more than 10,000 operations. See whether a loop in the function ends."


def long(own_cell: Callable[[str], Cell], formula: str, operations: int) -> Cell:
    """So many operations that follow on one another."""
    each = {"tanh(U @ n)": 2, "n + U @ n": 2, "(1 - b) * n + b * h": 2}.get(formula, 1)
    return own_cell(CHAIN.format((operations - 3) // each, formula))


@pytest.mark.parametrize("formula", DEEP)
def test_a_long_chain_is_compiled(own_cell: Callable[[str], Cell], formula: str) -> None:
    cell = long(own_cell, formula, 400)
    weights = {name: torch.full(shape, 0.01) for name, shape in cell.parameters(3, 4).items()}
    assert scan(cell, torch.ones(1, 2, 3), weights, backend="plain").outputs.isfinite().all()
    assert all(render(cell, target) for target in TARGETS)


def test_the_longest_chain_is_compiled(own_cell: Callable[[str], Cell]) -> None:
    """What hurts: Python's limit of calls, or a time that grows with the square of the chain."""
    cell = long(own_cell, "tanh(U @ n)", LONGEST_CHAIN)
    weights = {name: torch.full(shape, 0.01) for name, shape in cell.parameters(3, 4).items()}
    began = time.process_time()
    assert scan(cell, torch.ones(1, 2, 3), weights, backend="plain").outputs.isfinite().all()
    assert all(render(cell, target) for target in TARGETS)
    assert time.process_time() - began < 20  # it takes 4 s, and took minutes where passes were quadratic
