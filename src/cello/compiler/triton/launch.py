"""Launch a cell's Triton kernels on tensors: all steps forward, and all backward, of any number of replicates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from cello.cells.graph import Shape
from cello.compiler.triton.build import Kernels, compiling
from cello.compiler.triton.names import Names
from cello.compiler.triton.spaces import Sizes, is_sized
from cello.compiler.triton.stacked import Derivatives, StackedInputs, interleaved_rows, packs
from cello.compiler.triton.weight_gradients import RowsOfBackward, derivatives

REGISTERS = 1 << 16
"""Those that all threads of a program have together."""


@dataclass(frozen=True)
class Tiling:
    """How the work is divided: clips of a program, units rounded up to a power of two, warps.

    ``split`` programs share the units of the same clips; what a step reads is asked for ``stages`` - 1 steps before.
    ``all_registers`` says that a thread may have all it can: by itself, the assembler keeps values in memory if half as
    many registers then nearly do, so that twice as many programs could run at once. ``reread`` is that of
    :class:`Names`.
    """

    rows: int
    units: int
    warps: int
    split: int = 1
    stages: int = 3
    all_registers: bool = False
    reread: str = ""

    @property
    def own(self) -> int:
        """The units of one program."""
        return self.units // self.split


@dataclass(frozen=True, eq=False)
class BatchLayout:
    """Where clips stand: R replicates of B clips, longest first, by ``place`` in the batch.

    ``length`` are their frames, ``start`` the row of each one's first frame among the ``rows`` that a replicate has;
    ``reverse`` (R,) is 1 where clips run from their last frame to their first. ``padding`` says that some rows belong
    to no clip, ``whole`` that all clips have ``steps`` frames.
    """

    place: Tensor
    length: Tensor
    start: Tensor
    reverse: Tensor
    rows: int
    steps: int
    whole: bool
    padding: bool

    def new_rows(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Values of all rows, zero where a row belongs to no clip."""
        new = torch.zeros if self.padding else torch.empty
        return new(shape, dtype=dtype, device=self.place.device)


