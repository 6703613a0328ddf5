"""Run scans with compiled C kernels, differentiated by their own backward pass."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import forward_ad

from cello.cells.definition import Cell
from cello.compiler.c.launch import (
    NO_SECOND_DERIVATIVES,
    TYPES,
    BatchLayout,
    Compiled,
    Saved,
    activity_of,
    by_rows,
    compiled,
    inputs_of,
    layout_of,
    run_backward,
    run_forward,
)
from cello.compiler.c.op import recorded, scan_op, traced
from cello.compiler.inputs import ORDINARY, Inputs, dispatched, freed
from cello.compiler.tracing import exporting_to_onnx
from cello.errors import BackendError
from cello.native.bf16 import INSTRUCTION, missing_bf16
from cello.native.build import missing_compiler

REQUIRES_GRAD = attrgetter("requires_grad")


def _has_tangent(value: Tensor) -> bool:
    return forward_ad.unpack_dual(value).tangent is not None  # type: ignore[no-untyped-call]


def unsupported(inputs: Inputs) -> str | None:
    """Why kernels cannot run this scan, if they cannot; what is said after 'backend="c"'."""
    x = inputs.frames
    if not x.is_cpu or x.dtype not in TYPES:
        return f"runs float32 and float64 on the CPU, not {x.dtype} on {x.device.type}; convert the tensors"
    if inputs.precision == "bf16":
        if x.dtype is not torch.float32:
            return f"takes products in bf16 of float32 tensors, not of {x.dtype}; convert the tensors"
        if (reason := missing_bf16()) is not None:
            return f"needs {INSTRUCTION} for products in bf16, {reason}; leave precision out"
    if torch._C._are_functorch_transforms_active():
        return "cannot run inside the transforms of torch.func (vmap, grad, jvp, ...)"
    if torch.compiler.is_compiling():
        return None  # types and memory are the recorder's own
    if exporting_to_onnx():
        return "is no ONNX operator"
    values = inputs.values()
    if not ORDINARY.issuperset(map(type, values)):
        for value in values:
            if type(value) not in ORDINARY and type(value) is not FakeTensor and dispatched(value):
                return f"cannot read the memory of a {type(value).__name__}"
    if forward_ad._current_level >= 0 and any(map(_has_tangent, values)):
        return "has no forward-mode derivatives (jvp)"
    return None


def unavailable(cell: Cell, dtype: torch.dtype) -> str | None:
    """Why there is no kernel of the cell on this machine, if there is none: no compiler, or one that fails."""
    if (reason := missing_compiler()) is not None:
        return reason
    try:
        compiled(cell, dtype)
    except BackendError as error:
        return str(error)
    return None


def run(inputs: Inputs) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Outputs (B, T, H) and last states (B, H), or of the cell's own sizes, by its kernel.

    Raises:
        BackendError: it cannot be compiled here.
    """
    values, cell = inputs.values(), inputs.cell
    known = not recorded(values, inputs.lengths)
    if known and (True in map(Tensor.is_neg, values) or 0 in map(Tensor.data_ptr, values)):
        if any(map(freed, values)):
            raise inputs.fault_in_memory()
        inputs = inputs.in_memory()
    x, hidden, lengths = inputs.frames, inputs.hidden, inputs.lengths
    given = inputs_of(cell, inputs.weights, inputs.masks, inputs.state, int(x.shape[2]), hidden, inputs.precision)
    if not known or not x.shape[0] or not x.shape[1]:
        outputs, *last, _, _ = scan_op(x, given, lengths, traced(cell, inputs.precision), hidden, inputs.reverse)
        return outputs, tuple(last)
    wanted = tuple(map(REQUIRES_GRAD, (x, *given)))
    keeping = torch.is_grad_enabled() and True in wanted
    layout = layout_of(x, lengths, hidden, inputs.reverse)
    active = activity_of(cell, wanted, inputs.precision) if keeping else None
    code, x = compiled(cell, x.dtype, inputs.precision, active), by_rows(x)
    if keeping:
        outputs, *last = ScanFunction.apply(code, layout, x, *given)  # type: ignore[no-untyped-call]
    else:
        outputs, last, _ = run_forward(code, layout, x, given, (0, 0))
    return outputs, tuple(last)


class ScanFunction(torch.autograd.Function):
    """All steps, forward and backward."""

    @staticmethod
    def forward(ctx: Any, code: Compiled, layout: BatchLayout, x: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        outputs, last, saved = run_forward(code, layout, x, given, None)
        ctx.call = code, layout
        ctx.save_for_backward(x, *given, saved.history, saved.kept)
        return outputs, *last

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise BackendError(NO_SECOND_DERIVATIVES)
        code, layout = ctx.call
        x, *given, history, kept = ctx.saved_tensors
        saved = Saved(history, kept)
        found = run_backward(code, layout, x, given, saved, upstream, ctx.needs_input_grad[2:])
        return None, None, *found
