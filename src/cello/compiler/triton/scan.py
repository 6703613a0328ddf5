"""Run scans with Triton kernels, differentiated by their own backward pass."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from itertools import starmap
from math import prod
from operator import add
from typing import Any

import torch
from torch import Tensor

from cello.cells.definition import Cell
from cello.compiler.inputs import ORDINARY, Inputs, dispatched, freed, unknown_values
from cello.compiler.loop_invariant import loop_invariant, recipe
from cello.compiler.tracing import exporting_to_onnx
from cello.compiler.triton.build import Kernels, kernels, missing
from cello.compiler.triton.choice import MOST_PROGRAMS
from cello.compiler.triton.cooperative import Multiprocessor
from cello.compiler.triton.launch import BatchLayout, Call, Tiling, run_backward, run_forward
from cello.compiler.triton.names import Names
from cello.compiler.triton.proof import Asked, Pair, Way, programs_at_once
from cello.compiler.triton.proved import Here, kind_of, right, taken
from cello.compiler.triton.rounds import Gpu, of_batch
from cello.compiler.triton.spaces import Sizes
from cello.compiler.triton.stacked import StackedInputs, less_their_mean
from cello.compiler.triton.text import computed, is_exact, laid_out, names_of
from cello.compiler.triton.tiling import MEMORY, tiling
from cello.errors import BackendError

TYPES = (torch.float32, torch.bfloat16)
PRECISIONS = {"highest": "ieee", "high": "tf32", "medium": "bf16"}
"""What torch.set_float32_matmul_precision means for the products of float32 tensors."""
OLDEST = (7, 5)
"""The compute capability from which on there are kernels, before the next of IEEE float32 alone."""
OF_TENSOR_CORES = (8, 0)
"""That from which on tensor cores know bfloat16 and tf32."""


def unsupported(inputs: Inputs) -> str | None:
    """Why kernels cannot run this scan, if they cannot; what is said after 'backend="triton"'."""
    x = inputs.frames
    if x.dtype not in TYPES:
        return f"runs float32 and bfloat16, not {x.dtype}; convert the tensors"
    if not x.is_cuda and not (x.is_cpu and interpreting()):
        return (
            f"runs on a GPU, not on {x.device.type}; move the tensors with .to('cuda') "
            f"(on the CPU only Triton's slow interpreter could: set TRITON_INTERPRET=1)"
        )
    if x.is_cuda and (reason := _too_old(x)) is not None:
        return reason
    if torch.compiler.is_compiling():
        return "cannot be recorded by torch.compile or torch.export"
    if exporting_to_onnx():
        return "is no ONNX operator"
    if torch._C._are_functorch_transforms_active() and not _only_vmap():
        return "runs inside torch.vmap, but not inside the other transforms of torch.func (grad, jvp, ...)"
    for value in inputs.values():
        if type(value) not in ORDINARY and dispatched(value):
            return f"cannot read the memory of a {type(value).__name__}"
    return _no_tiling(inputs) or _none_right(inputs)


def _too_old(x: Tensor) -> str | None:
    """Why the GPU of the frames has no kernels of their type, if so."""
    found, of_bf16 = torch.cuda.get_device_capability(x.device), x.dtype is torch.bfloat16
    least = OF_TENSOR_CORES if of_bf16 else OLDEST
    if found >= least:
        return None
    needs = f"needs compute capability {least[0]}.{least[1]}{' for bfloat16' if of_bf16 else ''}"
    convert = ", or convert them to float32" if of_bf16 and found >= OLDEST else ""
    name = torch.cuda.get_device_name(x.device)
    return f"{needs}; {name} has {found[0]}.{found[1]}; move the tensors to a newer GPU{convert}"


def _no_tiling(inputs: Inputs) -> str | None:
    """Why no program has room for the cell's step, or cannot take it, if so."""
    names, sizes = names_of(inputs.cell), sizes_of(inputs)
    what = f"has no kernel of cell {inputs.cell.name!r}"
    found = tiling_of(inputs)
    if found is None and names.matrices:
        most = max(names.matrices, key=sizes.of)
        rows, columns = sizes.sizes(most)
        if most in names.heads:
            return f"{what} for heads of {columns} units, whose matrices do not fit; take more heads or fewer units"
        return f"{what} for H={rows} units with {columns} elements each; take fewer of either"
    if found is None:
        return f"{what} for H={sizes.hidden} units; take fewer units"
    if found.split > (at_once := _at_once(inputs.frames)):
        return (
            f"{what} for H={sizes.hidden} units on this GPU: {found.split} programs would wait for each other, and it "
            f"runs {at_once} at once; take fewer units"
        )
    return None


