"""Every operation has its row in every table, and the derivative's row is torch's derivative."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cello.cells.graph import POINTWISE, GraphBuilder, Node
from cello.compiler.c.expression import ROWS
from cello.compiler.gradient import GRADIENT, Term
from cello.compiler.operations import TORCH


def test_no_operation_lacks_a_row() -> None:
    assert set(GRADIENT) == set(POINTWISE) == set(ROWS)


@pytest.mark.parametrize("op", POINTWISE)
def test_a_row_is_torchs_derivative(op: str) -> None:
    count = POINTWISE[op]
    draw = torch.Generator().manual_seed(0)
    args = [torch.randn(50, generator=draw, dtype=torch.float64) for _ in range(count)]
    if op in ("log", "sqrt"):
        args = [value.abs() + 0.1 for value in args]
    for value in args:
        value[:2] = 0.5  # equal arguments
        if op in ("relu", "abs"):
            value[0] = 0.0
        value.requires_grad_()
    slope = torch.randn(50, generator=draw, dtype=torch.float64)
    y = TORCH[op](*args) + sum(0.0 * value for value in args)  # stop has no derivative of its own
    expected = torch.autograd.grad((y * slope).sum(), args, allow_unused=True)

    leaves = [Node("state", (), ("H",), name=str(n)) for n in range(count + 2)]
    builder = GraphBuilder(leaves)
    rows = GRADIENT[op](*(Term(builder, n) for n in range(count + 2)))
    values: dict[int, Tensor | float] = dict(enumerate([slope, y.detach(), *(value.detach() for value in args)]))
    for k, node in enumerate(builder.nodes):
        if k not in values:
            values[k] = (
                float(node.value or 0) if node.op == "constant" else TORCH[node.op](*(values[a] for a in node.args))
            )
    for row, gradient in zip(rows, expected, strict=True):
        found = torch.zeros(50, dtype=torch.float64) if row is None else values[row.at]
        torch.testing.assert_close(found, torch.zeros_like(slope) if gradient is None else gradient)
