"""Launch a cell's Triton kernels on tensors: all steps forward, and all backward, of any number of replicates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import accumulate
from math import prod
from typing import Any

import torch
from torch import Tensor

from cello.cells.graph import Shape
from cello.compiler.triton.build import Kernels, compiling, told_if_not_compiled
from cello.compiler.triton.cooperative import (
    CrowdedError,
    Part,
    aligned,
    launch_options,
    of_whole_tiles,
    parts,
    told_if_refused,
)
from cello.compiler.triton.names import Names
from cello.compiler.triton.spaces import Sizes, is_sized
from cello.compiler.triton.stacked import Derivatives, StackedInputs, interleaved_rows, packs
from cello.compiler.triton.text import is_exact, names_of, waits
from cello.compiler.triton.weight_gradients import RowsOfBackward, derivatives

REGISTERS = 1 << 16
"""Those that all threads of a program have together."""


@dataclass(frozen=True)
class Tiling:
    """How the work is divided: clips of a program, units rounded up to a power of two, warps.

    ``split`` programs share the units of the same clips, and are a ``cluster`` or wait for each other in memory; what a
    step reads is asked for ``stages`` - 1 steps before. ``all_registers`` says that a thread may have all it can: by
    itself, the assembler keeps values in memory if half as many registers then nearly do, so that twice as many
    programs could run at once. ``reread`` is that of :class:`Names`.
    """

    rows: int
    units: int
    warps: int
    split: int = 1
    stages: int = 3
    all_registers: bool = False
    reread: str = ""
    cluster: bool = False

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
    at_once: tuple[int | None, int | None] = (None, None)
    """Programs that run at the same time, forward and backward, where those that share units are launched
    cooperatively; None: all."""
    surely: int | None = None
    """Programs of which as many run at the same time whatever they take; None: all."""
    by_clips: Callable[[Call, str], Call] | None = None
    """How the work of a pass is divided for as many replicates and clips as there are; None: as here."""

    def of_clips(self, way: str) -> Call:
        """The same, as the pass "forward" or "backward" is divided for these clips."""
        return self.by_clips(self, way) if self.by_clips is not None else self

    def backward(self) -> Call:
        """The same, as backward is launched."""
        return replace(self, tiling=self.of_backward or self.tiling, at_once=self.at_once[::-1])

    def fewer(self) -> Call:
        """The same, in launches of no more programs than surely run at once."""
        return replace(self, at_once=(self.surely, self.at_once[1]))

    @property
    def tiles(self) -> int:
        """Programs that clips are shared out to."""
        return -(-self.layout.place.shape[1] // self.tiling.rows)

    @property
    def parts(self) -> list[Part]:
        """The launches."""
        at_once = self.at_once[0] if self.tiling.split > 1 and not self.tiling.cluster else None
        return parts(len(self.layout.place), self.tiles, self.tiling.split, at_once)

    def grid(self, part: Part) -> tuple[int, int]:
        """The programs of a launch; those that share clips follow each other, so that they run at the same time."""
        split = 1 if self.layout.place.is_cpu else self.tiling.split
        return part.tiles * split, part.replicates

    @property
    def large(self) -> bool:
        """Whether places in the tensors need more than 31 bits."""
        replicates, batch = self.layout.place.shape
        rows = replicates * max(batch * self.layout.steps, self.layout.rows)
        names, total = self.names, self.sizes.total
        parts = names.with_frame, names.sums_in_order, names.computed, names.derived_frames
        of_frames = self.sizes.inputs if names.frames else 1
        most = max(of_frames, *(total([*map(names.shape, items)]) for items in parts))
        return max(rows * max(most, saved_width(names, self.sizes)), self._workspace_size) >= 2**31

    @property
    def _workspace_size(self) -> int:
        """The elements that programs leave to each other, or to themselves."""
        if self.names.in_blocks:
            return self.tiles * len(self.layout.place) * self.tiling.rows * 2 * half(self.names, self.sizes)
        if self.tiling.split == 1 or self.tiling.cluster:
            return 0
        names = names_of(self.sizes.cell, self.tiling.reread, exact=is_exact(self.precision))
        slots = names.slots + names.sums_left * self.tiling.split
        a_team = 2 * slots * self.tiling.rows * widest(self.names, self.tiling, self.sizes)
        return self._teams * a_team

    @property
    def _teams(self) -> int:
        """Groups of programs that share clips, of the largest launch."""
        return max(part.tiles * part.replicates for part in self.parts)

    def workspace(self, like: Tensor) -> Tensor:
        """Where programs that share clips leave vectors to each other, a row for each launch: elements of 32 bits, and
        with each the number of the meeting at which it was left, of which there is none yet."""
        new = torch.empty if self.names.in_blocks else torch.zeros  # in blocks a program leaves values to itself alone
        dtype = torch.float32 if self.names.in_blocks else torch.int64
        return new(len(self.parts), self._workspace_size, dtype=dtype, device=like.device)

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
        "CLUSTER": tiling.cluster,
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
    if not names.matrices:
        found |= {"ALIGNED": packs_aligned(names, sizes), "SAVED": saved_width(names, sizes)}
    if names.in_blocks:
        found["HALF"] = half(names, sizes)
    if names.frames:
        found["FRAME"] = sizes.inputs
    return found | {name: sizes.begin(names.nodes[k]) for k, name in names.begins.items()}


def packs_aligned(names: Names, sizes: Sizes) -> bool:
    """Whether packs of tiles begin, and rows end, at multiples of 4: a thread may then move those of a unit as one."""
    of_saved = [[names.saved_shapes[name] for name in pack] for pack in names.saved]
    of_sums = ([[*map(names.shape, pack)] for pack in packs] for packs in (names.projected, names.sums))
    for row in (of_saved, *of_sums):
        begins = [0, *accumulate(map(sizes.total, row))]
        width = saved_width(names, sizes) if row is of_saved else begins[-1]
        packed = [begin for begin, pack in zip(begins, row, strict=False) if len(pack) > 1]
        if packed and any(place % 4 for place in (*packed, width)):
            return False
    return True


def saved_width(names: Names, sizes: Sizes) -> int:
    """The elements from one row that backward reads to the next, a multiple of 4 where packs of tiles lie in it."""
    total = sizes.total([*names.saved_shapes.values()])
    return total if names.matrices else -(-total // 4) * 4


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


_CROWDED: set[tuple[object, ...]] = set()
"""Passes of kernels of which fewer programs run at once than their tiling's figures say."""


