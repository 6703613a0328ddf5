"""Kernels of Triton's interpreter beside plain evaluation in float64, for the tests of the back end for GPUs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cello.cells.definition import Cell
from cello.models.direction import CellLayer, within_bounds
from cello.models.initialise import begun
from scans import Case, everything


def case(cell: Cell, sizes: tuple[int, int, int, int]) -> Case:
    """Frames, first states and weights for B, T, D, H."""
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


def assert_within(found: dict[str, Tensor], expected: dict[str, Tensor], share: float) -> None:
    for key, error in errors(found, expected).items():
        assert error <= share, f"{key}: {error:.1e}"


def check(cell: Cell, sizes: tuple[int, int, int, int], share: float = 1e-5, **more: Any) -> None:
    given_case = case(cell, sizes)
    exact = {k: v.double() if isinstance(v, Tensor) else v for k, v in more.pop("masks", {}).items()}
    masks = {k: v.float() for k, v in exact.items()}
    expected = everything(cell, wider(given_case, torch.float64), "plain", masks=exact, **more)
    found = everything(cell, given_case, "triton", masks=masks, **more)
    if max(errors(found, expected).values()) > share:  # no more than torch's own operations round away, if that is more
        torch_error = max(errors(everything(cell, given_case, "plain", masks=masks, **more), expected).values())
        share = max(share, 2 * torch_error)
    assert_within(found, expected, share)
