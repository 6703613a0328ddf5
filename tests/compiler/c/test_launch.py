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
    try:
        for threads in (1, 2, 1):
            torch.set_num_threads(threads)
            for x in views:
                for reverse in (False, True):
                    for lengths in (None, [3] * len(x)):
                        given: dict[str, Any] = {"reverse": reverse, "lengths": lengths and torch.tensor(lengths)}
                        c, plain = (scan(gru, x, weights, backend=each, **given) for each in ("c", "plain"))
                        torch.testing.assert_close(c.outputs, plain.outputs, rtol=1e-5, atol=1e-6)
    finally:
        torch.set_num_threads(before)
