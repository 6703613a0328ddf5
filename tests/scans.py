"""What a scan gives by a back end: outputs, last states and all gradients, for the tests of every back end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from cello.cells.definition import Cell
from cello.compiler.scan import scan

Case = tuple[Tensor, tuple[Tensor, ...], dict[str, Tensor]]
"""Frames, first states and weights."""


def everything(cell: Cell, given_case: Case, backend: str, **more: Any) -> dict[str, Tensor]:
    """Outputs, last states and all gradients, by name."""
    x, state, weights = given_case
    result = scan(cell, x, weights, state=state, backend=backend, **more)
    assert result.backend == backend
    found = {"outputs": result.outputs, **{f"last {n}": part for n, part in enumerate(result.state)}}
    leaves = {"x": x, **{f"first {n}": part for n, part in enumerate(state)}, **weights}
    slope = torch.linspace(-1, 2, result.outputs.numel(), dtype=torch.float64).to(x.dtype).view_as(result.outputs)
    loss = (result.outputs * slope).sum() + sum((part**2).sum() for part in result.state)
    grads = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    for (name, value), grad in zip(leaves.items(), grads, strict=True):
        found[f"d {name}"] = torch.zeros_like(value) if grad is None else grad
    return found


def covering(cells: Iterable[Cell]) -> frozenset[str]:
    """The names of those that together have every operation and number of states, the longest graphs first.

    A test of all cells compiles these as users do, and the others with ``compiled_quickly``.
    """
    names, known = set(), set[str | int]()
    for cell in sorted(cells, key=lambda cell: len(cell.graph.nodes), reverse=True):
        own = {*(node.op for node in cell.graph.nodes), len(cell.states)}
        if not own <= known:
            names.add(cell.name)
            known |= own
    return frozenset(names)
