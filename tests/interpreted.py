"""Kernels of Triton's interpreter beside plain evaluation in float64, for the tests of the back end for GPUs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cello.cells.definition import Cell
from scans import case, errors, everything, wider


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
