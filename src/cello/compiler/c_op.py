"""The C kernels as an operation of torch's own, so that torch.compile and torch.export take a scan as one node.

Outside of them the autograd function of ``c_scan`` is called directly, which costs less for each call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cello.cells.definition import Cell
from cello.compiler.c_scan import Compiled, Remembered, Run, by_length, compiled, run_backward, run_forward
from cello.errors import BackendError

CELLS: dict[str, Cell] = {}
"""The cells that have been traced in this process, by the keys that stand in graphs."""


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def traced(cell: Cell) -> str:
    """The key under which a graph names a cell."""
    key = f"{cell.name}:{cell.graph.fingerprint()}"
    CELLS.setdefault(key, cell)
    return key


def _code(key: str, x: Tensor) -> Compiled:
    if key not in CELLS:
        raise BackendError(
            f"the graph runs the cell {key!r}, which this process has not seen; "
            f"import the cell and call scan with it once before running the graph"
        )
    return compiled(CELLS[key], x.dtype)


@torch.library.custom_op("cello::scan", mutates_args=())
def scan_op(
    x: Tensor, given: Sequence[Tensor], lengths: Tensor | None, cell: str, hidden: int, reverse: bool
) -> list[Tensor]:
    """Outputs, last states, history and kept of a cell over frames (B, T, D)."""
    batch, steps, _ = x.shape
    if lengths is not None and not (int(lengths.min()) >= 0 and int(lengths.max()) <= steps):
        raise BackendError(f"lengths go from {int(lengths.min())} to {int(lengths.max())}, but T={steps}")
    code, x = _code(cell, x), x.contiguous()
    run = Run(*by_length(x, lengths), hidden, reverse)
    whole = [value.contiguous() for value in given]
    outputs, last, remembered = run_forward(code, run, x, whole, code.most_room(batch, steps, hidden))
    return [outputs, *last, remembered.history, remembered.kept]


@scan_op.register_fake
def _(
    x: Tensor, given: Sequence[Tensor], lengths: Tensor | None, cell: str, hidden: int, reverse: bool
) -> list[Tensor]:
    code = _code(cell, x)
    batch, steps, _ = x.shape
    history, kept = code.most_room(batch, steps, hidden)
    last = [x.new_empty(batch, hidden) for _ in code.plan.graph.states]
    return [x.new_empty(batch, steps, hidden), *last, x.new_empty(history), x.new_empty(kept)]


@torch.library.custom_op("cello::scan_backward", mutates_args=())
def backward_op(
    x: Tensor, given: Sequence[Tensor], lengths: Tensor | None, slopes: Sequence[Tensor], kept: Sequence[Tensor],
    cell: str, reverse: bool,
) -> list[Tensor]:  # fmt: skip
    """The derivatives of x and of all that is given; of masks, zeros."""
    code, x = _code(cell, x), x.contiguous()
    run = Run(*by_length(x, lengths), slopes[0].shape[2], reverse)
    whole = [value.contiguous() for value in given]
    found = run_backward(code, run, x, whole, Remembered(*kept), slopes, through_x=True)
    return [torch.zeros_like(like) if one is None else one for one, like in zip(found, (x, *given), strict=True)]


@backward_op.register_fake
def _(
    x: Tensor, given: Sequence[Tensor], lengths: Tensor | None, slopes: Sequence[Tensor], kept: Sequence[Tensor],
    cell: str, reverse: bool,
) -> list[Tensor]:  # fmt: skip
    return [value.new_empty(value.shape) for value in (x, *given)]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x, given, lengths, cell, _, reverse = inputs
    ctx.call = cell, reverse, len(given), lengths is not None
    ctx.save_for_backward(x, *given, *([] if lengths is None else [lengths]), *output[-2:])


def _backward(ctx: Any, slopes: list[Tensor]) -> tuple[Any, ...]:
    cell, reverse, count, ragged = ctx.call
    x, *rest = ctx.saved_tensors
    lengths = rest[count] if ragged else None
    found = backward_op(x, rest[:count], lengths, slopes[:-2], rest[-2:], cell, reverse)
    return found[0], found[1:], None, None, None, None


scan_op.register_autograd(_backward, setup_context=_setup)
