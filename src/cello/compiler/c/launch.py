"""Launch a cell's C kernel on tensors: all steps forward, and all backward."""

from __future__ import annotations

import ctypes
import shlex
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from cello.cells.definition import Cell
from cello.cells.graph import Shape
from cello.cells.sizes import size
from cello.cells.summed import summed
from cello.compiler.activity import Active
from cello.compiler.c.source import Field, fields
from cello.compiler.c.text import names_of, runtime, source
from cello.compiler.centred import centred
from cello.compiler.inputs import dispatched, hidden_memory
from cello.compiler.kernel import Kernel, activity
from cello.compiler.loop_invariant import Recipe, loop_invariant, parameters_alone, recipe
from cello.compiler.tracing import constant_result
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
    """A cell's kernel for one dtype, and its arguments, each of which is 8 bytes long.

    ``pieces`` are the shapes in which it gives the derivative of each loop-invariant value, ``place`` the positions of
    the arguments by their names.
    """

    plan: Kernel
    library: ctypes.CDLL
    fields: tuple[Field, ...]
    pieces: tuple[tuple[Shape, ...], ...]
    place: Mapping[str, int]

    @cached_property
    def counts(self) -> tuple[int, int, int]:
        """How many matrices, loop-invariant values and masks are given, in this order, before the first states."""
        return len(self.plan.matrices), len(self.plan.invariant), len(self.plan.masks)

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
    """What a call is told besides tensors; ``place`` and ``length`` (B,) are clips by falling length.

    ``remembered`` says that later calls of the same sizes are given the same layout.
    """

    place: Tensor
    length: Tensor
    hidden: int
    reverse: bool
    remembered: bool = False


@dataclass(frozen=True, eq=False)
class Saved:
    """What forward leaves for backward: the states of all steps, and what else it kept."""

    history: Tensor
    kept: Tensor


@lru_cache(maxsize=256)
def compiled(cell: Cell, dtype: torch.dtype, precision: str = "float32", active: Active | None = None) -> Compiled:
    """The kernel of a cell for float32 or float64; for float32, with products in precision "bf16" too.

    ``active`` is what it differentiates; None: everything.

    Raises:
        BackendError: it cannot be compiled here.
    """
    bf16 = precision == "bf16"
    numbers = precision if bf16 else TYPES[dtype]
    shared = (f"runtime-{numbers}", runtime(TYPES[dtype], bf16=bf16))
    library = load(source(cell, TYPES[dtype], bf16=bf16, active=active), f"{cell.name}-{numbers}", shared=shared)
    if bf16 and not library.has_bf16():
        raise BackendError(
            f"{shlex.join(compiler() or ('the C compiler',))} does not compile {INSTRUCTION} for this CPU. Use GCC 10, "
            f"Clang 9 or a newer one (CC names it), or leave precision out."
        )
    for called in ("workspace_sizes", "forward", "backward"):
        getattr(library, called).argtypes = [ctypes.c_void_p] * (1 + (called == "workspace_sizes"))
    names = names_of(cell, bf16=bf16, active=active)
    pieces, members = tuple(tuple(names.pieces(k)) for k in names.plan.invariant), fields(names)
    return Compiled(names.plan, library, members, pieces, {each.name: n for n, each in enumerate(members)})


@lru_cache(maxsize=256)
def activity_of(cell: Cell, wanted: tuple[bool, ...], precision: str = "float32") -> Active | None:
    """What a kernel differentiates for these derivatives; None: everything. See ``run_backward`` of ``wanted``."""
    return activity(names_of(cell, bf16=precision == "bf16").plan, wanted)


