"""Register the kernels as a torch operation, for torch.compile and torch.export.

A scan is then one node of the graph; so it is for everything else that records a program or computes without data
(torch.jit.trace, make_fx, fake tensors). Elsewhere :mod:`cello.compiler.c.scan` calls its autograd function directly,
which costs less for each call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from cello.cells.definition import Cell
from cello.cells.fit import check_sizes
from cello.compiler.c.launch import (
    NO_SECOND_DERIVATIVES,
    BatchLayout,
    Compiled,
    Saved,
    compiled,
    layout_of,
    run_backward,
    run_forward,
    sizes,
    state_sizes,
)
from cello.compiler.inputs import frames_of_clips, hidden_memory
from cello.compiler.tracing import constant_result
from cello.errors import BackendError

CELLS: dict[str, tuple[Cell, str]] = {}
"""The cells that have been traced in this process, with the precision of their products, by the keys that stand in
graphs.
"""


@constant_result
def traced(cell: Cell, precision: str = "float32") -> str:
    """The key under which a graph names a cell with products of this precision."""
    key = f"{cell.name}:{cell.graph.fingerprint()}" + ("" if precision == "float32" else f":{precision}")
    CELLS.setdefault(key, (cell, precision))
    return key


def recorded(values: Sequence[Tensor], lengths: Tensor | None) -> bool:
    """Whether the scan has to be one operation: a program is being recorded, or tensors have no numbers."""
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return True
    if torch._C._len_torch_dispatch_stack():
        return True
    return FakeTensor in map(type, values) or type(lengths) is FakeTensor


def _code(key: str, x: Tensor) -> Compiled:
    if key not in CELLS:
        raise BackendError(
            f"the graph runs the cell {key!r}, which this process has not seen; "
            f"import the cell and call scan with it once before running the graph"
        )
    cell, precision = CELLS[key]
    return compiled(cell, x.dtype, precision)


def _prepared(
    key: str, x: Tensor, given: Sequence[Tensor], lengths: Tensor | None, hidden: int, reverse: bool
) -> tuple[Compiled, BatchLayout, Tensor, list[Tensor]]:
    """The kernel and what it takes; a program may be given other tensors than those it was recorded with."""
    code = _code(key, x)
    batch, steps, inputs = x.shape
    plan = code.plan
    shapes = [sizes(plan, k, inputs, hidden) for k in (*plan.matrices, *plan.invariant)]
    shapes += [(batch, steps, *sizes(plan, k, inputs, hidden)) for k in plan.masks]
    shapes += [(batch, *each) for each in state_sizes(plan, inputs, hidden)]
    if [tuple(value.shape) for value in given] != shapes:
        found = ", ".join(str(tuple(value.shape)) for value in given)
        raise BackendError(f"the graph gives cell {key!r} tensors of shapes {found}; it needs {shapes}")
    if alien := [value for value in (x, *given) if not value.is_cpu or value.dtype is not x.dtype]:
        raise BackendError(
            f"the graph gives cell {key!r} {alien[0].dtype} on {alien[0].device}; it needs {x.dtype} on the CPU"
        )
    check_sizes(CELLS[key][0], inputs, hidden)
    if lengths is not None:
        lengths = frames_of_clips(lengths, x)
    layout = layout_of(x, lengths, hidden, reverse)
    return code, layout, _in_order(x), [_in_order(value) for value in given]


def _in_order(value: Tensor) -> Tensor:
    """The elements side by side in memory, none of them negated only when read."""
    value = value.contiguous()
    return value.clone() if hidden_memory(value) else value


@torch.library.custom_op("cello::scan", mutates_args=())
def scan_op(
    x: Tensor, given: Sequence[Tensor], lengths: Tensor | None, cell: str, hidden: int, reverse: bool
) -> list[Tensor]:
    """Outputs, last states, history and kept of a cell over frames (B, T, D)."""
    code, layout, x, whole = _prepared(cell, x, given, lengths, hidden, reverse)
    batch, steps, inputs = x.shape
    saves = code.largest_saved(batch, steps, inputs, hidden)
    if not batch or not steps:
        last = [value.clone() for value in whole[len(whole) - len(code.plan.graph.states) :]]
        return [x.new_zeros(batch, steps, *last[0].shape[1:]), *last, *map(x.new_zeros, saves)]
    outputs, last, saved = run_forward(code, layout, x, whole, saves)
    return [outputs, *last, saved.history, saved.kept]


@scan_op.register_fake
def _(
    x: Tensor, given: Sequence[Tensor], lengths: Tensor | None, cell: str, hidden: int, reverse: bool
) -> list[Tensor]:
    code = _code(cell, x)
    batch, steps, inputs = x.shape
    history, kept = code.largest_saved(batch, steps, inputs, hidden)
    states = state_sizes(code.plan, inputs, hidden)
    last = [x.new_empty(batch, *each) for each in states]
    return [x.new_empty(batch, steps, *states[0]), *last, x.new_empty(history), x.new_empty(kept)]


@torch.library.custom_op("cello::scan_backward", mutates_args=())
def backward_op(
    x: Tensor, given: Sequence[Tensor], lengths: Tensor | None, upstream: Sequence[Tensor], kept: Sequence[Tensor],
    cell: str, hidden: int, reverse: bool,
) -> list[Tensor]:  # fmt: skip
    """The derivatives of x and of all that is given; of masks, zeros."""
    code, layout, x, whole = _prepared(cell, x, given, lengths, hidden, reverse)
    if not x.shape[0] or not x.shape[1]:
        last = [gradient.clone(memory_format=torch.contiguous_format) for gradient in upstream[1:]]
        return [torch.zeros_like(value) for value in (x, *whole[: len(whole) - len(last)])] + last
    found = run_backward(code, layout, x, whole, Saved(*kept), upstream, [True] * (1 + len(whole)))
    return [torch.zeros_like(like) if one is None else one for one, like in zip(found, (x, *given), strict=True)]


@backward_op.register_fake
def _(
    x: Tensor, given: Sequence[Tensor], lengths: Tensor | None, upstream: Sequence[Tensor], kept: Sequence[Tensor],
    cell: str, hidden: int, reverse: bool,
) -> list[Tensor]:  # fmt: skip
    return [value.new_empty(value.shape) for value in (x, *given)]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x, given, lengths, cell, hidden, reverse = inputs
    ctx.call = cell, hidden, reverse, len(given), lengths is not None
    ctx.save_for_backward(x, *given, *([] if lengths is None else [lengths]), *output[-2:])


def _backward(ctx: Any, upstream: list[Tensor]) -> tuple[Any, ...]:
    if torch.is_grad_enabled() and not recorded(ctx.saved_tensors, None):
        raise BackendError(NO_SECOND_DERIVATIVES)
    cell, hidden, reverse, count, ragged = ctx.call
    x, *rest = ctx.saved_tensors
    lengths = rest[count] if ragged else None
    found = backward_op(x, rest[:count], lengths, upstream[:-2], rest[-2:], cell, hidden, reverse)
    return found[0], found[1:], None, None, None, None


scan_op.register_autograd(_backward, setup_context=_setup)
