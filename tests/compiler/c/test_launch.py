"""What a call of a kernel costs beside the kernel, and what calls of the same sizes share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from cello.cells.load import load_cell
from cello.compiler.scan import scan
from cello.native.bf16 import missing_bf16
from scans import everything

pytestmark = pytest.mark.wants("cc")


def calls_of(run: Callable[[], object]) -> int:
    """How many functions are called, those written in C among them."""
    count = 0

    def seen(_: Any, event: str, __: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(seen)
    try:
        run()
    finally:
        sys.setprofile(None)
    return count


def test_a_call_of_a_kernel_takes_few_calls_of_python() -> None:
    """Of a step of a stream, and of a pass of a small cell, they were most of the time: 248 and 690 of them."""
    gru = load_cell("gru")
    weights = {name: torch.ones(shape).requires_grad_() for name, shape in gru.parameters(3, 4).items()}
    x = torch.ones(1, 1, 3)

    def step() -> None:
        with torch.no_grad():
            scan(gru, x, weights, backend="c")

    def both() -> None:
        torch.autograd.grad(scan(gru, x, weights, backend="c").outputs.sum(), [*weights.values()])

    for run, most in ((step, 180), (both, 430)):
        run()
        assert calls_of(run) <= most, run


def test_calls_of_the_same_sizes_share_nothing_that_differs() -> None:
    """Strides of the frames, direction, threads, lengths: each in turn with the others, twice."""
    gru, before = load_cell("gru"), torch.get_num_threads()
    draw = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(shape, generator=draw) for name, shape in gru.parameters(5, 5).items()}
    frames = torch.randn(40, 5, 5, generator=draw)
    views: list[Tensor] = [frames, frames.transpose(0, 1)[:, :5].repeat(8, 1, 1), frames[::2], frames[:, ::2]]
    views += [frames.transpose(1, 2), frames[:20].expand(20, 5, 5), frames[:1].expand(40, 5, 5)]

    def outputs(x: Tensor, backend: str, reverse: bool, ragged: bool) -> Tensor:
        lengths = torch.tensor([3] * len(x)) if ragged else None
        return scan(gru, x, weights, backend=backend, reverse=reverse, lengths=lengths).outputs

    calls = [(x, reverse, ragged) for x in views for reverse in (False, True) for ragged in (False, True)]
    expected = [outputs(x, "plain", reverse, ragged) for x, reverse, ragged in calls]
    try:
        for threads in (1, 2, 1):
            torch.set_num_threads(threads)
            for (x, reverse, ragged), plain in zip(calls, expected, strict=True):
                torch.testing.assert_close(outputs(x, "c", reverse, ragged), plain, rtol=1e-5, atol=1e-6)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["gru", "gru-original", "lstm-peephole-full", "lstm-layer-norm", "gru-heads"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize(("batch", "steps"), [(1, 1), (3, 1), (34, 3)])
@pytest.mark.usefixtures("compiled_quickly")
def test_derivatives_of_first_states_that_nobody_asks_for_change_no_other(
    name: str, precision: str, batch: int, steps: int
) -> None:
    """At one frame, nothing but they would be behind the products with U."""
    if precision == "bf16" and (reason := missing_bf16()) is not None:
        pytest.skip(f"AVX512-BF16, {reason}")
    cell, draw = load_cell(name), torch.Generator().manual_seed(0)
    shapes = cell.parameters(5, 20).items()
    weights = {key: (torch.randn(shape, generator=draw) / 4).requires_grad_() for key, shape in shapes}
    x = torch.randn(batch, steps, 5, generator=draw).requires_grad_()
    lengths = torch.arange(batch) % (steps + 1) if steps > 1 else None
    first = [torch.randn(batch, 20, generator=draw) for _ in cell.states]

    def found(asked: int) -> list[Tensor]:
        state = tuple(each.clone().requires_grad_(n < asked) for n, each in enumerate(first))
        result = scan(cell, x, weights, state=state, lengths=lengths, backend="c", precision=precision)
        loss = result.outputs.square().sum() + sum(part.square().sum() for part in result.state)
        return [*torch.autograd.grad(loss, [x, *weights.values(), *state[:asked]])]

    for asked in range(len(first)):
        for one, whole in zip(found(asked), found(len(first)), strict=False):
            assert torch.equal(one, whole)


@pytest.mark.parametrize("name", ["gru", "gru-original", "lstm-peephole-full", "lstm-layer-norm", "minlstm"])
@pytest.mark.parametrize("lengths", [None, [1], [0]], ids=str)
@pytest.mark.usefixtures("compiled_quickly")
def test_gradients_of_one_frame_of_one_clip(name: str, lengths: list[int] | None) -> None:
    """Those of matrices are products of one row, written at once; of a clip without frames they are 0."""
    cell, draw = load_cell(name), torch.Generator().manual_seed(0)

    def some(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_()

    weights = {key: some(*shape) for key, shape in cell.parameters(5, 19).items()}
    given = some(1, 1, 5), tuple(some(1, 19) for _ in cell.states), weights
    plain, found = (everything(cell, given, backend, lengths=lengths) for backend in ("plain", "c"))
    torch.testing.assert_close(found, plain, rtol=1e-10, atol=1e-12)