def inputs_of(
    cell: Cell,
    weights: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    state: tuple[Tensor, ...],
    inputs: int = 0,
    hidden: int = 0,
    precision: str = "float32",
) -> list[Tensor]:
    """What a kernel is given besides the frames: matrices, loop-invariant values, masks (B, T, H), first states."""
    bf16 = precision == "bf16"
    names = _parameters_alone(cell, bf16)
    if names:
        found = [weights[name] for name in names]
    else:
        values, wanted, _ = _recipe(cell, bf16)
        computed = loop_invariant(values, weights, inputs, hidden)
        found = [computed[k] for k in wanted]
    if masks:
        ordered = [masks[name] for name in _recipe(cell, bf16)[2]]
        return [
            *[value.contiguous() for value in found],
            *[by_rows(mask) if mask.dim() < 4 else mask.contiguous() for mask in ordered],
            *[part.contiguous() for part in state],
        ]
    return [value.contiguous() for value in (*found, *state)]


@constant_result
def _parameters_alone(cell: Cell, bf16: bool) -> tuple[str, ...]:
    return parameters_alone(centred(summed(cell))[0], blocks=not bf16, computes=True)


@constant_result
def _recipe(cell: Cell, bf16: bool) -> Recipe:
    return recipe(centred(summed(cell))[0], blocks=not bf16, computes=True)


def by_rows(x: Tensor) -> Tensor:
    """The tensor with the elements of each row side by side, as kernels need them."""
    return x if x.stride(-1) == 1 or x.shape[-1] <= 1 else x.contiguous()


def layout_of(x: Tensor, lengths: Tensor | None, hidden: int, reverse: bool) -> BatchLayout:
    """The layout of a batch; the same for the same sizes, where all clips of not too many have T frames."""
    if lengths is None and len(x) <= MOST_KNOWN:
        return _remembered(*x.shape[:2], hidden, reverse)
    return BatchLayout(*by_length(x, lengths), hidden, reverse)


@lru_cache(maxsize=64)
def _remembered(batch: int, steps: int, hidden: int, reverse: bool) -> BatchLayout:
    return BatchLayout(*_whole(batch, steps), hidden, reverse, remembered=True)


