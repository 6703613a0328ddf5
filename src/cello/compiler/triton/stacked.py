"""Define how a cell's tensors are stacked for its kernels, of any number of replicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cello.cells.graph import Shape
from cello.compiler.triton.names import Names
from cello.compiler.triton.spaces import Sizes


@dataclass(frozen=True, eq=False)
class StackedInputs:
    """A cell's tensors, one after another: the matrices of frames (R, N, D), for sums of N elements together; all
    elements of matrices that multiply in the loop (R, M), of loop-invariant values (R, I) and of first states, state by
    state (R, S); masks (R, B, T, elements); frames (R, rows, D)."""

    frames: Tensor
    wide: Tensor
    inner: Tensor
    invariant: Tensor
    masks: tuple[Tensor, ...]
    first: Tensor


@dataclass(frozen=True, eq=False)
class Derivatives:
    """As :class:`StackedInputs`: of frames (if wanted), of matrices, of loop-invariant values and of first states."""

    frames: Tensor | None
    wide: Tensor
    inner: Tensor
    invariant: Tensor
    first: Tensor


def interleaved_rows(matrices: Tensor, packs: Sequence[tuple[int, Shape]], sizes: Sizes) -> Tensor:
    """Matrices (R, N, D), one after another, with rows in the order in which packed tiles have them; of each pack how
    many there are, and the shape of their sums."""
    counts = [(count, sizes.of(shape)) for count, shape in packs]
    parts = torch.split(matrices, [count * elements for count, elements in counts], 1)
    inputs = matrices.shape[2]
    mixed = [
        part.reshape(-1, *each, inputs).transpose(1, 2).reshape(-1, part.shape[1], inputs)
        for part, each in zip(parts, counts, strict=True)
    ]
    return mixed[0] if len(mixed) == 1 else torch.cat(mixed, 1)


def packs(names: Names, groups: Sequence[tuple[int, ...]]) -> list[tuple[int, Shape]]:
    """Of each pack of sums how many there are, and their shape."""
    return [(len(pack), names.shape(pack[0])) for pack in groups]


def less_their_mean(group: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Matrices (N, D) of one group less the mean of all their rows, which is taken in float32 whatever they are."""
    rows = torch.cat([*group])
    exact = rows.float()
    return torch.split((exact - exact.mean(0)).to(rows.dtype), [len(matrix) for matrix in group])
