"""Frames to class scores: recurrent layers, a read-out over time, a linear head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cello.compiler.inputs import Lengths, frames_of_clips
from cello.models.config import ModelConfig, cell_of
from cello.models.initialise import drawn, initialise
from cello.models.layer import RecurrentStack, frame_mask


class Readout(nn.Module):
    """(B, T, H) outputs → one (B, H) vector a clip, padding left out.

    ``last``: the forward half at the clip's last frame, the backward half at its first: each direction where it has
    seen the whole clip. ``mean``: over the clip's frames. ``attention``: Σₜ αₜ yₜ with α = softmax(w·y) over them.
    Of a clip without frames each is zero.
    """

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        self.kind = config.readout
        self.score = nn.Linear(width, 1) if self.kind == "attention" else None

    def forward(self, y: Tensor, last: Tensor, lengths: Tensor) -> Tensor:
        if self.kind == "last":
            return last
        mask = frame_mask(lengths, y.shape[1])
        if self.score is None:
            return (y * mask).sum(1) / lengths.clamp(min=1).unsqueeze(1)
        counted = mask | (lengths == 0).view(-1, 1, 1)  # a softmax over nothing is no number; y is zero there
        weights: Tensor = self.score(y).masked_fill(~counted, -torch.inf).softmax(dim=1)
        return (weights * y).sum(1)


def side_by_side(frames: Tensor, lengths: Tensor, together: int) -> tuple[Tensor, Tensor]:
    """(B, T, D) frames, k of them side by side: (B, ⌈T / k⌉, k · D) and ⌈lengths / k⌉; what lacks at the end is zero.

    >>> out, lengths = side_by_side(torch.tensor([[[1.0], [2.0], [3.0]]]), torch.tensor([3]), 2)
    >>> out.tolist(), lengths.tolist()
    ([[[1.0, 2.0], [3.0, 0.0]]], [2])
    """
    if together == 1:
        return frames, lengths
    batch, length, width = frames.shape
    steps = (length + together - 1) // together
    padding = (0, 0, 0, steps * together - length)
    frames = nn.functional.pad(frames * frame_mask(lengths, length), padding)
    return frames.reshape(batch, steps, together * width), -(-lengths // together)


class Classifier(nn.Module):
    """(B, T, D) standardised frames and (B,) lengths → (B, C) scores.

    ``mean`` and ``deviation`` (D,) come from the training clips and travel with the weights: ``standardise`` applies
    them to raw frames and keeps padding at zero. The lengths may also be a list, and lie on any device.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: ModelConfig, dimensions: int, classes: int, seed: int = 0) -> None:
        super().__init__()
        cell = cell_of(config)
        self.together = config.stack
        self.stack = RecurrentStack(config, dimensions * config.stack, cell)
        self.readout = Readout(config, self.stack.width)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(self.stack.width, classes)
        self.register_buffer("mean", torch.zeros(dimensions))
        self.register_buffer("deviation", torch.ones(dimensions))
        generator = torch.Generator().manual_seed(seed)
        initialise(self.stack, config, generator)
        for linear in (self.head, self.readout.score):
            if linear is not None:
                bound = linear.in_features**-0.5
                for weight in linear.parameters():
                    with torch.no_grad(), drawn(weight) as numbers:
                        numbers.uniform_(-bound, bound, generator=generator)

    def standardise(self, frames: Tensor, lengths: Lengths) -> Tensor:
        lengths = frames_of_clips(lengths, frames).to(frames.device)
        return (frames - self.mean) / self.deviation * frame_mask(lengths, frames.shape[1])

    def forward(self, frames: Tensor, lengths: Lengths) -> Tensor:
        lengths = frames_of_clips(lengths, frames).to(frames.device)
        frames, lengths = side_by_side(frames, lengths, self.together)
        y, last = self.stack(frames, lengths)
        scores: Tensor = self.head(self.dropout(self.readout(y, last, lengths)))
        return scores

    @property
    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters())