def by_length(x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """Where the clips stand in the batch, longest first, and their lengths."""
    if lengths is None:
        return _whole(len(x), x.shape[1])
    place = torch.argsort(lengths, descending=True, stable=True)
    return place, lengths[place].to(torch.int64)


def _whole(batch: int, steps: int) -> tuple[Tensor, Tensor]:
    """The layout of clips that all have T frames."""
    return torch.arange(batch, device="cpu"), torch.full((batch,), steps, device="cpu")


def run_forward(
    code: Compiled, layout: BatchLayout, x: Tensor, given: Sequence[Tensor], sizes: tuple[int, int] | None
) -> tuple[Tensor, list[Tensor], Saved]:
    """Outputs (B, T, H), last states (B, H), and what backward needs.

    ``sizes`` are the elements of history and kept; None: exactly what the lengths need; (0, 0): no backward follows.
    """
    call, new = Call(code, layout, x, given), x.new_empty
    known = call.known
    outputs, last = new(known.outputs), [new(shape) for shape in known.states]
    if keeping := sizes != (0, 0):
        history, kept = map(new, sizes or known.saved)
    else:
        history, kept = NOTHING, NOTHING
    call.set("outputs", [outputs, *last, new(known.packed), history, kept])
    call.values[code.place["keeping"]] = keeping
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

    ``wanted`` says for each of them whether it is; what is not is not computed.
    """
    call, (matrices, invariant, masks), new = Call(code, layout, x, given), code.counts, x.new_empty
    known, values = call.known, given[matrices : matrices + invariant]
    d_x = new(x.shape) if wanted[0] else None
    d_matrices = [torch.empty_like(m) if want else None for m, want in zip(given[:matrices], wanted[1:], strict=False)]
    d_invariant = [  # of a number in several pieces, which are added up
        (torch.empty_like(value) if value.dim() else new(elements)) if want else None
        for value, elements, want in zip(values, known.pieces, wanted[1 + matrices :], strict=False)
    ]
    first = wanted[1 + matrices + invariant + masks :]
    d_first = [
        new(shape) if code.plan.carries(n) and want else None
        for n, (shape, want) in enumerate(zip(known.states, first, strict=True))
    ]
    towards = [None if gradient is None else _dense(gradient) for gradient in upstream]
    scratch = [new(known.packed_back), new(known.d_packed)]
    found = [d_x, *d_matrices, *d_invariant, *d_first]
    call.set("history", [saved.history, saved.kept, *towards, *found, *scratch])
    call.run("backward")
    if any(not value.dim() for value in values):
        of_values = zip(d_invariant, values, strict=True)
        d_invariant = [row if row is None or value.dim() else row.sum() for row, value in of_values]
    return [d_x, *d_matrices, *d_invariant, *[None] * masks, *d_first]


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


class Arguments(NamedTuple):
    """What calls of the same sizes have in common: arguments, of which tensors are missing, and shapes of results.

    ``packed``, ``packed_back`` and ``d_packed`` are elements of workspaces, ``saved`` those of history and kept,
    ``pieces`` those in which the derivatives of the loop-invariant values are given.
    """

    values: array[int]
    outputs: tuple[int, ...]
    states: list[tuple[int, ...]]
    packed: int
    packed_back: int
    saved: tuple[int, int]
    d_packed: int
    pieces: list[int]


def _arguments(
    code: Compiled, layout: BatchLayout, shape: tuple[int, ...], strides: tuple[int, ...], threads: int
) -> Arguments:
    values, (batch, steps, inputs), hidden = array("q", [0] * len(code.fields)), shape, layout.hidden
    numbers = (batch, steps, inputs, hidden, layout.reverse, threads, layout.place.data_ptr(), layout.length.data_ptr())
    for name, value in zip(NUMBERS, (*numbers, *strides[:2]), strict=True):
        values[code.place[name]] = value
    found = SIZES()
    code.library.workspace_sizes(values.buffer_info()[0], ctypes.addressof(found))
    packed, packed_back, history, kept, d_packed = found
    states = state_sizes(code.plan, inputs, hidden)
    pieces = [sum(prod(size(each, inputs, hidden) for each in one) for one in some) for some in code.pieces]
    last = [(batch, *each) for each in states]
    return Arguments(values, (batch, steps, *states[0]), last, packed, packed_back, (history, kept), d_packed, pieces)


NUMBERS = ("B", "T", "D", "H", "reverse", "threads", "place", "length", "x_clip_stride", "x_frame_stride")
_known_arguments = lru_cache(maxsize=256)(_arguments)


class Call:
    """The arguments of one call of a kernel, by the order of its fields; holds on to every tensor it points into."""

    def __init__(self, code: Compiled, layout: BatchLayout, x: Tensor, given: Sequence[Tensor]) -> None:
        arguments = _known_arguments if layout.remembered else _arguments
        self.known = arguments(code, layout, x.shape, x.stride(), torch.get_num_threads())
        self.code, self.layout = code, layout
        self.values = self.known.values[:]
        self.held: list[Sequence[Tensor | None]] = []
        self.set("x", [x, *given])
        matrices, invariant, masks = code.counts
        if masks:
            begin, first = code.place["x_frame_stride"] + 1, matrices + invariant
            strides = [stride for mask in given[first : first + masks] for stride in mask.stride()[:2]]
            self.values[begin : begin + 2 * masks] = array("q", strides)

    def set(self, first: str, values: Sequence[Tensor | None]) -> None:
        """Set the fields from the one of this name on; None is a null pointer."""
        begin = self.code.place[first]
        pointers = [0 if value is None else value.data_ptr() for value in values]
        if 0 in pointers:
            self._check_memory(begin, values)
        self.values[begin : begin + len(pointers)] = array("q", pointers)
        self.held.append(values)

    def _check_memory(self, begin: int, values: Sequence[Tensor | None]) -> None:
        for place, value in enumerate(values, start=begin):
            if value is not None and not value.data_ptr() and value.numel():
                raise BackendError(
                    f'backend="c" found no memory behind {self.code.fields[place].name} on {value.device}; '
                    f'use backend="auto"'
                )

    def run(self, name: str) -> None:
        """Run the kernel, "forward" or "backward", on what has been set."""
        if getattr(self.code.library, name)(self.values.buffer_info()[0]):
            raise MemoryError(f"no memory for a tile of rows of {self.layout.hidden} elements")