def _none_right(inputs: Inputs) -> str | None:
    """What is wrong with the cell's kernels on the GPU of the frames, if none of those tried there is right."""
    if not _on_gpu(inputs.frames) or missing() is not None:
        return None
    found = taken(_asked(inputs), _here(inputs.frames))
    return f"gives no right numbers here: {found}" if isinstance(found, str) else None


def _only_vmap() -> bool:
    functorch = torch._C._functorch
    stack = functorch.get_interpreter_stack() or []
    return all(level.key() == functorch.TransformType.Vmap for level in stack)


def interpreting() -> bool:
    """Whether Triton's interpreter is asked for, which runs kernels on the CPU, slowly."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def unavailable(cell: Cell, dtype: torch.dtype) -> str | None:
    """Why there is no kernel of the cell on this machine, if there is none."""
    return missing()


def precision(x: Tensor) -> str:
    """How products are computed, as ``rounded`` in the kernels understands it."""
    wanted = "bf16" if x.dtype is torch.bfloat16 else _of_float32(x)
    return "bf16 checked" if wanted == "bf16" and x.is_cpu else wanted


def _of_float32(x: Tensor) -> str:
    """How products of float32 are to be computed, by either of torch's two settings; in IEEE float32, as torch does
    too, where tensor cores know nothing less."""
    if x.is_cuda and torch.cuda.get_device_capability(x.device) < OF_TENSOR_CORES:
        return "ieee"
    try:
        return PRECISIONS[torch.get_float32_matmul_precision()]
    except RuntimeError:  # that of CUDA alone was set, which the older one cannot tell
        return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "ieee"


def tiling_of(inputs: Inputs) -> Tiling | None:
    """How the kernel's work is divided on the device of the frames; None if no shape fits there."""
    return tiling(names_of(inputs.cell), sizes_of(inputs), precision(inputs.frames), _memory(inputs.frames))


def _memory(x: Tensor) -> int:
    """Bytes of shared memory that a program may have on the device of the frames."""
    if not x.is_cuda:
        return MEMORY
    properties = torch.cuda.get_device_properties(x.device)
    return int(properties.shared_memory_per_block_optin)  # type: ignore[attr-defined]


def _at_once(x: Tensor) -> int:
    """How many programs the device of the frames surely runs at the same time: one on each multiprocessor."""
    return int(torch.cuda.get_device_properties(x.device).multi_processor_count) if x.is_cuda else MOST_PROGRAMS


def _of_pass(inputs: Inputs, way: str, found: Tiling) -> tuple[Tiling, int | None]:
    """The tiling of "forward" or "backward", and how many of its programs run at once, None where they take turns.

    On a GPU it is one by which its kernel keeps as little in memory as it can, of those that are right there.

    Raises:
        BackendError: none of them is right.
    """
    x = inputs.frames
    if not _on_gpu(x):
        return found, None
    one = getattr(_taken(inputs), way) or Way(found)
    return one.tiling, programs_at_once(inputs.cell, way, one, _gpu(x))


def _on_gpu(x: Tensor) -> bool:
    """Whether kernels of these frames are compiled and proved, rather than interpreted."""
    return x.is_cuda


