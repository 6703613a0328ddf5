"""Run scans with Triton kernels, differentiated by their own backward pass."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from cello.cells.definition import Cell
from cello.compiler.inputs import Inputs
from cello.compiler.operations import TORCH
from cello.compiler.triton.build import kernels, missing
from cello.compiler.triton.launch import Call, Clips, Given, run_backward, run_forward
from cello.compiler.triton.shapes import shape
from cello.compiler.triton.text import names_of
from cello.errors import BackendError

TYPES = (torch.float32, torch.bfloat16)
PRECISIONS = {"highest": "ieee", "high": "tf32", "medium": "bf16"}
"""What torch.set_float32_matmul_precision means for the products of float32 tensors."""


def unsupported(inputs: Inputs) -> str | None:
    """Why kernels cannot run this scan, if they cannot; what is said after 'backend="triton"'."""
    x = inputs.frames
    if x.dtype not in TYPES:
        return f"runs float32 and bfloat16, not {x.dtype}; convert the tensors"
    if not x.is_cuda and not (x.is_cpu and os.environ.get("TRITON_INTERPRET") == "1"):
        return (
            f"runs on a GPU, not on {x.device.type}; move the tensors with .to('cuda') "
            f"(on the CPU, only Triton's slow interpreter could: set TRITON_INTERPRET=1)"
        )
    if torch._C._are_functorch_transforms_active():
        return "cannot run inside the transforms of torch.func (vmap, grad, jvp, ...)"
    return None


def unavailable(cell: Cell, dtype: torch.dtype) -> str | None:
    """Why there is no kernel of the cell on this machine, if there is none."""
    return missing()


def precision(x: Tensor) -> str:
    """How products are computed, as :func:`rounded` in the kernels understands it."""
    wanted = "bf16" if x.dtype is torch.bfloat16 else PRECISIONS[torch.get_float32_matmul_precision()]
    return "bf16 checked" if wanted == "bf16" and x.is_cpu else wanted


def run(inputs: Inputs) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Outputs (B, T, H) and last states (B, H), by the cell's kernel."""
    x = inputs.frames
    if not x.shape[0] or not x.shape[1]:
        return x.new_zeros(*x.shape[:2], inputs.hidden), inputs.state
    outputs, last = ScanFunction.apply(*prepared(inputs))  # type: ignore[no-untyped-call]
    return outputs[0], tuple(last[0])


def prepared(inputs: Inputs) -> tuple[Any, ...]:
    """A call of the kernels and its tensors; what follows needs nothing from the CPU, so a CUDA graph can hold it."""
    names, x = names_of(inputs.cell), inputs.frames
    batch, steps, _ = x.shape
    clips, rows = _clips(inputs)
    how = precision(x)
    cut = shape(names, inputs.hidden, how)
    code = kernels(inputs.cell, interpreted=x.is_cpu)
    call = Call(names, code, clips, cut, how)
    frames = (x.reshape(batch * steps, -1) if rows is None else x.reshape(batch * steps, -1)[rows]).unsqueeze(0)
    wide, square, invariant = _stacked(inputs)
    masks = [inputs.masks[str(names.plan.graph.nodes[k].name)].unsqueeze(0) for k in names.plan.masks]
    first = torch.stack(inputs.state).unsqueeze(0)
    return call, frames, wide, square, invariant, first, *masks


def _clips(inputs: Inputs) -> tuple[Clips, Tensor | None]:
    """Where the clips stand, and which rows of the batch's frames are theirs; None: all of them."""
    x, lengths = inputs.frames, inputs.lengths
    batch, steps, _ = x.shape
    device, wide = x.device, torch.int64 if batch * steps >= 2**31 else torch.int32
    reverse = torch.full((1,), int(inputs.reverse), dtype=torch.int32, device=device)
    if lengths is None:
        place = torch.arange(batch, dtype=torch.int32, device=device)
        length = torch.full((1, batch), steps, dtype=torch.int32, device=device)
        start = torch.arange(0, batch * steps, steps, dtype=wide, device=device)
        return Clips(place.unsqueeze(0), length, start.unsqueeze(0), reverse, batch * steps, steps), None
    place = torch.argsort(lengths, descending=True, stable=True)
    inside = torch.arange(steps) < lengths.unsqueeze(1)
    rows = inside.flatten().nonzero().flatten()
    start = (lengths.cumsum(0) - lengths)[place]

    def there(value: Tensor, dtype: torch.dtype) -> Tensor:
        return value.to(dtype).unsqueeze(0).to(device)

    found = there(place, torch.int32), there(lengths[place], torch.int32), there(start, wide)
    return Clips(*found, reverse, len(rows), steps), rows.to(device)


def _stacked(inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    """Matrices of frames (1, N, H, D), square ones (1, M, H, H), what is the same at every step (1, I, H)."""
    cell, hidden, x = inputs.cell, inputs.hidden, inputs.frames
    names = names_of(cell)
    nodes, found = names.plan.graph.nodes, dict[int, Any]()

    def value(k: int) -> Any:
        if k not in found:
            node = nodes[k]
            if node.op == "parameter":
                found[k] = inputs.weights[str(node.name)]
            else:
                found[k] = node.value if node.op == "constant" else TORCH[node.op](*map(value, node.args))
        return found[k]

    def stack(values: list[Tensor], shape: tuple[int, ...]) -> Tensor:
        whole = torch.stack(values) if values else x.new_zeros(0, *shape)
        return whole.unsqueeze(0)

    return (
        stack([sum(map(value, names.frame_matrices(k))) for k in names.with_frame], (hidden, x.shape[2])),
        stack([value(m) for m in names.square], (hidden, hidden)),
        stack([value(k).expand(hidden) for k in names.plan.invariant], (hidden,)),
    )


class ScanFunction(torch.autograd.Function):
    """All steps, forward and backward."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        given = _given(tensors)
        keep = any(ctx.needs_input_grad)
        outputs, last, saved = run_forward(call, given, keep=keep)
        if keep:
            ctx.call = call
            ctx.save_for_backward(*tensors, last, saved)
        return outputs, last

    @staticmethod
    def backward(ctx: Any, d_outputs: Tensor | None, d_last: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise BackendError('backend="triton" has no second derivatives (create_graph=True); use backend="plain"')
        *tensors, last, saved = ctx.saved_tensors
        given = _given(tensors)
        d_last = torch.zeros_like(last) if d_last is None else d_last.contiguous()
        d_outputs = None if d_outputs is None else d_outputs.contiguous()
        upstream = d_outputs, d_last
        found = run_backward(ctx.call, given, last, saved, upstream, through_frames=ctx.needs_input_grad[1])
        return None, found.frames, found.wide, found.square, found.invariant, found.first, *[None] * len(given.masks)


def _given(tensors: tuple[Tensor, ...] | list[Tensor]) -> Given:
    frames, wide, square, invariant, first, *masks = tensors
    return Given(frames, wide, square, invariant, tuple(masks), first)
