"""Cells of papers and repositories are what their sources say: eager loops, written from them, in float64.

What hurts: an output, a last state or a gradient, of ragged clips too, that differs from the loop's.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cello.cells.load import zoo
from cello.compiler.scan import scan
from cello.native import build
from real_cells.real import RealCell, States, as_parameters, loop, weights
from real_cells.table import REAL_CELLS, WAITING, WRITTEN

D, H, LENGTHS = 6, 16, [7, 0, 4, 7, 1]
EQUAL = 2e-12
"""Largest difference, as a part of the largest element."""


def frames() -> Tensor:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(len(LENGTHS), max(LENGTHS), D, generator=draw, dtype=torch.float64).requires_grad_()


def everything(outputs: Tensor, states: States, leaves: list[Tensor]) -> list[Tensor]:
    """Outputs, last states and the gradients of a loss that sees all of them."""
    slope = torch.linspace(-1, 2, outputs.numel(), dtype=outputs.dtype).view_as(outputs)
    loss = (outputs * slope).sum()
    for state in states:
        loss = loss + (torch.where(state.isfinite(), state, 0.0) ** 2).sum()
    grads = torch.autograd.grad(loss, leaves, allow_unused=True)
    own = [torch.zeros_like(leaf) if grad is None else grad for leaf, grad in zip(leaves, grads, strict=True)]
    return [outputs, *states, *own]


def difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference relative to the largest element."""
    assert found.shape == expected.shape
    finite = expected.isfinite()
    assert torch.equal(found[~finite], expected[~finite])
    found, expected = found[finite].detach(), expected[finite].detach()
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-3)) if len(found) else 0.0


COMPILED = tuple(one for one in WRITTEN if one.cell not in zoo().values())
"""In C those that are not of the zoo, for whose cells other tests compare C with plain evaluation."""


@pytest.mark.parametrize("one", WRITTEN, ids=lambda one: one.name)
def test_outputs_states_and_all_gradients_are_those_of_the_eager_loop(one: RealCell) -> None:
    check(one, "plain")


@pytest.mark.wants("cc")
@pytest.mark.parametrize("one", COMPILED, ids=lambda one: one.name)
def test_they_are_in_c(one: RealCell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "FLAGS", ("-O0", *build.FLAGS[1:]))  # in a third of the time
    check(one, "c")


def check(one: RealCell, backend: str) -> None:
    assert one.cell is not None
    x, w = frames(), weights(one, D, H, torch.float64, gain=one.gain)
    leaves, names = [x, *w.values()], [*one.cell.states, "x", *w]
    expected = everything(*loop(one, x, w, H, LENGTHS), leaves)
    result = scan(one.cell, x, as_parameters(one, w, D, H), lengths=LENGTHS, backend=backend)
    found = everything(result.outputs, result.state, leaves)
    assert all(bool(value.any()) for value in expected[-len(leaves) :])
    for name, ours, theirs in zip(["outputs", *names], found, expected, strict=True):
        assert difference(ours, theirs) <= EQUAL, (name, difference(ours, theirs))


@pytest.mark.parametrize("one", WAITING, ids=lambda one: one.name)
def test_loops_of_cells_that_the_language_cannot_hold_yet_learn_all_their_weights(one: RealCell) -> None:
    x, w = frames(), weights(one, D, H, torch.float64)
    outputs, states = loop(one, x, w, H, LENGTHS)
    leaves = [x, *w.values()]
    for value in everything(outputs, states, leaves)[-len(leaves) :]:
        assert math.isfinite(float(value.abs().sum()))
        assert value.any()


def test_names_and_sources_are_there_once() -> None:
    names = [one.name for one in REAL_CELLS]
    assert len({*names}) == len(names)
    assert all(one.source for one in REAL_CELLS)
    assert all(one.waiting for one in WAITING)