def _taken(inputs: Inputs) -> Pair:
    """The kernels of a scan on a GPU.

    Raises:
        BackendError: none of them is right there.
    """
    found = taken(_asked(inputs), _here(inputs.frames))
    if isinstance(found, str):
        raise BackendError(f'backend="triton" gives no right numbers here: {found}')
    return found


def _asked(inputs: Inputs) -> Asked:
    """What kernels a scan needs."""
    x = inputs.frames
    return Asked(inputs.cell, sizes_of(inputs), precision(x), x.dtype, x.device, keep=_keeps(inputs))


def _keeps(inputs: Inputs) -> bool:
    """Whether backward may follow: inside vmap no tensor tells whether derivatives are wanted."""
    return torch.is_grad_enabled() and (inputs.training or torch._C._are_functorch_transforms_active())


def _here(x: Tensor) -> Here:
    """Where the kernels of a scan are proved."""
    return Here(kind_of(x.device), _gpu(x), clips_and_tensors)


def by_clips(inputs: Inputs) -> Callable[[Call, str], Call] | None:
    """How a pass is divided by the number of replicates and clips, which under torch.vmap only a launch knows."""
    x = inputs.frames
    if not _on_gpu(x):
        return None
    asked, here, pair = _asked(inputs), _here(x), _taken(inputs)
    cell, sizes, products, gpu = asked.cell, asked.sizes, asked.precision, here.gpu

    def divided(call: Call, way: str) -> Call:
        best = getattr(pair, way)
        replicates, batch = call.layout.place.shape
        if best is None or best.tiling != call.tiling:
            return call
        one = Way(*of_batch(cell, way, sizes, products, gpu, (replicates, batch), best))
        if one.tiling == call.tiling or not right(asked, pair._replace(**{way: one}), here):
            return call
        made = kernels(cell, one.tiling.reread, interpreted=False, exact=is_exact(products))
        return replace(call, kernels=made, tiling=one.tiling, at_once=(programs_at_once(cell, way, one, gpu), None))

    return divided


def _gpu(x: Tensor) -> Gpu:
    """The kind of the device of the frames."""
    major, minor = torch.cuda.get_device_capability(x.device)
    told = torch.cuda.get_device_properties(x.device)
    each = Multiprocessor(told.max_threads_per_multi_processor, told.shared_memory_per_multiprocessor)
    return Gpu(10 * major + minor, _memory(x), _at_once(x), each)


def sizes_of(inputs: Inputs) -> Sizes:
    """D and H of a scan."""
    return Sizes(inputs.cell, int(inputs.frames.shape[-1]), inputs.hidden)


def run(inputs: Inputs) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Outputs (B, T, H) and last states (B, H), by the cell's kernel.

    Raises:
        BackendError: Triton is not installed.
    """
    if True in map(Tensor.is_neg, inputs.values()) or any(map(freed, inputs.values())):
        if any(map(freed, inputs.values())):
            raise inputs.fault_in_memory()
        inputs = inputs.in_memory()
    x = inputs.frames
    if not x.shape[0] or not x.shape[1]:
        return _nothing(inputs)
    outputs, last, _ = ScanFunction.apply(*prepared(inputs))  # type: ignore[no-untyped-call]
    batch, sizes = len(x), inputs.cell.state_sizes(x.shape[-1], inputs.hidden)
    parts = torch.split(last[0], [batch * prod(size) for size in sizes])
    return outputs[0], tuple(part.view(batch, *size) for part, size in zip(parts, sizes, strict=True))


def _nothing(inputs: Inputs) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Of no frames at all; derivatives are zero but for those of the first states."""
    x = inputs.frames
    zero = sum((value.sum() * 0 for value in (x, *inputs.weights.values())), x.new_zeros(()))
    return x.new_zeros(*x.shape[:2], inputs.state[0].shape[1]) + zero, tuple(part + zero for part in inputs.state)


