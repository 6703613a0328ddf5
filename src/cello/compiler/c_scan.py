"""Running a cell's C kernel on tensors: what lies before the loop in torch, the loop in C, both differentiable."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from cello.cells.definition import Cell
from cello.compiler.c import fields, source
from cello.compiler.c_build import load
from cello.compiler.kernel import Kernel, kernel
from cello.compiler.plain import TORCH, fixed_values, hidden_size
from cello.compiler.program import program
from cello.errors import BackendError

TYPES = {torch.float32: "float", torch.float64: "double"}
"""The dtypes there are kernels for, and their names in C."""

Run = tuple[tuple[int, ...], int, bool]
"""The rows of every step, H, and whether to keep what the backward pass needs."""


@dataclass(frozen=True)
class Compiled:
    """A cell's kernel for one dtype: rows are a multiple of ``unit`` long, packed matrices one of ``panel`` wide."""

    plan: Kernel
    library: ctypes.CDLL
    arguments: type[ctypes.Structure]
    unit: int
    panel: int
    tile: int

    def padded(self, hidden: int) -> int:
        """P, the length of a row of H units."""
        return -(-hidden // self.unit) * self.unit

    def packed(self, matrix: Tensor, out: Tensor | None = None) -> Tensor:
        """A matrix (n, m), in any layout, as products read it: panels of columns (⌈m / panel⌉, n, panel)."""
        rows, columns = matrix.shape
        if out is None:
            out = matrix.new_empty(-(-columns // self.panel), rows, self.panel)
        self.library.pack(matrix.data_ptr(), rows, columns, *matrix.stride(), out.data_ptr())
        return out


@lru_cache(maxsize=256)
def compiled(cell: Cell, dtype: torch.dtype) -> Compiled:
    """The kernel of a cell for float32 or float64.

    Raises:
        BackendError: it cannot be compiled here.
    """
    plan = kernel(cell)
    library = load(source(cell, TYPES[dtype]), f"{cell.name}-{TYPES[dtype]}")
    long, pointer = ctypes.c_long, ctypes.c_void_p
    for name in ("unit", "panel", "tile"):
        getattr(library, name).restype = long
    library.pack.argtypes = [pointer, long, long, long, long, pointer]
    library.affine.argtypes = [long] * 3 + [pointer] * 4
    library.affine_back.argtypes = [long] * 3 + [pointer] * 6
    for name in ("forward", "backward"):
        getattr(library, name).argtypes = [ctypes.c_void_p, ctypes.c_long]
    members = [(name, pointer if is_pointer else long) for name, is_pointer in fields(plan)]
    arguments = type("Arguments", (ctypes.Structure,), {"_fields_": members})
    return Compiled(plan, library, arguments, library.unit(), library.panel(), library.tile())


def evaluate_in_c(
    cell: Cell, frames: Tensor, sizes: Sequence[int], weights: Mapping[str, Tensor], state: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The first state after every step, (ΣT, H), and all rows' last states; arguments as plain evaluation's."""
    code = compiled(cell, frames.dtype)
    hidden = hidden_size(cell, weights)
    padded = code.padded(hidden)
    inputs = _before_the_loop(cell, code, frames, weights, (hidden, padded))
    first = [_pad(part, padded) for part in state]
    given = (*inputs, *first)
    keeping = torch.is_grad_enabled() and any(value.requires_grad for value in given)
    outputs, *last = _Scan.apply(code, (tuple(sizes), hidden, keeping), *given)  # type: ignore[no-untyped-call]
    return _cut(outputs, hidden), tuple(_cut(part, hidden) for part in last)


def _cut(value: Tensor, hidden: int) -> Tensor:
    return value if value.shape[-1] == hidden else value[..., :hidden]


def _pad(value: Tensor, padded: int) -> Tensor:
    """The last size filled up with zeros to P."""
    missing = padded - value.shape[-1]
    return value if missing == 0 else torch.nn.functional.pad(value, (0, missing))


def _before_the_loop(
    cell: Cell, code: Compiled, frames: Tensor, weights: Mapping[str, Tensor], sizes: tuple[int, int]
) -> list[Tensor]:
    """The kernel's inputs: columns (ΣT, C·P), other values of the frame (ΣT, P), fixed ones (P,), matrices (H, H)."""
    padded = sizes[1]
    plan, nodes = code.plan, code.plan.nodes
    slots = fixed_values(plan.plan, weights)
    columns = _columns(cell, code, frames, slots, padded)
    for k in program(cell).hoisted:
        if k not in slots:
            slots[k] = TORCH[nodes[k].op](*[slots[a] for a in nodes[k].args])
    others = [_pad(slots[k], padded).contiguous() for k in plan.frames]
    return [
        columns,
        *others,
        *(_vector(slots[k], frames, sizes) for k in plan.fixed),
        *(slots[k] for k in plan.matrices),
    ]


def _vector(value: Any, frames: Tensor, sizes: tuple[int, int]) -> Tensor:
    """A vector or a single number as (P,)."""
    hidden, padded = sizes
    tensor = value if isinstance(value, Tensor) else frames.new_tensor(value)
    return _pad(tensor.expand(hidden), padded).contiguous()


def _columns(cell: Cell, code: Compiled, frames: Tensor, slots: dict[int, Any], padded: int) -> Tensor:
    """Every affine map of the frame by one product; those the kernel reads come first and are returned."""
    plan = code.plan
    place = {k: number for number, k in enumerate(plan.columns)}
    columns = sorted(program(cell).columns, key=lambda column: place.get(column.node, len(place)))
    if not columns:
        return frames.new_zeros(len(frames), 0)
    matrices = [slots[column.matrix] for column in columns]
    hidden = len(matrices[0])
    if padded != hidden:
        matrices = [torch.nn.functional.pad(matrix, (0, 0, 0, padded - hidden)) for matrix in matrices]
    none = frames.new_zeros(padded)
    sums = [[_pad(slots[b].expand(hidden), padded) for b in column.biases] for column in columns]
    biases = [sum(parts[1:], start=parts[0]) if parts else none for parts in sums]
    values: Tensor = _Affine.apply(code, frames, torch.cat(matrices), torch.cat(biases))  # type: ignore[no-untyped-call]
    sizes = [len(place) * padded] + [padded] * (len(columns) - len(place))
    own, *rest = torch.split_with_sizes(values, sizes, 1) if len(sizes) > 1 else [values]
    if program(cell).hoisted:
        slots |= {k: _cut(own[:, n * padded : (n + 1) * padded], hidden) for k, n in place.items()}
    slots |= {column.node: _cut(value, hidden) for column, value in zip(columns[len(place) :], rest, strict=True)}
    return own


class _Affine(torch.autograd.Function):
    """frames · matrixᵀ + bias in C, whose products of such narrow matrices are quicker than torch's."""

    @staticmethod
    def forward(ctx: Any, code: Compiled, frames: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
        (rows, inputs), width = frames.shape, len(matrix)
        out = frames.new_empty(rows, width)
        packed = code.packed(matrix.t())
        pointers = [value.data_ptr() for value in (frames, packed, bias, out)]
        _done(code.library.affine(rows, inputs, width, *pointers), width)
        ctx.code = code
        ctx.save_for_backward(frames, matrix)
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        _refuse_second_derivatives()
        frames, matrix = ctx.saved_tensors
        (rows, inputs), width = frames.shape, len(matrix)
        d_out = d_out.contiguous()
        d_frames = torch.empty_like(frames) if ctx.needs_input_grad[1] else None
        d_matrix = frames.new_zeros(width, ctx.code.padded(inputs))
        d_bias = frames.new_zeros(width)
        packed = ctx.code.packed(matrix)
        given = (frames, packed, d_out, d_frames, d_matrix, d_bias)
        pointers = [None if value is None else value.data_ptr() for value in given]
        _done(ctx.code.library.affine_back(rows, inputs, width, *pointers), width)
        return None, d_frames, d_matrix[:, :inputs], d_bias


def _refuse_second_derivatives() -> None:
    if torch.is_grad_enabled():
        raise BackendError('backend="c" has no second derivatives (create_graph=True); use backend="plain"')


def _done(failed: int, width: int) -> None:
    if failed:
        raise MemoryError(f"no memory for a tile of rows of {width} numbers")


class _Scan(torch.autograd.Function):
    """The loop over time, forward and backward, in C."""

    @staticmethod
    def forward(ctx: Any, code: Compiled, run: Run, *inputs: Tensor) -> tuple[Tensor, ...]:
        plan, states = code.plan, len(code.plan.plan.graph.states)
        call, keeping = _Call(code, run, inputs), run[2]
        rows = call.rows if keeping else call.batch
        outputs = call.new(call.rows, call.padded)
        stores = [outputs, *(call.new(rows, call.padded) for _ in range(states - 1))]
        kept = call.new(rows, len(plan.kept), call.padded)
        last = [call.new(call.batch, call.padded) for _ in range(states)]
        call.give(keeping=int(keeping), kept=kept, packed=call.packed(transposed=True))
        call.give_each("states", stores)
        call.give_each("last", last)
        call.run("forward")
        if keeping:
            ctx.call = code, run
            ctx.save_for_backward(*inputs, *stores, kept)
        return outputs, *last

    @staticmethod
    def backward(ctx: Any, d_outputs: Tensor, *d_last: Tensor) -> tuple[Tensor | None, ...]:
        _refuse_second_derivatives()
        code, run = ctx.call
        hidden = run[1]
        plan, states = code.plan, len(code.plan.plan.graph.states)
        *inputs, kept = ctx.saved_tensors
        inputs, stores = inputs[:-states], inputs[-states:]
        call = _Call(code, run, tuple(inputs))
        tiles, padded = call.tiles, call.padded
        d_columns = call.new(call.rows, len(plan.columns) * padded)
        d_frames = [call.new(call.rows, padded) for _ in plan.frames]
        untouched = {*plan.columns, *plan.frames} - {k for stage in plan.gradient.stages for k, _ in stage.others}
        for k in untouched:  # read only by conditions, which have no derivative
            column = plan.columns.index(k) * padded if k in plan.columns else 0
            (d_columns[:, column : column + padded] if k in plan.columns else d_frames[plan.frames.index(k)]).zero_()
        d_fixed = call.zeros(tiles, len(plan.fixed), padded)
        d_matrices = call.zeros(tiles, len(plan.matrices), padded, padded)
        d_first = [call.new(call.batch, padded) for _ in range(states)]
        call.give(kept=kept, packed_back=call.packed(transposed=False), d_outputs=d_outputs.contiguous())
        call.give(d_columns=d_columns, d_fixed=d_fixed, d_matrices=d_matrices)
        call.give_each("states", stores)
        call.give_each("d_last", [part.contiguous() for part in d_last])
        call.give_each("d_frames", d_frames)
        call.give_each("d_first", d_first)
        call.run("backward")
        d_columns.view(call.rows, len(plan.columns), padded)[:, :, hidden:] = (
            0  # may hold 0/0, which no product may see
        )
        matrices = d_matrices.sum(0)[:, :hidden, :hidden]
        return None, None, d_columns, *d_frames, *d_fixed.sum(0), *matrices, *d_first


class _Call:
    """The arguments of one call of a kernel; holds on to every tensor it points into."""

    def __init__(self, code: Compiled, run: Run, inputs: tuple[Tensor, ...]) -> None:
        sizes, hidden, _ = run
        plan, self.code, self.padded = code.plan, code, code.padded(hidden)
        counts = (1, len(plan.frames), len(plan.fixed), len(plan.matrices), len(plan.plan.graph.states))
        groups, start = [], 0
        for count in counts:
            groups.append(inputs[start : start + count])
            start += count
        (columns,), frames, fixed, matrices, first = groups
        self.matrices, self.like = matrices, columns
        self.batch, self.rows = len(first[0]), sum(sizes)
        self.tiles = -(-self.batch // code.tile)
        self.held: list[Tensor] = []
        self.struct = code.arguments()
        self.give(H=hidden, P=self.padded, B=self.batch, T=len(sizes), columns_stride=columns.stride(0))
        self.packed_size = -(-hidden // code.panel) * code.panel * hidden
        self.give(packed_size=self.packed_size)
        self.give(sizes=torch.tensor(sizes, dtype=torch.int64), columns=columns)
        self.give_each("frames", frames)
        self.give_each("fixed", fixed)
        self.give_each("first", [part.contiguous() for part in first])

    def new(self, *shape: int) -> Tensor:
        return self.like.new_empty(shape)

    def zeros(self, *shape: int) -> Tensor:
        return self.like.new_zeros(shape)

    def give(self, **values: Tensor | int) -> None:
        """Set fields of the struct."""
        for name, value in values.items():
            if isinstance(value, Tensor):
                self.held.append(value)
            setattr(self.struct, name, value.data_ptr() if isinstance(value, Tensor) else value)

    def give_each(self, kind: str, values: Sequence[Tensor]) -> None:
        for number, value in enumerate(values):
            self.give(**{f"{kind}_{number}": value})

    def packed(self, *, transposed: bool) -> Tensor:
        """The matrices as the kernel multiplies by them."""
        out = self.new(len(self.matrices), self.packed_size)
        for place, matrix in zip(out, self.matrices, strict=True):
            self.code.packed(matrix.t() if transposed else matrix, place)
        return out

    def run(self, name: str) -> None:
        function = getattr(self.code.library, name)
        for tile in range(self.tiles):
            _done(function(ctypes.addressof(self.struct), tile), self.padded)