@dataclass(frozen=True, eq=False)
class Call:
    """A cell's kernels, its clips, how to compute, and whether backward may follow."""

    names: Names
    kernels: Kernels
    layout: BatchLayout
    tiling: Tiling
    precision: str
    sizes: Sizes
    keep: bool = True
    of_backward: Tiling | None = None
    """Backward's tiling, where it is another."""

    def backward(self) -> Call:
        """The same, as backward is launched."""
        return replace(self, tiling=self.of_backward or self.tiling)

    @property
    def tiles(self) -> int:
        """Programs that clips are shared out to."""
        return -(-self.layout.place.shape[1] // self.tiling.rows)

    def grid(self) -> tuple[int, int]:
        """All programs; those that share clips follow each other, so that they run at the same time."""
        split = 1 if self.layout.place.is_cpu else self.tiling.split
        return self.tiles * split, len(self.layout.place)

    @property
    def large(self) -> bool:
        """Whether places in the tensors need more than 31 bits."""
        replicates, batch = self.layout.place.shape
        rows = replicates * max(batch * self.layout.steps, self.layout.rows)
        names, total = self.names, self.sizes.total
        parts = names.with_frame, names.sums_in_order, names.computed, names.derived_frames
        of_frames = self.sizes.inputs if names.frames else 1
        most = max(of_frames, *(total([*map(names.shape, items)]) for items in parts))
        return max(rows * max(most, total([*names.saved_shapes.values()])), self._workspace_size) >= 2**31

    @property
    def _workspace_size(self) -> int:
        """The elements that programs leave to each other, or to themselves."""
        if self.names.in_blocks:
            return self.tiles * len(self.layout.place) * self.tiling.rows * 2 * half(self.names, self.sizes)
        if self.tiling.split == 1:
            return 0
        a_team = 2 * self.names.slots * self.tiling.rows * widest(self.names, self.tiling, self.sizes)
        return self.tiles * len(self.layout.place) * a_team

    def workspace(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Where programs that share clips leave vectors to each other, and count how many are there."""
        teams = self.tiles * len(self.layout.place) if self.tiling.split > 1 else 0
        vectors = torch.empty(self._workspace_size, dtype=torch.float32, device=like.device)
        return vectors, torch.zeros(teams, dtype=torch.int32, device=like.device)

    @property
    def stored(self) -> torch.dtype:
        """What values of a row are stored in between passes: no more digits than products have of them."""
        few = self.precision.startswith("bf16") and not self.names.in_blocks
        return torch.bfloat16 if few else torch.float32

    def constants(self) -> dict[str, Any]:
        """What the kernels are compiled for, and how."""
        own = constants(self.names, self.tiling, self.sizes, self.precision, large=self.large)
        return {**own, **options(self.tiling)}


def constants(names: Names, tiling: Tiling, sizes: Sizes, precision: str, *, large: bool) -> dict[str, Any]:
    """The constants that both passes are compiled for."""
    found: dict[str, Any] = {
        "ROWS": tiling.rows,
        "PRECISION": precision,
        "SPLIT": tiling.split,
        "STAGES": tiling.stages,
        "LARGE": large,
        "WIDEST": widest(names, tiling, sizes),
    }
    for shape, space in names.spaces.items():
        elements, units = sizes.of(shape), sizes.padded(shape, tiling.units)
        parts = 1 if space.common else sizes.parts(shape, tiling.units, tiling.split)
        in_rows = [sizes.of(shape[1:]), sizes.a_unit(shape)] if space.columns else []
        in_rows += sizes.head(shape, tiling.units) if space.head else ()
        values = elements, units, units // parts, elements == units, *in_rows, parts
        found |= dict(zip(space.constants(), values, strict=False))
    if names.in_blocks:
        found["HALF"] = half(names, sizes)
    if names.frames:
        found["FRAME"] = sizes.inputs
    return found | {name: sizes.begin(names.nodes[k]) for k, name in names.begins.items()}


def half(names: Names, sizes: Sizes) -> int:
    """The elements, a multiple of 16, of one of two values that a program whose matrices are in blocks leaves to itself
    in memory."""
    return 16 * max(-(-sizes.of(shape) // 16) for shape in names.spaces)


def widest(names: Names, tiling: Tiling, sizes: Sizes) -> int:
    """The elements, rounded up, of the largest vector that programs leave to each other, or of parts of sums."""
    parts = [shape for shape, space in names.spaces.items() if len(shape) == 1 and not space.common]
    vectors = [sizes.padded(shape, tiling.units) for shape in parts]
    sized = [sizes.a_unit(shape) * tiling.split for shape in names.matrices if is_sized(shape)]
    return max([1, *vectors, *sized])


def options(tiling: Tiling) -> dict[str, Any]:
    """How Triton is to compile them."""
    found = {"num_warps": tiling.warps, "enable_fp_fusion": True}
    return found | ({"maxnreg": min(255, REGISTERS // (32 * tiling.warps))} if tiling.all_registers else {})


def _of_masks(masks: Sequence[Tensor]) -> list[Any]:
    return [part for mask in masks for part in (mask, *mask.stride()[:3])]


def launched_on(device: torch.device) -> AbstractContextManager[object]:
    """Launch kernels where their tensors are: Triton's own choice is the current GPU, which may be another."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def input_projections(call: Call, given: StackedInputs) -> Tensor:
    """The products of all frames with their matrices, (R, rows, N)."""
    names = call.names
    if not names.projected:
        return given.frames.new_zeros(len(given.frames), 1, 1)
    matrices = interleaved_rows(given.wide, packs(names, names.projected), call.sizes)
    return torch.bmm(given.frames, matrices.transpose(1, 2))


def run_forward(call: Call, given: StackedInputs, *, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs (R, B, T, elements), last states as first ones, and what backward reads of every row."""
    layout, names, sizes = call.layout, call.names, call.sizes
    replicates, batch = layout.place.shape
    like = given.frames
    projected = input_projections(call, given)
    new = torch.empty if layout.whole else torch.zeros
    width = sizes.of(names.state_shapes[0])
    outputs = new(replicates, batch, layout.steps, width, dtype=like.dtype, device=like.device)
    last = torch.empty_like(given.first)
    shape = (replicates, layout.rows, sizes.total([*names.saved_shapes.values()])) if keep else (0,)
    saved = layout.new_rows(shape, call.stored)
    with launched_on(like.device), compiling(call.precision):
        call.kernels.forward[call.grid()](
            *(layout.place, layout.length, layout.start, layout.reverse),
            *(projected, given.inner, given.invariant, given.first, last, outputs, saved, *call.workspace(like)),
            *((given.frames,) if names.frames else ()),
            *_of_masks(given.masks),
            *(call.tiles, batch, layout.steps, layout.rows, projected.stride(1), projected.stride(0)),
            **call.constants(),
            KEEP=keep,
        )
    return outputs, last, saved


def run_backward(
    call: Call,
    given: StackedInputs,
    last: Tensor,
    saved: Tensor,
    upstream: tuple[Tensor | None, Tensor],
    *,
    through_frames: bool,
) -> Derivatives:
    """The derivatives of what was given from those of outputs (R, B, T, elements), or None, and of last states."""
    call = call.backward()
    layout, names, sizes = call.layout, call.names, call.sizes
    replicates, batch = layout.place.shape
    d_outputs, d_last = upstream

    def of_rows(shapes: Iterable[Shape], dtype: torch.dtype) -> Tensor:
        return layout.new_rows((replicates, layout.rows, sizes.total([*shapes])), dtype)

    d_sums = of_rows(map(names.shape, names.sums_in_order), call.stored)
    vectors = of_rows(map(names.shape, names.computed), call.stored)
    d_x = of_rows(map(names.shape, names.derived_frames), torch.float32)
    width = sizes.total([shape for _, shape in names.summed])
    d_rows = torch.empty(replicates, call.tiles * call.tiling.rows, width, dtype=torch.float32, device=last.device)
    d_first = torch.empty_like(given.first)
    given_outputs = last if d_outputs is None else d_outputs
    with launched_on(last.device), compiling(call.precision):
        call.kernels.backward[call.grid()](
            *(layout.place, layout.length, layout.start, layout.reverse),
            *(given.inner, given.invariant, last, saved),
            *(given_outputs, d_last, d_first, d_sums, vectors, d_rows, *call.workspace(last)),
            *((given.frames, d_x) if names.frames else ()),
            *_of_masks(given.masks),
            *(call.tiles, batch, layout.steps, layout.rows),
            **call.constants(),
            GIVEN=d_outputs is not None,
        )
    of_rows_read = RowsOfBackward(saved, d_sums, vectors, d_x, d_rows)
    return derivatives(names, sizes, given, of_rows_read, d_first, through_frames=through_frames)
