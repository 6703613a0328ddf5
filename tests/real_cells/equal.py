"""Compare a cell with its eager loop: outputs, last states and all gradients, in float64, of ragged clips."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from cello.compiler.scan import scan
from real_cells.real import RealCell, States, as_parameters, loop, weights

D, H, LENGTHS = 6, 16, (7, 0, 4, 7, 1)
EQUAL = 2e-12
"""Largest difference, as a part of the largest element."""


def frames() -> Tensor:
    """Five clips of up to seven frames, one of none."""
    draw = torch.Generator().manual_seed(1)
    return torch.randn(len(LENGTHS), max(LENGTHS), D, generator=draw, dtype=torch.float64).requires_grad_()


def everything(outputs: Tensor, states: States, leaves: Sequence[Tensor]) -> list[Tensor]:
    """Outputs, last states and the gradients of a loss that sees all of them."""
    slope = torch.linspace(-1, 2, outputs.numel(), dtype=outputs.dtype).view_as(outputs)
    loss = (outputs * slope).sum()
    for state in states:
        loss = loss + (torch.where(state.isfinite(), state, 0.0) ** 2).sum()
    grads = torch.autograd.grad(loss, leaves, allow_unused=True)
    own = [torch.zeros_like(leaf) if grad is None else grad for leaf, grad in zip(leaves, grads, strict=True)]
    return [outputs.detach(), *(state.detach() for state in states), *own]


@cache
def of_the_loop(one: RealCell) -> dict[str, Tensor]:
    """Everything of the eager loop, by name; gradients are called as their weight."""
    x, w = frames(), weights(one, D, H, torch.float64, gain=one.gain)
    outputs, states = loop(one, x, w, H, LENGTHS)
    names = [f"last {k}" for k in range(len(states))]
    return dict(zip(["outputs", *names, "x", *w], everything(outputs, states, [x, *w.values()]), strict=True))


def differences(one: RealCell, backend: str) -> dict[str, float]:
    """The largest difference of everything from the loop's, relative to the largest element."""
    assert one.cell is not None
    x, w = frames(), weights(one, D, H, torch.float64, gain=one.gain)
    result = scan(one.cell, x, as_parameters(one, w, D, H), lengths=list(LENGTHS), backend=backend)
    found = everything(result.outputs, result.state, [x, *w.values()])
    return {
        name: difference(ours, theirs) for ours, (name, theirs) in zip(found, of_the_loop(one).items(), strict=True)
    }


def difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference relative to the largest element; infinite where one is not finite and the other is."""
    found = found.reshape(expected.shape) if found.numel() == expected.numel() else found  # of a matrix a head
    finite = expected.isfinite()
    if found.shape != expected.shape or not torch.equal(found[~finite], expected[~finite]):
        return float("inf")
    found, expected = found[finite], expected[finite]
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-3)) if len(found) else 0.0
