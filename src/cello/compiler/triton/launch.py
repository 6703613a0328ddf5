"""Launch a cell's Triton kernels on tensors: all steps forward, and all backward, of any number of replicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cello.compiler.triton.build import Kernels
from cello.compiler.triton.names import Names, offsets


@dataclass(frozen=True)
class Tiling:
    """How the work is divided: clips of a program, units rounded up to a power of two, warps.

    ``split`` programs share the units of the same clips; what a step reads is asked for ``stages`` - 1 steps before.
    """

    rows: int
    units: int
    warps: int
    split: int = 1
    stages: int = 3

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
class StackedInputs:
    """A cell's tensors, stacked: square matrices (R, M, H, H), matrices of frames (R, N, H, D), loop-invariant values
    (R, I, H), masks (R, B, T, H), first states (R, S, B, H); frames (R, rows, D)."""

    frames: Tensor
    wide: Tensor
    square: Tensor
    invariant: Tensor
    masks: tuple[Tensor, ...]
    first: Tensor


@dataclass(frozen=True, eq=False)
class Call:
    """A cell's kernels, its clips, how to compute, and whether backward may follow."""

    names: Names
    kernels: Kernels
    layout: BatchLayout
    tiling: Tiling
    precision: str
    keep: bool = True

    @property
    def tiles(self) -> int:
        """Programs that clips are shared out to."""
        return -(-self.layout.place.shape[1] // self.tiling.rows)

    def grid(self) -> tuple[int, int]:
        """All programs; those that share clips follow each other, so that they run at the same time."""
        split = 1 if self.layout.place.is_cpu else self.tiling.split
        return self.tiles * split, len(self.layout.place)

    def large(self, hidden: int) -> bool:
        """Whether places in the tensors need more than 31 bits."""
        replicates, batch = self.layout.place.shape
        rows = replicates * max(batch * self.layout.steps, self.layout.rows)
        widest = max(1, self.names.width, len(self.names.with_frame), sum(map(len, self.names.sums)))
        return rows * widest * hidden >= 2**31

    def workspace(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Where programs that share clips leave vectors to each other, and count how many are there."""
        teams = self.tiles * len(self.layout.place) if self.tiling.split > 1 else 0
        size = teams * 2 * self.names.slots * self.tiling.rows * self.tiling.units
        vectors = torch.empty(size, dtype=torch.float32, device=like.device)
        return vectors, torch.zeros(teams, dtype=torch.int32, device=like.device)

    @property
    def stored(self) -> torch.dtype:
        """What values of a row are stored in between passes: no more digits than products have of them."""
        return torch.bfloat16 if self.precision.startswith("bf16") else torch.float32

    def constants(self, hidden: int) -> dict[str, Any]:
        """What the kernels are compiled for, and how."""
        own = constants(self.tiling, hidden, self.precision, large=self.large(hidden))
        return {**own, **options(self.tiling)}


def constants(tiling: Tiling, hidden: int, precision: str, *, large: bool) -> dict[str, Any]:
    """The constants that both passes are compiled for."""
    return {
        "H": hidden,
        "UNITS": tiling.units,
        "ROWS": tiling.rows,
        "PRECISION": precision,
        "OWN": tiling.own,
        "WHOLE": hidden == tiling.units,
        "SPLIT": tiling.split,
        "STAGES": tiling.stages,
        "LARGE": large,
    }


def options(tiling: Tiling) -> dict[str, Any]:
    """How Triton is to compile them."""
    return {"num_warps": tiling.warps, "enable_fp_fusion": True}


def _of_masks(masks: Sequence[Tensor]) -> list[Any]:
    return [part for mask in masks for part in (mask, *mask.stride()[:3])]


def interleaved_rows(matrices: Tensor, groups: Sequence[Sequence[object]]) -> Tensor:
    """Matrices (R, N, H, D) as (R, N · H, D), with rows in the order in which packed tiles have them."""
    parts = [matrices[:, a : a + count].transpose(1, 2).flatten(1, 2) for a, count in offsets(groups)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def input_projections(call: Call, given: StackedInputs) -> Tensor:
    """The products of all frames with their matrices, (R, rows, N · H)."""
    if not call.names.projected:
        return given.frames.new_zeros(len(given.frames), 1, 1)
    return torch.bmm(given.frames, interleaved_rows(given.wide, call.names.projected).transpose(1, 2))


def products_over_rows(left: Tensor, right: Tensor) -> Tensor:
    """leftᵀ @ right over all rows, in float32 where torch can return it from bfloat16."""
    left, right = left.transpose(1, 2), right.to(left.dtype)
    if left.dtype is torch.bfloat16 and left.is_cuda and hasattr(torch.ops.aten.bmm, "dtype"):
        return torch.bmm(left, right, out_dtype=torch.float32)
    return torch.bmm(left, right).float()


def run_forward(call: Call, given: StackedInputs, *, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs (R, B, T, H), last states (R, S, B, H), and what backward reads of every row."""
    layout, names = call.layout, call.names
    (replicates, batch), hidden = layout.place.shape, given.first.shape[-1]
    like = given.frames
    projected = input_projections(call, given)
    new = torch.empty if layout.whole else torch.zeros
    outputs = new(replicates, batch, layout.steps, hidden, dtype=like.dtype, device=like.device)
    last = torch.empty_like(given.first)
    shape = (replicates, layout.rows, names.width, hidden) if keep else (0,)
    saved = layout.new_rows(shape, call.stored)
    call.kernels.forward[call.grid()](
        *(layout.place, layout.length, layout.start, layout.reverse),
        *(projected, given.square, given.invariant, given.first, last, outputs, saved, *call.workspace(like)),
        *_of_masks(given.masks),
        *(call.tiles, batch, layout.steps, layout.rows, projected.stride(1), projected.stride(0)),
        **call.constants(hidden),
        KEEP=keep,
    )
    return outputs, last, saved


@dataclass(frozen=True, eq=False)
class Derivatives:
    """As :class:`StackedInputs`: of frames (if wanted), of matrices, of loop-invariant values and of first states."""

    frames: Tensor | None
    wide: Tensor
    square: Tensor
    invariant: Tensor
    first: Tensor


def run_backward(
    call: Call,
    given: StackedInputs,
    last: Tensor,
    saved: Tensor,
    upstream: tuple[Tensor | None, Tensor],
    *,
    through_frames: bool,
) -> Derivatives:
    """The derivatives of what was given from those of outputs (R, B, T, H), or None, and of last states."""
    layout, names = call.layout, call.names
    (replicates, batch), hidden = layout.place.shape, given.first.shape[-1]
    d_outputs, d_last = upstream

    d_sums = layout.new_rows((replicates, layout.rows, sum(map(len, names.sums)) * hidden), call.stored)
    vectors = layout.new_rows((replicates, layout.rows, len(names.computed), hidden), call.stored)
    d_rows = torch.empty(replicates, call.tiles * call.tiling.rows, len(names.summed), hidden, device=last.device)
    d_first = torch.empty_like(given.first)
    call.kernels.backward[call.grid()](
        *(layout.place, layout.length, layout.start, layout.reverse),
        *(given.square, given.invariant, last, saved),
        *(last if d_outputs is None else d_outputs, d_last, d_first, d_sums, vectors, d_rows, *call.workspace(last)),
        *_of_masks(given.masks),
        *(call.tiles, batch, layout.steps, layout.rows),
        **call.constants(hidden),
        GIVEN=d_outputs is not None,
    )
    found = Derivatives(
        _of_frames(names, given, d_sums) if through_frames else None,
        torch.zeros_like(given.wide),
        torch.zeros_like(given.square),
        torch.zeros_like(given.invariant),
        d_first,
    )
    for n, k in enumerate(names.summed):
        found.invariant[:, names.plan.invariant.index(k)] = d_rows[:, :, n].sum(1)
    _add_of_frames(found, names, given, d_sums)
    for vector in names.plan.vectors:
        if vector in names.old or vector in names.computed:
            _add_of_vector(found, names, vector, _rows_of(names, vector, given, saved, vectors), d_sums)
    return found


def _cover(names: Names, wanted: Sequence[int]) -> tuple[int, int]:
    """The packs of sums from the first to the last that holds one of these."""
    found = [n for n, pack in enumerate(names.sums) if any(k in pack for k in wanted)]
    return found[0], found[-1] + 1


def _side(names: Names, d_sums: Tensor, hidden: int, cover: tuple[int, int]) -> Tensor:
    """The derivatives of these packs of sums, (R, rows, n · H), where they lie."""
    begins = [begin for begin, _ in offsets(names.sums)] + [sum(map(len, names.sums))]
    return d_sums[:, :, begins[cover[0]] * hidden : begins[cover[1]] * hidden]


def _parts(names: Names, found: Tensor, cover: tuple[int, int], hidden: int) -> dict[int, Tensor]:
    """Of each sum in these packs its rows (R, H, ...) of what was multiplied with all of them."""
    parts: dict[int, Tensor] = {}
    begin = 0
    for pack in names.sums[cover[0] : cover[1]]:
        end = begin + len(pack) * hidden
        piece = found[:, begin:end]
        rows = piece.reshape(len(piece), hidden, len(pack), *piece.shape[2:])
        parts |= {k: rows[:, :, n] for n, k in enumerate(pack)}
        begin = end
    return parts


def _add_of_frames(found: Derivatives, names: Names, given: StackedInputs, d_sums: Tensor) -> None:
    """Of each matrix of frames Σ d_sum ⊗ x over all rows; beside x stands a 1, which gives those of biases."""
    if not names.sums:
        return
    values = torch.cat([given.frames, given.frames.new_ones(*given.frames.shape[:2], 1)], 2)
    product = products_over_rows(d_sums, values.expand(len(d_sums), -1, -1))
    parts = _parts(names, product, (0, len(names.sums)), given.first.shape[-1])
    for n, k in enumerate(names.with_frame):
        if k in parts:
            found.wide[:, n] = parts[k][..., :-1]
    for k, of in names.biases.items():
        found.invariant[:, names.plan.invariant.index(k)] = parts[of][..., -1]


def _add_of_vector(found: Derivatives, names: Names, vector: int, values: Tensor, d_sums: Tensor) -> None:
    """Of each matrix that multiplies a vector Σ d_sum ⊗ vector, over all rows."""
    live, hidden = {k for pack in names.sums for k in pack}, values.shape[-1]
    pairs = [(k, m) for k, m in names.products_of(vector) if k in live and m not in names.plan.constant]
    if not pairs:
        return
    cover = _cover(names, [k for k, _ in pairs])
    product = products_over_rows(_side(names, d_sums, hidden, cover), values)
    parts = _parts(names, product, cover, hidden)
    for k, m in pairs:
        found.square[:, names.square.index(m)] += parts[k]


def _rows_of(names: Names, vector: int, given: StackedInputs, saved: Tensor, vectors: Tensor) -> Tensor:
    """A vector's values at every row, (R, rows, H or D)."""
    if names.is_frame(vector):
        return given.frames
    if vector not in names.old:
        return vectors[:, :, names.computed.index(vector)]
    wanted = f"old_{names.states[names.old[vector]]}"
    number = next(n for n, pack in enumerate(names.saved) if wanted in pack)
    (begin, count), hidden = offsets(names.saved)[number], given.first.shape[-1]
    interleaved = saved.flatten(2)[:, :, begin * hidden : (begin + count) * hidden]
    return interleaved[:, :, names.saved[number].index(wanted) :: count]


def _of_frames(names: Names, given: StackedInputs, d_sums: Tensor) -> Tensor:
    live = [k for pack in names.sums for k in pack if k in names.with_frame]
    if not live:
        return torch.zeros_like(given.frames)
    cover, hidden = _cover(names, live), given.first.shape[-1]
    groups = names.sums[cover[0] : cover[1]]
    none = torch.zeros_like(given.wide[:, 0])
    rows = [given.wide[:, names.with_frame.index(k)] if k in live else none for pack in groups for k in pack]
    matrices = interleaved_rows(torch.stack(rows, 1), groups)
    return torch.bmm(_side(names, d_sums, hidden, cover), matrices.to(d_sums.dtype)).to(given.frames.dtype)
