"""Values of several sizes: every back end that runs such cells gives what the equations mean."""

from __future__ import annotations

import pytest
import torch

from cello.cells.definition import Cell
from cello.compiler.backends import TABLE, Backend
from cello.compiler.reference import reference
from scans import Case, everything
from sized_cells import SIZED


def sized_case(cell: Cell, dtype: torch.dtype = torch.float64, inputs: int = 7, hidden: int = 6) -> Case:
    """Frames, first states and weights, four clips of five frames."""
    torch.manual_seed(0)
    x = torch.randn(4, 5, inputs, dtype=dtype).requires_grad_()
    shapes = cell.parameters(inputs, hidden)
    weights = {name: (torch.randn(shape, dtype=dtype) / 2).requires_grad_() for name, shape in shapes.items()}
    states = [torch.randn(4, *sizes, dtype=dtype) / 2 for sizes in cell.state_sizes(inputs, hidden)]
    return x, tuple(state.requires_grad_() for state in states), weights


@pytest.mark.parametrize("name", SIZED)
@pytest.mark.parametrize("reverse", [False, True])
def test_plain_evaluation_of_several_sizes_is_the_reference(
    name: str, reverse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TABLE, "reference", Backend("reference", reference))
    case = sized_case(SIZED[name])
    more = {"lengths": [5, 0, 3, 1], "reverse": reverse}
    expected = everything(SIZED[name], case, "reference", **more)
    for what, value in everything(SIZED[name], case, "plain", **more).items():
        torch.testing.assert_close(value, expected[what], rtol=1e-12, atol=1e-12, msg=f"{name}: {what}")