def prepared(inputs: Inputs) -> tuple[Any, ...]:
    """A call of the kernels and its tensors; what follows needs nothing from the CPU, so a CUDA graph can hold it."""
    x, cell = inputs.frames, inputs.cell
    found = tiling_of(inputs)
    if found is None:
        raise BackendError(f'backend="triton" has no kernel of cell {cell.name!r} for H={inputs.hidden} units')
    names = laid_out(cell, found.reread)
    layout, given = clips_and_tensors(inputs, names)
    keep = _keeps(inputs)
    forward, at_once = _of_pass(inputs, "forward", found)
    backward, at_once_back = _of_pass(inputs, "backward", found) if keep else (None, None)
    products = precision(x)
    exact = is_exact(products)
    made = kernels(cell, forward.reread, interpreted=x.is_cpu, exact=exact)
    if backward is not None:
        made = Kernels(made.forward, kernels(cell, backward.reread, interpreted=x.is_cpu, exact=exact).backward)
    programs = (at_once, at_once_back), _at_once(x)
    call = Call(names, made, layout, forward, products, sizes_of(inputs), keep, backward, *programs, by_clips(inputs))
    of_layout = layout.place, layout.length, layout.start, layout.reverse
    return call, *of_layout, given.frames, given.wide, given.inner, given.invariant, given.first, *given.masks


def clips_and_tensors(inputs: Inputs, names: Names) -> tuple[BatchLayout, StackedInputs]:
    """Where the clips stand, and all tensors as kernels are given them, of one replicate."""
    layout, frames = _layout(inputs)
    wide, inner, invariant = _stacked(inputs)
    masks = [inputs.masks[str(names.plan.graph.nodes[k].name)].unsqueeze(0) for k in names.plan.masks]
    masks = [mask.flatten(3) for mask in masks]
    masks = [mask if mask.stride(-1) == 1 or mask.shape[-1] == 1 else mask.contiguous() for mask in masks]
    first = torch.cat([part.flatten() for part in inputs.state]).unsqueeze(0)
    frames = (frames.contiguous() if names.frames else frames).unsqueeze(0)
    return layout, StackedInputs(frames, wide, inner, invariant, tuple(masks), first)


