"""What hurts: a rate that looks good since operations are counted that nobody does."""

from __future__ import annotations

from math import prod

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from cello.bench.flops import flops
from cello.bench.settings import Size
from cello.cells.definition import Cell
from cello.cells.load import zoo
from cello.cells.sizes import size
from cello.cells.summed import summed
from cello.compiler.operations import TORCH
from cello.compiler.scan import scan
from sized_cells import SIZED

SIZE = Size(batch=3, frames=4, inputs=5, hidden=8)


@pytest.mark.parametrize("x_gradient", [False, True])
@pytest.mark.parametrize("cell", [*zoo().values(), SIZED["multiplied"]], ids=lambda cell: cell.name)
def test_they_are_those_that_torch_counts_in_plain_evaluation(
    cell: Cell, x_gradient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TORCH, "expm", torch.matrix_exp)  # whose products are those of weights, and no step's

    def leaf(*shape: int) -> Tensor:
        return torch.full(shape, 0.1, requires_grad=True)

    cell = summed(cell)  # as kernels compute it: plain evaluation multiplies by the matrix of one number
    sizes = cell.state_sizes(SIZE.inputs, SIZE.hidden)
    state = tuple(leaf(SIZE.batch, *own) for own in sizes)  # so that the first step has its gradients too
    weights = {name: leaf(*shape) for name, shape in cell.parameters(SIZE.inputs, SIZE.hidden).items()}
    x = leaf(SIZE.batch, SIZE.frames, SIZE.inputs).requires_grad_(x_gradient)
    with FlopCounterMode(display=False) as counter:
        result = scan(cell, x, weights, state=state, backend="plain")
        sum(part.sum() for part in (result.outputs, *result.state)).backward()
    sums = [node.args[0] for node in cell.graph.nodes if node.op in ("row_sum", "column_sum")]  # torch counts no sums
    heads = sum(prod(size(each, SIZE.inputs, SIZE.hidden) for each in cell.graph.nodes[k].shape) for k in sums)
    apart = 2 * 3 * SIZE.batch * SIZE.frames * heads
    if any(cell.graph.nodes[output].op == "input" for output in cell.graph.outputs) and not x_gradient:
        return  # what is kept of the frames has a gradient in the first steps alone, and torch counts only these
    assert counter.get_total_flops() + apart == flops(cell, SIZE, x_gradient=x_gradient)


def test_a_norm_over_units_multiplies_nothing() -> None:
    lstm, norm = (flops(zoo()[name], SIZE, x_gradient=False) for name in ("lstm", "lstm-layer-norm"))
    assert norm == lstm
