"""Compute the derivatives of weights and frames from what the backward pass wrote of every row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def _ones(frames: Tensor) -> Tensor:
    return frames.new_ones(1).expand(*frames.shape[:2], 1)


class _Sums:
    """Derivatives of values that stand one after another, (R, N), to which products add.

    On a GPU each of these small operations takes longer to start than to run, so neighbours are written as one, and
    nothing is set to zero that is written afterwards.
    """

    def __init__(self, like: Tensor, spans: Mapping[int, slice]) -> None:
        self.values, self.spans, self.done = torch.empty_like(like), spans, set[int]()

    def add(self, places: Sequence[tuple[int, int]], found: Tensor) -> None:
        """Add to nodes' derivatives, each what stands at a number in the second dimension of what was found."""
        begin = 0
        while begin < len(places):
            end = begin + 1
            while end < len(places) and self._follows(places[end - 1], places[end]):
                end += 1
            nodes, first = [k for k, _ in places[begin:end]], places[begin][1]
            self._add(nodes, found[:, first : first + len(nodes)])
            begin = end

    def _follows(self, one: tuple[int, int], other: tuple[int, int]) -> bool:
        alike = (one[0] in self.done) == (other[0] in self.done)
        return alike and one[1] + 1 == other[1] and self.spans[one[0]].stop == self.spans[other[0]].start

    def _add(self, nodes: Sequence[int], found: Tensor) -> None:
        target = self.values[:, self.spans[nodes[0]].start : self.spans[nodes[-1]].stop]
        target = target.view(found.shape)
        if nodes[0] in self.done:
            target.add_(found)
        else:
            target.copy_(found)
        self.done.update(nodes)

    def whole(self) -> Tensor:
        """All of them, zero where nothing was added."""
        for span in (span for k, span in self.spans.items() if k not in self.done):
            self.values[:, span].zero_()
        return self.values


class _Gradients:
    def __init__(self, names: Names, sizes: Sizes, given: StackedInputs, rows: RowsOfBackward) -> None:
        self.names, self.sizes, self.given, self.rows = names, sizes, given, rows
        self.invariant = _Sums(given.invariant, self._of_nodes(names.plan.invariant))
        self.wide = _Sums(given.wide, self._of_nodes(names.with_frame))
        self.inner = _Sums(given.inner, self._of_matrices())

    def all(self, d_first: Tensor, *, through_frames: bool) -> Derivatives:
        names = self.names
        for (k, _), span in zip(names.summed, self._spans([shape for _, shape in names.summed]), strict=True):
            self._add_invariant(k, self.rows.d_invariants[:, :, span].sum(1))
        for cover, vectors in self._multiplied().items():
            self._add_products(cover, vectors)
        frames = self._frames() if through_frames else None
        return Derivatives(frames, self.wide.whole(), self.inner.whole(), self.invariant.whole(), d_first)

    def _spans(self, shapes: Sequence[Shape]) -> list[slice]:
        return self.sizes.spans(shapes)

    def _of_nodes(self, nodes: Sequence[int]) -> dict[int, slice]:
        """Where each of some nodes' values lies, side by side."""
        return dict(zip(nodes, self._spans([self.names.shape(k) for k in nodes]), strict=True))

    def _of_matrices(self) -> dict[int, slice]:
        return self._of_nodes(self.names.inner)

    def _add_invariant(self, k: int, value: Tensor) -> None:
        """Add (R, elements) to a loop-invariant value's derivative, all elements to that of a number."""
        self.invariant.add([(k, 0)], (value if self.names.shape(k) else value.sum(1, keepdim=True)).unsqueeze(1))

    def _cover(self, wanted: Sequence[int]) -> tuple[int, int]:
        """The packs of sums from the first to the last that holds one of these."""
        found = [n for n, pack in enumerate(self.names.sums) if any(k in pack for k in wanted)]
        return found[0], found[-1] + 1

    def _side(self, cover: tuple[int, int]) -> Tensor:
        """The derivatives of these packs of sums, (R, rows, elements), where they lie."""
        spans, before = self._of_nodes(self.names.sums_in_order), sum(map(len, self.names.sums[: cover[0]]))
        inside = self.names.sums_in_order[before : before + sum(map(len, self.names.sums[slice(*cover)]))]
        return self.rows.d_sums[:, :, spans[inside[0]].start : spans[inside[-1]].stop]

    def _multiplied(self) -> dict[tuple[int, int], list[int | None]]:
        """By packs of sums the vectors that their derivatives are multiplied with, as one matrix; None stands for the
        frames, and a 1 beside them, which gives the derivatives of biases."""
        names = self.names
        found: dict[tuple[int, int], list[int | None]] = {(0, len(names.sums)): [None]} if names.sums else {}
        for vector in names.plan.vectors:
            sums = [k for k, _ in self._products(vector)]
            if sums and (vector in names.old or vector in names.computed):
                found.setdefault(self._cover(sums), []).append(vector)
        return found

    def _products(self, vector: int) -> list[tuple[int, int]]:
        """The sums with a derivative in which a vector is multiplied with a matrix that is learned, and these."""
        live, constant = self.names.sums_in_order, self.names.plan.constant
        return [(k, m) for k, m in self.names.products_of(vector) if k in live and m not in constant]

    def _add_products(self, cover: tuple[int, int], vectors: Sequence[int | None]) -> None:
        """Of each matrix that multiplies one of the vectors Σ d_sum ⊗ vector, over all rows."""
        side, frames = self._side(cover), self.given.frames
        values = [part for v in vectors for part in ([frames, _ones(frames)] if v is None else [self._values(v)])]
        values = [each.expand(len(side), -1, -1) for each in values]
        product = products_over_rows(side, torch.cat(values, 2) if len(values) > 1 else values[0])
        groups, begin = self.names.sums[slice(*cover)], 0
        extents = [self.sizes.total([self.names.shape(k) for k in pack]) for pack in groups]
        pieces = [
            (pack, piece.reshape(len(piece), -1, len(pack), piece.shape[2]).transpose(1, 2))
            for pack, piece in zip(groups, torch.split(product, extents, 1), strict=True)
        ]
        for v in vectors:
            end = begin + (frames.shape[2] if v is None else self.sizes.of(self.names.shape(v)))
            for pack, piece in pieces:
                if v is None:
                    self._add_of_frames(pack, piece[..., begin:end], piece[..., end])
                else:
                    self._add_of_vector(v, pack, piece[..., begin:end])
            begin = end + (v is None)

    def _add_of_frames(self, pack: Sequence[int], found: Tensor, biases: Tensor) -> None:
        """Of a pack's sums what their matrices of frames have (R, sums, elements, D), and their biases."""
        self.wide.add([(k, n) for n, k in enumerate(pack) if k in self.wide.spans], found)
        of = [(k, pack.index(total)) for k, total in self.names.biases.items() if total in pack]
        self.invariant.add([(k, n) for k, n in of if self.names.shape(k)], biases)
        for k, n in of:
            if not self.names.shape(k):
                self._add_invariant(k, biases[:, n])

    def _add_of_vector(self, vector: int, pack: Sequence[int], found: Tensor) -> None:
        """Of a pack's sums (R, sums, elements, elements of a vector) what the matrices have that multiply it there."""
        self.inner.add([(m, pack.index(k)) for k, m in self._products(vector) if k in pack], found)

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