def _layout(inputs: Inputs, *, packed: bool | None = None) -> tuple[BatchLayout, Tensor]:
    """Where the clips stand, and the rows (rows, D) of their frames; ``packed``: none but those of clips.

    That needs the lengths' values, so it is not done where only the device knows them.
    """
    x, lengths = inputs.frames, inputs.lengths
    batch, steps, size = x.shape
    device, wide = x.device, torch.int64 if batch * steps >= 2**31 else torch.int32
    reverse = torch.full((1,), int(inputs.reverse), dtype=torch.int32, device=device)

    def there(*values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        types = (torch.int32, torch.int32, wide)
        place, length, start = (v.to(t).unsqueeze(0).to(device) for v, t in zip(values, types, strict=True))
        return place, length, start

    if lengths is None:
        every = torch.arange(batch, dtype=torch.int32, device=device).unsqueeze(0)
        begin = torch.arange(0, batch * steps, steps, dtype=wide, device=device).unsqueeze(0)
        found = every, torch.full_like(every, steps), begin
        layout = BatchLayout(*found, reverse, batch * steps, steps, whole=True, padding=False)
        return layout, x.reshape(batch * steps, size)
    place = torch.argsort(lengths, descending=True, stable=True)
    inside = torch.arange(steps, device=lengths.device) < lengths.unsqueeze(1)
    known = lengths.is_cpu and not unknown_values(lengths)  # not on a GPU, nor where vmap has some for each replicate
    if not (known if packed is None else packed):
        found = there(place, lengths[place], place * steps)
        frames = torch.where(inside.unsqueeze(2), x, 0).reshape(batch * steps, size)
        return BatchLayout(*found, reverse, batch * steps, steps, whole=False, padding=True), frames
    rows = inside.flatten().nonzero().flatten()
    found = there(place, lengths[place], (lengths.cumsum(0) - lengths)[place])
    frames = x.reshape(batch * steps, size)[rows.to(device)]
    return BatchLayout(*found, reverse, len(rows), steps, whole=False, padding=False), frames


def _stacked(inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    """Matrices of frames (1, N, D), the elements of those that multiply in the loop (1, M), and of what is the same at
    every step (1, I)."""
    cell, x = inputs.cell, inputs.frames
    names, sizes = names_of(cell), sizes_of(inputs)
    found = loop_invariant(recipe(computed(cell))[0], inputs.weights, sizes.inputs, sizes.hidden)
    for group in names.plan.centred:
        found |= zip(group, less_their_mean([found[m] for m in group]), strict=True)
    value = found.__getitem__

    def side_by_side(values: list[Tensor], *rest: int) -> Tensor:
        whole = torch.cat([each.reshape(-1, *rest) for each in values]) if values else x.new_zeros(0, *rest)
        return whole.unsqueeze(0)

    def of_frame(m: int, part: int) -> Tensor:
        """A matrix with a column for each element of the frame."""
        matrix, begin = value(m), sizes.begin(names.nodes[part])
        after = sizes.inputs - begin - matrix.shape[1]
        return matrix if not begin and not after else torch.nn.functional.pad(matrix, (begin, after))

    wide = [reduce(add, starmap(of_frame, names.frame_matrices(k))) for k in names.with_frame]
    return (
        side_by_side(wide, sizes.inputs),
        side_by_side([value(m) for m in names.inner]),
        side_by_side([value(k) for k in names.plan.invariant]),
    )


class ScanFunction(torch.autograd.Function):
    """All steps, forward and backward; ``torch.vmap`` over it makes replicates of one launch."""

    @staticmethod
    def forward(call: Call, *tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs, last states, and what backward reads."""
        call, given = _unstacked(call, tensors)
        return run_forward(call, given, keep=call.keep)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        """Keep what backward needs."""
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(output[2])
        ctx.call = inputs[0]
        ctx.save_for_backward(*inputs[1:], output[1], output[2])

    @staticmethod
    def backward(ctx: Any, d_outputs: Tensor | None, d_last: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise BackendError('backend="triton" has no second derivatives (create_graph=True); use backend="plain"')
        *tensors, last, saved = ctx.saved_tensors
        call, given = _unstacked(ctx.call, tensors)
        d_last = torch.zeros_like(last) if d_last is None else d_last.contiguous()
        d_outputs = None if d_outputs is None else d_outputs.contiguous()
        through_frames = ctx.needs_input_grad[1 + LAYOUT]
        found = run_backward(call, given, last, saved, (d_outputs, d_last), through_frames=through_frames)
        values = found.frames, found.wide, found.inner, found.invariant, found.first
        return None, *[None] * LAYOUT, *values, *[None] * len(given.masks)

    @staticmethod
    def vmap(info: Any, dims: tuple[int | None, ...], call: Call, *tensors: Tensor) -> tuple[Any, ...]:
        """The same for ``info.batch_size`` replicates at once."""
        size = info.batch_size
        apart = [
            value.unsqueeze(0).expand(size, *value.shape) if dim is None else value.movedim(dim, 0)
            for value, dim in zip(tensors, dims[1:], strict=True)
        ]
        found = ScanFunction.apply(call, *(value.flatten(0, 1).contiguous() for value in apart))  # type: ignore[no-untyped-call]
        outputs, last, saved = found
        parts = tuple(value.unflatten(0, (size, -1)) for value in (outputs, last))
        return (*parts, saved.unflatten(0, (size, -1)) if saved.numel() else saved), (
            0,
            0,
            0 if saved.numel() else None,
        )


LAYOUT = 4
"""Tensors that say where clips stand; they go before all others."""


def _unstacked(call: Call, tensors: Sequence[Tensor]) -> tuple[Call, StackedInputs]:
    """A call of these clips, and its other tensors."""
    place, length, start, reverse, frames, wide, inner, invariant, first, *masks = tensors
    layout = replace(call.layout, place=place, length=length, start=start, reverse=reverse)
    return replace(call, layout=layout), StackedInputs(frames, wide, inner, invariant, tuple(masks), first)
