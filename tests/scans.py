"""What a scan gives by a back end: outputs, last states and all gradients, for the tests of every back end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from cello.cells.definition import Cell
from cello.compiler.scan import scan
from cello.models.direction import CellLayer, within_bounds
from cello.models.initialise import begun

Case = tuple[Tensor, tuple[Tensor, ...], dict[str, Tensor]]
"""Frames, first states and weights."""


def case(cell: Cell, sizes: tuple[int, int, int, int]) -> Case:
    """Frames, first states and weights of float32 for B, T, D, H."""
    batch, steps, inputs, hidden = sizes
    draw = torch.Generator().manual_seed(0)

    def leaf(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(shape, generator=draw) * scale).requires_grad_()

    sizes_of_states = cell.state_sizes(inputs, hidden)
    state = tuple((leaf(batch, *each).detach().abs() + 0.1).requires_grad_() for each in sizes_of_states)
    shapes = cell.parameters(inputs, hidden).items()
    weights = {name: leaf(*shape, scale=0.7 / hidden**0.5) for name, shape in shapes}
    if cell.declared:  # what it says of its first values keeps it from growing without end
        layer = CellLayer(cell, inputs, hidden)
        with torch.no_grad():
            for attribute, weight in layer.named_parameters():
                if not begun(layer, attribute, weight, draw):
                    weight.uniform_(-(hidden**-0.5), hidden**-0.5, generator=draw)
        known = {name: getattr(layer, attribute) for attribute, name in layer.equation_names.items()}
        known |= {name: within_bounds(one, known[name]) for name, one in layer.bounded.items()}
        weights = {name: value.detach().clone().requires_grad_() for name, value in known.items() if name in weights}
    return leaf(batch, steps, inputs), state, weights


def wider(given_case: Case, dtype: torch.dtype) -> Case:
    """The same in another precision."""
    x, state, weights = given_case

    def to(value: Tensor) -> Tensor:
        return value.detach().to(dtype).requires_grad_()

    return to(x), tuple(map(to, state)), {name: to(value) for name, value in weights.items()}


def errors(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """The largest error of each tensor, as a share of its largest value."""
    return {
        key: float(
            (found[key].detach().double() - value.detach()).abs().max() / value.detach().abs().max().clamp_min(1e-3)
        )
        for key, value in expected.items()
        if value.numel()
    }


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


def covering(cells: Iterable[Cell], *, longest: bool) -> frozenset[str]:
    """The names of those that together have every operation: long graphs with every number of states, or short ones.

    A test of all cells compiles these as users do, and the others with ``compiled_quickly``.
    """
    names, known = set(), set[str | int]()
    for cell in sorted(cells, key=lambda cell: len(cell.graph.nodes), reverse=longest):
        own = {*(node.op for node in cell.graph.nodes), *([len(cell.states)] if longest else [])}
        if not own <= known:
            names.add(cell.name)
            known |= own
    return frozenset(names)


def kinds(cells: Iterable[Cell]) -> list[Cell]:
    """Of cells with the same operations and as many states, the one with the longest graph."""
    found: dict[tuple[frozenset[str], int], Cell] = {}
    for cell in sorted(cells, key=lambda cell: len(cell.graph.nodes)):
        found[frozenset(node.op for node in cell.graph.nodes), len(cell.states)] = cell
    return [*found.values()]
