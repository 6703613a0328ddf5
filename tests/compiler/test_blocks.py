# mypy: allow-untyped-defs, disable-error-code="valid-type"
"""What hurts: a block-diagonal product taken of wrong units, or made a product where its matrix is read otherwise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cello import Cell, Fixed, Heads, cell, sigmoid, tanh
from cello.cells.load import zoo
from cello.compiler.kernel import kernel
from cello.compiler.scan import scan
from cello.native.bf16 import missing_bf16
from scans import Case, everything


@cell
def two(x, h, W, U: Heads(2), b):
    """Products of heads join the frame's, one alone does not; one is of a value of the same step."""
    r = sigmoid(W.r @ x + U.r @ h + b.r)
    return tanh(W.n @ x + r * (U.n @ h) + b.n + U.m @ (r * h))


@cell
def three(x, h, W, U: Heads(3), V, b):
    """Matrices of heads beside a whole one; one is made of parameters."""
    return tanh(W @ x + (U.a * U.b) @ h + V @ h + U.c @ (h * h) + b)


@cell
def fixed(x, h, W, U: Heads(4), E: Fixed(1.0, size=Heads(4)), b):
    """A sum by head."""
    return tanh(W @ x + b + U @ h) / (1.0 + E @ (h * h))


@cell
def transposed(x, h, W, U: Heads(2)):
    return tanh(W @ x + U @ h + U.T @ (h * h))


@cell
def kept(x, h, W, U: Heads(2)):
    """The products are summed, and read one by one too."""
    v = U.a @ h
    return tanh(W @ x + v) * sigmoid(v + U.b @ v)


CELLS = (two, three, fixed, transposed, kept)


@pytest.mark.parametrize(("one", "count"), [*zip(CELLS, (3, 2, 2, 0, 2), strict=True)], ids=str)
def test_products_of_heads_are_products_where_nothing_else_reads_their_matrix(one: Cell, count: int) -> None:
    plan = kernel(one, blocks=True)
    assert len(plan.blocks) == count
    assert plan.blocks <= {*plan.matrices}
    assert plan.blocks.isdisjoint(plan.invariant)
    assert not kernel(one).blocks  # other back ends take them apart


def test_they_join_the_sum_that_they_are_added_to() -> None:
    plan = kernel(zoo()["gru-heads"], blocks=True)
    assert sorted(len(each.products) for each in plan.sums) == [1, 1, 2, 2]
    assert not any(node.op in ("row_sum", "columns") for node in plan.graph.nodes)


def case(one: Cell, batch: int, steps: int, hidden: int, dtype: torch.dtype = torch.float64) -> Case:
    draw = torch.Generator().manual_seed(batch + steps + hidden)

    def some(*shape: int) -> Tensor:
        return (torch.randn(shape, generator=draw, dtype=torch.float64) / 2).to(dtype).requires_grad_()

    weights = {name: some(*shape) for name, shape in one.parameters(5, hidden).items()}
    return some(batch, steps, 5), (some(batch, hidden),), weights


@pytest.mark.wants("cc")
@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("one", CELLS, ids=lambda one: one.name)
@pytest.mark.parametrize("hidden", [12, 24, 60, 144, 192])
def test_heads_of_any_width_are_those_of_plain_evaluation(one: Cell, hidden: int) -> None:
    """Heads that share vecs and panels, end within them, and fill them; all numbers of rows that are taken at once."""
    for batch, steps in ((15, 3), (1, 1), (3, 1), (40, 1), (2, 9), (34, 6)):
        given = case(one, batch, steps, hidden)
        more = {"lengths": torch.arange(batch) % (steps + 1)} if steps > 1 else {}
        plain, found = (everything(one, given, backend, **more) for backend in ("plain", "c"))
        for name, value in plain.items():
            torch.testing.assert_close(
                found[name], value, rtol=1e-9, atol=1e-10, msg=lambda text, at=name: f"{at}: {text}"
            )


@pytest.mark.wants("cc")
@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("hidden", [24, 128])
def test_a_clip_alone_and_among_others_agree_to_the_bit(hidden: int) -> None:
    x, (first,), weights = case(two, 33, 4, hidden, torch.float32)
    with torch.no_grad():
        whole = scan(two, x, weights, state=(first,), backend="c").outputs
        for clip in (0, 31, 32):
            alone = scan(two, x[clip : clip + 1], weights, state=(first[clip : clip + 1],), backend="c").outputs
            assert torch.equal(alone[0], whole[clip])
            at_once = scan(two, x[clip : clip + 1, :1], weights, state=(first[clip : clip + 1],), backend="c").outputs
            assert torch.equal(at_once[0, 0], whole[clip, 0])


@pytest.mark.wants("cc")
@pytest.mark.skipif(missing_bf16() is not None, reason="needs AVX512-BF16")
@pytest.mark.usefixtures("compiled_quickly")
def test_in_bfloat16_only_whole_matrices_are_rounded() -> None:
    """Products of heads stay in float32, and so what a kernel is given lies in another order."""
    given = case(two, 4, 3, 24, torch.float32)
    exact, rounded = (everything(two, given, "c", precision=precision) for precision in ("float32", "bf16"))
    for name, value in exact.items():
        assert (rounded[name] - value).norm() <= 2e-2 * value.norm(), name
