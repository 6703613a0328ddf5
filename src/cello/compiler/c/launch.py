"""Launch a cell's C kernel on tensors: all steps forward, and all backward."""

from __future__ import annotations

import ctypes
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod

import torch
from torch import Tensor

from cello.cells.definition import Cell
from cello.cells.graph import Shape
from cello.cells.sizes import size
from cello.compiler.c.source import EACH, Field, fields
from cello.compiler.c.text import names_of, source
from cello.compiler.inputs import dispatched, hidden_memory
from cello.compiler.kernel import Kernel, kernel
from cello.compiler.loop_invariant import loop_invariant, recipe
from cello.errors import BackendError
from cello.native.bf16 import INSTRUCTION
from cello.native.build import compiler, load

TYPES = {torch.float32: "float", torch.float64: "double"}
"""The dtypes there are kernels for, and their names in C."""


MOST_KNOWN = 1024
"""Clips of a batch whose layout is remembered: a stream asks for the same one at every frame."""

NO_SECOND_DERIVATIVES = 'backend="c" has no second derivatives (create_graph=True); use backend="plain"'


@dataclass(frozen=True, eq=False)
class Compiled:
    """A cell's kernel for one dtype, and its arguments; ``pieces`` are the shapes in which it gives the derivative of
    each loop-invariant value.
    """

    plan: Kernel
    library: ctypes.CDLL
    fields: tuple[Field, ...]
    pieces: tuple[tuple[Shape, ...], ...]

    @cached_property
    def place(self) -> dict[str, int]:
        """The position of each field, each of which is 8 bytes long."""
        return {field.name: position for position, field in enumerate(self.fields)}

    @cached_property
    def kinds(self) -> dict[str, list[int]]:
        """The positions of the fields that there is one of for each matrix, loop-invariant value, mask or state."""
        return {each: [n for n, field in enumerate(self.fields) if field.each == each] for each in EACH}

    @cached_property
    def counts(self) -> tuple[int, int, int]:
        """How many matrices, loop-invariant values and masks are given, in this order, before the first states."""
        return len(self.plan.matrices), len(self.plan.invariant), len(self.plan.masks)

    @cached_property
    def array(self) -> type[ctypes.Array[ctypes.c_int64]]:
        """The arguments as the library takes them."""
        return ctypes.c_int64 * len(self.fields)

    def largest_saved(self, batch: int, steps: int, inputs: int, hidden: int) -> tuple[int, int]:
        """The elements of history and kept if every clip has all frames."""
        unit, shapes = self.library.vec_length(), state_sizes(self.plan, inputs, hidden)
        kept = [sizes(self.plan, k, inputs, hidden) for k in self.plan.kept]
        states, others = (
            sum(-(-units // unit) * unit * prod(rest) for units, *rest in some) for some in (shapes, kept)
        )
        return (steps + 1) * batch * states, steps * batch * others


def sizes(plan: Kernel, k: int, inputs: int, hidden: int) -> tuple[int, ...]:
    """The shape of node k in numbers, for D = ``inputs`` and H = ``hidden``."""
    return tuple(size(each, inputs, hidden) for each in plan.graph.nodes[k].shape)


def state_sizes(plan: Kernel, inputs: int, hidden: int) -> list[tuple[int, ...]]:
    """The shape of each state in numbers; the first is that of the outputs."""
    return [sizes(plan, k, inputs, hidden) for k in plan.graph.outputs]


@dataclass(frozen=True, eq=False)
class BatchLayout:
    """What a call is told besides tensors; ``place`` and ``length`` (B,) are clips by falling length."""

    place: Tensor
    length: Tensor
    hidden: int
    reverse: bool


@dataclass(frozen=True, eq=False)
class Saved:
    """What forward leaves for backward: the states of all steps, and what else it kept."""

    history: Tensor
    kept: Tensor


@lru_cache(maxsize=256)
def compiled(cell: Cell, dtype: torch.dtype, precision: str = "float32") -> Compiled:
    """The kernel of a cell for float32 or float64; for float32, with products in precision "bf16" too.

    Raises:
        BackendError: it cannot be compiled here.
    """
    bf16 = precision == "bf16"
    name = f"{cell.name}-{precision if bf16 else TYPES[dtype]}"
    library = load(source(cell, TYPES[dtype], bf16=bf16), name)
    if bf16 and not library.has_bf16():
        raise BackendError(
            f"{shlex.join(compiler() or ('the C compiler',))} does not compile {INSTRUCTION} for this CPU. Use GCC 10, "
            f"Clang 9 or a newer one (CC names it), or leave precision out."
        )
    names = names_of(cell, bf16=bf16)
    pieces = tuple(tuple(names.pieces(k)) for k in names.plan.invariant)
    return Compiled(kernel(cell), library, fields(names), pieces)


def inputs_of(
    cell: Cell,
    weights: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    state: tuple[Tensor, ...],
    inputs: int = 0,
    hidden: int = 0,
) -> list[Tensor]:
    """What a kernel is given besides the frames: matrices, loop-invariant values, masks (B, T, H), first states."""
    values, wanted, names = recipe(cell)
    found = loop_invariant(values, weights, inputs, hidden)
    return [
        *[found[k].contiguous() for k in wanted],
        *[by_rows(masks[name]) if masks[name].dim() < 4 else masks[name].contiguous() for name in names],
        *[part.contiguous() for part in state],
    ]


def by_rows(x: Tensor) -> Tensor:
    """The tensor with the elements of each row side by side, as kernels need them."""
    return x if x.stride(-1) == 1 or x.shape[-1] <= 1 else x.contiguous()


def by_length(x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """Where the clips stand in the batch, longest first, and their lengths."""
    if lengths is None:
        batch, steps, _ = x.shape
        return _known_whole(batch, steps) if batch <= MOST_KNOWN else _whole(batch, steps)
    place = torch.argsort(lengths, descending=True, stable=True)
    return place, lengths[place].to(torch.int64)


def _whole(batch: int, steps: int) -> tuple[Tensor, Tensor]:
    """The layout of clips that all have T frames."""
    return torch.arange(batch, device="cpu"), torch.full((batch,), steps, device="cpu")


_known_whole = lru_cache(maxsize=64)(_whole)


def run_forward(
    code: Compiled, layout: BatchLayout, x: Tensor, given: Sequence[Tensor], sizes: tuple[int, int] | None
) -> tuple[Tensor, list[Tensor], Saved]:
    """Outputs (B, T, H), last states (B, H), and what backward needs.

    ``sizes`` are the elements of history and kept; None: exactly what the lengths need; (0, 0): no backward follows.
    """
    call = Call(code, layout, x, given)
    batch, steps, inputs = x.shape
    states = state_sizes(code.plan, inputs, layout.hidden)
    outputs = call.new(batch, steps, *states[0])
    last = [call.new(batch, *each) for each in states]
    keeping = int(sizes != (0, 0))
    history, kept = map(call.new, sizes or call.sizes[2:4]) if keeping else (NOTHING, NOTHING)
    call.set(keeping=keeping, outputs=outputs, packed=call.new(call.sizes[0]), history=history, kept=kept)
    call.set_each("last", last)
    call.run("forward")
    return outputs, last, Saved(history, kept)


def run_backward(
    code: Compiled,
    layout: BatchLayout,
    x: Tensor,
    given: Sequence[Tensor],
    saved: Saved,
    upstream: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """The derivatives of x and of all given but masks, from those of outputs and last states.

    ``wanted`` says for each of them whether it is; of frames, matrices and loop-invariant values that are not, none is
    computed.
    """
    call, (matrices, invariant, masks) = Call(code, layout, x, given), code.counts
    d_x = call.new(*x.shape) if wanted[0] else None
    mine = wanted[1 : 1 + matrices + invariant]
    d_matrices = [torch.empty_like(m) if wants else None for m, wants in zip(given, mine[:matrices], strict=False)]
    values = given[matrices : matrices + invariant]
    d_invariant = [
        call.new_pieces(pieces) if wants else None for pieces, wants in zip(code.pieces, mine[matrices:], strict=True)
    ]
    d_first = [call.new(len(x), *each) for each in state_sizes(code.plan, x.shape[2], layout.hidden)]
    d_outputs, *d_last = [None if gradient is None else _dense(gradient) for gradient in upstream]
    call.set(history=saved.history, kept=saved.kept, d_outputs=d_outputs, d_x=d_x)
    call.set(packed_back=call.new(call.sizes[1]), d_packed=call.new(call.sizes[4]))
    call.set_each("d_weight", d_matrices)
    call.set_each("d_invariant", d_invariant)
    call.set_each("d_last", d_last)
    call.set_each("d_first", d_first)
    call.run("backward")
    rows = [
        row if row is None else row.view_as(value) if value.dim() else row.sum()
        for row, value in zip(d_invariant, values, strict=True)
    ]
    return [d_x, *d_matrices, *rows, *[None] * masks, *d_first]


def _batched(gradient: Tensor) -> bool:
    wrapped = torch._C._functorch
    return wrapped.is_functorch_wrapped_tensor(gradient) or wrapped.is_legacy_batchedtensor(gradient)


def _dense(gradient: Tensor) -> Tensor:
    """A gradient as kernels read it: its elements side by side in memory."""
    if type(gradient) is not Tensor and dispatched(gradient):
        kind = f"a {type(gradient).__name__}"
    elif _batched(gradient):
        kind = "a batch of them (is_grads_batched=True, vectorize=True)"
    else:
        gradient = (gradient if gradient.layout is torch.strided else gradient.to_dense()).contiguous()
        return gradient.clone() if hidden_memory(gradient) else gradient
    raise BackendError(f'backend="c" cannot go back through gradients that are {kind}; use backend="plain"')


NOTHING = torch.empty(0)
SIZES = ctypes.c_int64 * 5
"""What workspace_sizes fills in."""


class Call:
    """The arguments of one call of a kernel, by the order of its fields; holds on to every tensor it points into."""

    def __init__(self, code: Compiled, layout: BatchLayout, x: Tensor, given: Sequence[Tensor]) -> None:
        self.code, self.like = code, x
        self.held: list[Tensor] = []
        self.values = [0] * len(code.fields)
        (batch, steps, inputs), (clip_stride, frame_stride, _) = x.shape, x.stride()
        self.set(B=batch, T=steps, D=inputs, H=layout.hidden, reverse=int(layout.reverse))
        self.set(threads=torch.get_num_threads(), place=layout.place, length=layout.length)
        self.set(x=x, x_clip_stride=clip_stride, x_frame_stride=frame_stride)
        groups, start = [], 0
        for count in (*code.counts, len(code.plan.graph.states)):
            groups.append(given[start : start + count])
            start += count
        self.set_each("weight", groups[0])
        self.set_each("invariant", groups[1])
        self.set_each("mask", groups[2])
        self.set_each("mask_stride", [stride for mask in groups[2] for stride in mask.stride()[:2]])
        self.set_each("first", groups[3])
        found = SIZES()
        code.library.workspace_sizes(code.array(*self.values), found)
        self.sizes: list[int] = found[:]

    def new(self, *shape: int) -> Tensor:
        return self.like.new_empty(shape)

    def new_pieces(self, pieces: tuple[Shape, ...]) -> Tensor:
        """Values of these shapes, one after another."""
        inputs, hidden = (self.values[self.code.place[letter]] for letter in "DH")
        return self.new(sum(prod(size(each, inputs, hidden) for each in shape) for shape in pieces))

    def set(self, **values: Tensor | int | None) -> None:
        """Set the fields of these names."""
        place = self.code.place
        for name, value in values.items():
            self._put(place[name], value)

    def set_each(self, kind: str, values: Sequence[Tensor | int | None]) -> None:
        """Set the fields of this kind, in order."""
        for place, value in zip(self.code.kinds[kind], values, strict=True):
            self._put(place, value)

    def _put(self, place: int, value: Tensor | int | None) -> None:
        if value is None or isinstance(value, int):
            self.values[place] = value or 0
            return
        self.values[place] = pointer = value.data_ptr()
        self.held.append(value)
        if not pointer and value.numel():
            raise BackendError(
                f'backend="c" found no memory behind {self.code.fields[place].name} on {value.device}; '
                f'use backend="auto"'
            )

    def run(self, name: str) -> None:
        """Run the kernel, "forward" or "backward", on what has been set."""
        if getattr(self.code.library, name)(self.code.array(*self.values)):
            raise MemoryError(f"no memory for a tile of rows of {self.values[self.code.place['H']]} elements")
