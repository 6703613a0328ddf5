"""Compute the derivatives of weights and frames from what the backward pass wrote of every row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cello.cells.graph import Shape
from cello.compiler.triton.names import Names
from cello.compiler.triton.spaces import Sizes
from cello.compiler.triton.stacked import Derivatives, StackedInputs, interleaved_rows, packs


@dataclass(frozen=True, eq=False)
class RowsOfBackward:
    """What both passes wrote: of every row (R, rows, elements) what forward saved, the derivatives of sums, vectors of
    products, and derivatives of the frame where it is used element by element; and of every clip of a program the
    derivatives of what is the same at every step."""

    saved: Tensor
    d_sums: Tensor
    vectors: Tensor
    d_x: Tensor
    d_invariants: Tensor


def derivatives(
    names: Names, sizes: Sizes, given: StackedInputs, rows: RowsOfBackward, d_first: Tensor, *, through_frames: bool
) -> Derivatives:
    """Of all that was given, of frames only if wanted."""
    return _Gradients(names, sizes, given, rows).all(d_first, through_frames=through_frames)


def products_over_rows(left: Tensor, right: Tensor) -> Tensor:
    """leftᵀ @ right over all rows, in float32 where torch can return it from bfloat16."""
    left, right = left.transpose(1, 2), right.to(left.dtype)
    if left.dtype is torch.bfloat16 and left.is_cuda and hasattr(torch.ops.aten.bmm, "dtype"):
        return torch.bmm(left, right, out_dtype=torch.float32)
    return torch.bmm(left, right).float()


class _Gradients:
    def __init__(self, names: Names, sizes: Sizes, given: StackedInputs, rows: RowsOfBackward) -> None:
        self.names, self.sizes, self.given, self.rows = names, sizes, given, rows
        self.invariant = torch.zeros_like(given.invariant)
        self.wide = torch.zeros_like(given.wide)
        self.inner = torch.zeros_like(given.inner)

    def all(self, d_first: Tensor, *, through_frames: bool) -> Derivatives:
        names = self.names
        for (k, _), span in zip(names.summed, self._spans([shape for _, shape in names.summed]), strict=True):
            self._add_invariant(k, self.rows.d_invariants[:, :, span].sum(1))
        self._add_of_frames()
        for vector in names.plan.vectors:
            if vector in names.old or vector in names.computed:
                self._add_of_vector(vector)
        frames = self._frames() if through_frames else None
        return Derivatives(frames, self.wide, self.inner, self.invariant, d_first)

    def _spans(self, shapes: Sequence[Shape]) -> list[slice]:
        return self.sizes.spans(shapes)

    def _of_nodes(self, nodes: Sequence[int]) -> dict[int, slice]:
        """Where each of some nodes' values lies, side by side."""
        return dict(zip(nodes, self._spans([self.names.shape(k) for k in nodes]), strict=True))

    def _add_invariant(self, k: int, value: Tensor) -> None:
        """Add (R, elements) to a loop-invariant value's derivative, all elements to that of a number."""
        total = value if self.names.shape(k) else value.sum(1, keepdim=True)
        self.invariant[:, self._of_nodes(self.names.plan.invariant)[k]] += total

    def _cover(self, wanted: Sequence[int]) -> tuple[int, int]:
        """The packs of sums from the first to the last that holds one of these."""
        found = [n for n, pack in enumerate(self.names.sums) if any(k in pack for k in wanted)]
        return found[0], found[-1] + 1

    def _side(self, cover: tuple[int, int]) -> Tensor:
        """The derivatives of these packs of sums, (R, rows, elements), where they lie."""
        spans, before = self._of_nodes(self.names.sums_in_order), sum(map(len, self.names.sums[: cover[0]]))
        inside = self.names.sums_in_order[before : before + sum(map(len, self.names.sums[slice(*cover)]))]
        return self.rows.d_sums[:, :, spans[inside[0]].start : spans[inside[-1]].stop]

    def _parts(self, found: Tensor, cover: tuple[int, int]) -> dict[int, Tensor]:
        """Of each sum in these packs its rows (R, elements, ...) of what was multiplied with all of them."""
        groups = self.names.sums[slice(*cover)]
        pieces = torch.split(found, [self.sizes.total([self.names.shape(k) for k in pack]) for pack in groups], 1)
        parts: dict[int, Tensor] = {}
        for pack, piece in zip(groups, pieces, strict=True):
            rows = piece.reshape(len(piece), -1, len(pack), *piece.shape[2:])
            parts |= {k: rows[:, :, n] for n, k in enumerate(pack)}
        return parts

    def _add_of_frames(self) -> None:
        """Of each matrix of frames Σ d_sum ⊗ x over all rows; beside x stands a 1, which gives those of biases."""
        names, frames, d_sums = self.names, self.given.frames, self.rows.d_sums
        if not names.sums:
            return
        values = torch.cat([frames, frames.new_ones(*frames.shape[:2], 1)], 2)
        product = products_over_rows(d_sums, values.expand(len(d_sums), -1, -1))
        parts = self._parts(product, (0, len(names.sums)))
        for k, span in self._of_nodes(names.with_frame).items():
            if k in parts:
                self.wide[:, span] = parts[k][..., :-1]
        for k, of in names.biases.items():
            self._add_invariant(k, parts[of][..., -1])

    def _add_of_vector(self, vector: int) -> None:
        """Of each matrix that multiplies a vector Σ d_sum ⊗ vector, over all rows."""
        names, live = self.names, self.names.sums_in_order
        pairs = [(k, m) for k, m in names.products_of(vector) if k in live and m not in names.plan.constant]
        if not pairs:
            return
        cover = self._cover([k for k, _ in pairs])
        parts = self._parts(products_over_rows(self._side(cover), self._values(vector)), cover)
        spans = self._of_nodes(names.inner)
        for k, m in pairs:
            self.inner[:, spans[m]] += parts[k].flatten(1)

    def _values(self, vector: int) -> Tensor:
        """A vector's values at every row, (R, rows, elements)."""
        names, rows = self.names, self.rows
        if vector not in names.old:
            return rows.vectors[:, :, self._of_nodes(names.computed)[vector]]
        wanted = f"old_{names.states[names.old[vector]]}"
        number = next(n for n, pack in enumerate(names.saved) if wanted in pack)
        before = [names.saved_shapes[name] for pack in names.saved[:number] for name in pack]
        begin, pack = self.sizes.total(before), names.saved[number]
        end = begin + len(pack) * self.sizes.of(names.shape(vector))
        return rows.saved[:, :, begin:end][:, :, pack.index(wanted) :: len(pack)]

    def _frames(self) -> Tensor:
        """Of frames, through products and where they are used element by element."""
        names, dtype = self.names, self.given.frames.dtype
        found = self._through_products()
        for k, span in self._of_nodes(names.derived_frames).items():
            begin = self.sizes.begin(names.nodes[k])
            found[:, :, begin : begin + span.stop - span.start] += self.rows.d_x[:, :, span].to(dtype)
        return found

    def _through_products(self) -> Tensor:
        names = self.names
        live = [k for k in names.sums_in_order if k in names.with_frame]
        if not live:
            return torch.zeros_like(self.given.frames)
        cover, spans = self._cover(live), self._of_nodes(names.with_frame)
        groups = names.sums[slice(*cover)]
        replicates, _, inputs = self.given.wide.shape
        rows = [
            self.given.wide[:, spans[k]]
            if k in live
            else self.given.wide.new_zeros(replicates, self.sizes.of(names.shape(k)), inputs)
            for pack in groups
            for k in pack
        ]
        matrices = interleaved_rows(torch.cat(rows, 1), packs(names, groups), self.sizes)
        side = self._side(cover)
        return torch.bmm(side, matrices.to(side.dtype)).to(self.given.frames.dtype)
