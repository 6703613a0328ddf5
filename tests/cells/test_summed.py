"""Products with fixed matrices of one number are sums over units."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cello.cells.definition import Cell
from cello.cells.definition import cell as make_cell
from cello.cells.functions import tanh
from cello.cells.load import zoo
from cello.cells.signature import Fixed
from cello.cells.summed import summed
from cello.compiler.scan import scan


def one(fixed: Any) -> Cell:
    """A cell that multiplies by J and by its transpose."""

    def shares(x: Any, h: Any, W: Any, U: Any, J: Any) -> Any:
        v = U @ h
        mean = J @ v
        return tanh(W @ x + v - mean + J.T @ h)

    shares.__annotations__["J"] = fixed
    return make_cell(shares)


@pytest.mark.parametrize(
    ("fixed", "operations"),
    [
        (Fixed(lambda H: 1 / H), ["total", "size", "div"]),
        (Fixed(0.25), ["total", "constant", "mul"]),
        (Fixed(1.0), ["total"]),
        (Fixed(lambda D, H: 3 * D / (2 + H)), ["total", "constant", "mul", "size", "mul", "constant", "size"]),
    ],
    ids=["share", "quarter", "one", "of the sizes"],
)
@pytest.mark.wants("cc")
@pytest.mark.usefixtures("compiled_quickly")
def test_a_product_with_one_number_is_its_sum_times_the_number(fixed: Any, operations: list[str]) -> None:
    cell = one(fixed)
    short = summed(cell)
    nodes = short.graph.nodes
    begin = next(k for k, node in enumerate(nodes) if node.op == "total")
    assert [node.op for node in nodes[begin : begin + len(operations)]] == operations
    assert "J" in short.arguments  # whose transpose is used
    draw = torch.Generator().manual_seed(0)
    weights = {
        name: torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_()
        for name, shape in cell.parameters(3, 5).items()
    }
    x = torch.randn(2, 4, 3, generator=draw, dtype=torch.float64)
    found = [scan(each, x, weights, backend=back).outputs for each, back in ((cell, "plain"), (cell, "c"))]
    torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=1e-12)
    gradients = [torch.autograd.grad(outputs.square().sum(), [*weights.values()]) for outputs in found]
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-10, atol=1e-12)


def test_a_matrix_that_nothing_else_reads_is_gone() -> None:
    cell = zoo()["lstm-layer-norm"]
    short = summed(cell)
    assert "J" not in short.arguments
    assert not short.fixed()
    assert cell.parameters(3, 4) == short.parameters(3, 4)
    assert summed(short) is short


def test_other_cells_are_left_as_they_are() -> None:
    for name in ("lstm", "exprnn", "phased-lstm", "lif"):
        assert summed(zoo()[name]) is zoo()[name]


def test_the_cell_itself_keeps_its_fingerprint() -> None:
    cell = zoo()["gru-layer-norm"]
    before = cell.fingerprint()
    summed(cell)
    assert cell.fingerprint() == before
    assert "J" in cell.fixed()
