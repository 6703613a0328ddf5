"""Pack the frames of a batch for a loop over time: step after step, longest clips first.

Clips are sorted by length, so that the clips still running at a step are the first rows; nothing is computed for
padding, and what padding holds reaches no result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """The rows of every step, ``sizes``, of which ΣT are laid out one after another.

    ``index`` (ΣT,) is each row's place among the B·T frames of the batch; ``order`` (B,) the clips by falling length.
    Both are None where all clips have T frames: then the rows are simply the batch, step by step.
    """

    batch: int
    steps: int
    reverse: bool
    sizes: tuple[int, ...]
    index: Tensor | None = None
    order: Tensor | None = None

    def frames(self, x: Tensor) -> Tensor:
        """(B, T, D) → (ΣT, D)."""
        rows = self.batch * self.steps
        if self.index is None:
            return (x.flip(1) if self.reverse else x).transpose(0, 1).reshape(rows, *x.shape[2:])
        return x.reshape(rows, *x.shape[2:]).index_select(0, self.index)

    def outputs(self, by_step: Sequence[Tensor]) -> Tensor:
        """Every step's rows (n, H) → (B, T, H), aligned with the frames they come from, zero after a clip's end."""
        if self.index is None:
            stacked = torch.stack(list(by_step), dim=1)
            return stacked.flip(1) if self.reverse else stacked
        return self.batched(torch.cat(list(by_step)))

    def batched(self, rows: Tensor) -> Tensor:
        """All steps' rows one after another (ΣT, H) → (B, T, H), as ``outputs`` lays them."""
        if self.index is None:
            by_clip = rows.view(self.steps, self.batch, *rows.shape[1:]).transpose(0, 1)
            return by_clip.flip(1) if self.reverse else by_clip
        padded = rows.new_zeros(self.batch * self.steps, *rows.shape[1:]).index_copy(0, self.index, rows)
        return padded.view(self.batch, self.steps, *rows.shape[1:])

    def sorted(self, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The first states in the order of the rows."""
        return state if self.order is None else tuple(part.index_select(0, self.order) for part in state)

    def unsorted(self, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The last states in the order of the batch."""
        if self.order is None:
            return state
        back = torch.argsort(self.order)
        return tuple(part.index_select(0, back) for part in state)


def layout(x: Tensor, lengths: Tensor | None, *, reverse: bool) -> Layout:
    """The layout of frames (B, T, D); ``reverse`` takes each clip from its own last frame to its first.

    ``lengths`` (B,) are on the CPU.
    """
    batch, steps = x.shape[0], int(x.shape[1])
    if lengths is None or batch == 0 or int(lengths.min()) == steps:
        return Layout(batch, steps, reverse, (batch,) * steps)
    order = torch.argsort(lengths, descending=True, stable=True)
    ends = lengths[order]
    step = torch.arange(int(ends[0]), device=lengths.device).unsqueeze(1)
    running = step < ends
    index = (order * steps + (ends - 1 - step if reverse else step))[running].to(x.device)
    return Layout(batch, steps, reverse, tuple(running.sum(1).tolist()), index, order.to(x.device))


@dataclass(frozen=True)
class Padded:
    """All T frames of every clip, for lengths whose values are not known while a program is recorded.

    ``inside`` (B, T, 1) is true where a frame belongs to its clip; ``place`` (B, T, 1) is the frame that each step
    takes: t, or with ``reverse`` the clip's own last frame first, padding where it is.
    """

    inside: Tensor
    place: Tensor

    def frames(self, x: Tensor) -> Tensor:
        """(B, T, …) → (T · B, …), step by step, zero after a clip's end."""
        more = (1,) * (x.dim() - 3)
        inside, place = (part.reshape(*part.shape, *more) for part in (self.inside, self.place))
        taken = x.gather(1, place.expand(x.shape))
        return torch.where(inside, taken, 0).transpose(0, 1).reshape(-1, *x.shape[2:])

    def running(self) -> tuple[Tensor, ...]:
        """For every step (B, 1): true for the clips that it takes."""
        return self.inside.unbind(1)

    def outputs(self, by_step: Sequence[Tensor]) -> Tensor:
        """Every step's rows (B, H) → (B, T, H), aligned with the frames they come from, zero after a clip's end."""
        stacked = torch.where(self.inside, torch.stack(list(by_step), dim=1), 0)
        return stacked.gather(1, self.place.expand(stacked.shape))


def padded(x: Tensor, lengths: Tensor, *, reverse: bool) -> Padded:
    """The layout of frames (B, T, D) in which only the inside of clips depends on ``lengths`` (B,)."""
    step, end = torch.arange(x.shape[1], device=x.device), lengths.to(x.device).unsqueeze(1)
    inside = step < end
    place = torch.where(inside, end - 1 - step, step) if reverse else step.expand(inside.shape)
    return Padded(inside.unsqueeze(2), place.unsqueeze(2))