def _launch(
    call: Call,
    way: str,
    first: Sequence[Tensor],
    further: Sequence[Tensor],
    strides: Sequence[int],
    **constant: bool,
) -> int:
    """All launches of a pass, and how many there were.

    Tensors (R, ...) are in the order of its arguments, before and after the workspace, masks last. Of backward, the
    last of the first ones has a row for each clip of a tile.
    """
    # for other types or constants a kernel may take more than what it was chosen by
    kind = call.layout.place.device, first[0].dtype, call.large
    key = way, call.tiling, call.precision, call.sizes, *kind, *constant.values()
    call = call.fewer() if key in _CROWDED else call
    try:
        return _launched(call, way, first, further, strides, constant)
    except CrowdedError:
        if call.at_once[0] == call.surely:
            raise
        _CROWDED.add(key)
        return _launched(call.fewer(), way, first, further, strides, constant)


def _launched(
    call: Call,
    way: str,
    first: Sequence[Tensor],
    further: Sequence[Tensor],
    strides: Sequence[int],
    constant: dict[str, bool],
) -> int:
    layout, rows, every = call.layout, call.tiling.rows, call.parts
    clips: list[Tensor] = [layout.place, layout.length, layout.start]
    if any(part.tile for part in every):
        clips = [of_whole_tiles(each, rows) for each in clips]
    workspace = call.workspace(first[0])
    meeting = {"waits": waits(call.sizes.cell, way, call.tiling.reread), "cluster": call.tiling.cluster}
    fixed = call.constants() | launch_options(call.tiling.split, **meeting) | constant
    masks = len(further) - len(call.names.plan.masks)
    what = f"{way} kernel of cell {call.sizes.cell.name!r} for H={call.sizes.hidden}"
    of_products = f"{what} and products in {call.precision}"
    with launched_on(layout.place.device), compiling(call.precision), told_if_not_compiled(of_products):
        for part, vectors in zip(every, workspace, strict=True):
            own, beside, where = [*first], [*further], [*clips, layout.reverse]
            if len(every) > 1:
                of, begin = part.of_replicates, part.tile * rows
                own, beside = [each[of] for each in own], [each[of] for each in beside]
                where = [aligned(each[of, begin:]) for each in clips] + [aligned(layout.reverse[of])]
                if way == "backward":
                    own[-1] = own[-1][:, begin:]
            given = [*beside[:masks], *(one for mask in beside[masks:] for one in (mask, *mask.stride()[:3]))]
            grid = call.grid(part)
            with told_if_refused(what, prod(grid), call.tiling.split, **meeting):
                getattr(call.kernels, way)[grid](
                    *(*where, *own, vectors, *given),
                    *(part.tiles, layout.place.shape[1], layout.steps, layout.rows, *strides),
                    **fixed,
                )
    return len(every)


def run_forward(call: Call, given: StackedInputs, *, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs (R, B, T, elements), last states as first ones, and what backward reads of every row."""
    call = call.of_clips("forward")
    layout, names, sizes = call.layout, call.names, call.sizes
    replicates, batch = layout.place.shape
    like = given.frames
    projected = input_projections(call, given)
    new = torch.empty if layout.whole else torch.zeros
    width = sizes.of(names.state_shapes[0])
    outputs = new(replicates, batch, layout.steps, width, dtype=like.dtype, device=like.device)
    last = torch.empty_like(given.first)
    shape = (replicates, layout.rows, saved_width(names, sizes)) if keep else (0,)
    saved = layout.new_rows(shape, torch.float32 if names.digits.all else call.stored)
    _launch(
        call,
        "forward",
        (projected, given.inner, given.invariant, given.first, last, outputs, saved),
        (*((given.frames,) if names.frames else ()), *given.masks),
        (projected.stride(1), projected.stride(0)),
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
    call = call.backward().of_clips("backward")
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
    launches = _launch(
        call,
        "backward",
        (given.inner, given.invariant, last, saved, given_outputs, d_last, d_first, d_sums, vectors, d_rows),
        (*((given.frames, d_x) if names.frames else ()), *given.masks),
        (),
        GIVEN=d_outputs is not None,
    )
    if launches > 1:
        d_rows = d_rows[:, :batch]  # of clips that were computed several times once
    of_rows_read = RowsOfBackward(saved, d_sums, vectors, d_x, d_rows)
    return derivatives(names, sizes, given, of_rows_read, d_first, through_frames=through_frames)
