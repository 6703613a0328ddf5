"""What hurts: a rate that looks good since operations are counted that nobody does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from cello.bench.flops import flops
from cello.bench.settings import Size
from cello.cells.definition import Cell
from cello.cells.load import zoo
from cello.compiler.scan import scan

SIZE = Size(batch=3, frames=4, inputs=5, hidden=6)


@pytest.mark.parametrize("x_gradient", [False, True])
@pytest.mark.parametrize("cell", zoo().values(), ids=lambda cell: cell.name)
def test_they_are_those_that_torch_counts_in_plain_evaluation(cell: Cell, x_gradient: bool) -> None:
    def leaf(*shape: int) -> Tensor:
        return torch.full(shape, 0.1, requires_grad=True)

    state = tuple(leaf(SIZE.batch, SIZE.hidden) for _ in cell.states)  # so that the first step has its gradients too
    weights = {name: leaf(*shape) for name, shape in cell.parameters(SIZE.inputs, SIZE.hidden).items()}
    x = leaf(SIZE.batch, SIZE.frames, SIZE.inputs).requires_grad_(x_gradient)
    with FlopCounterMode(display=False) as counter:
        result = scan(cell, x, weights, state=state, backend="plain")
        sum(part.sum() for part in (result.outputs, *result.state)).backward()
    assert counter.get_total_flops() == flops(cell, SIZE, x_gradient=x_gradient)
