"""What hurts: what kernels are given of the weights is no tensor, or another number."""

from __future__ import annotations

import pytest
import torch

from cello.cells.definition import Cell
from scans import case, errors, everything, wider
from sized_cells import Building


def with_numbers_apart() -> Cell:
    """An RNN that adds a number and takes another away, which come to stand side by side."""
    b = Building()
    x, h = b.x(), b.state("h")
    new = b("tanh", b.affine("h", ("W", "H,D", x), ("U", "H,H", h)))
    return b.cell("with-numbers-apart", {"h": b("sub", b("add", new, b.number(0.75)), b.number(0.5))}, "W U b")


@pytest.mark.parametrize("backend", ["c", "triton"])
def test_a_number_computed_of_numbers_is_given_as_a_tensor(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if backend == "triton":
        pytest.importorskip("triton")
        monkeypatch.setenv("TRITON_INTERPRET", "1")
    cell = with_numbers_apart()
    given = case(cell, (3, 4, 5, 6))
    expected = everything(cell, wider(given, torch.float64), "plain")
    assert max(errors(everything(cell, given, backend), expected).values()) < 1e-5
