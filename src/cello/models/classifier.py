"""Score a clip's classes: recurrent layers, pooling over time, a linear head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cello.compiler.inputs import Lengths, frames_of_clips, unchecked_lengths
from cello.models.config import ModelConfig, cell_of
from cello.models.direction import frame_mask
from cello.models.encoder import Encoder
from cello.models.frames import check_fit, frame_size, part_sizes
from cello.models.initialise import drawn, initialise
from cello.models.pooling import Pooling
from cello.models.randomness import Dropout
from cello.models.received import received


def stack_frames(frames: Tensor, lengths: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Stack every k frames of (B, T, D) into one: (B, ⌈T / k⌉, k · D) and ⌈lengths / k⌉, zeros at the end.

    >>> out, lengths = stack_frames(torch.tensor([[[1.0], [2.0], [3.0]]]), torch.tensor([3]), 2)
    >>> out.tolist(), lengths.tolist()
    ([[[1.0, 2.0], [3.0, 0.0]]], [2])
    """
    if count == 1:
        return frames, lengths
    batch, length, width = frames.shape
    steps = (length + count - 1) // count
    padding = (0, 0, 0, steps * count - length)
    frames = nn.functional.pad(frames * frame_mask(lengths, length), padding)
    return frames.reshape(batch, steps, count * width), -(-lengths // count)


class Classifier(nn.Module):
    """(B, T, D) standardised frames and (B,) lengths → (B, C) scores.

    ``mean`` and ``deviation`` (D,) come from the training clips and travel with the weights: ``standardise`` applies
    them to raw frames and keeps padding at zero. The lengths may also be a list, and lie on any device; without them
    all clips have T frames. ``backend`` is what computes the cell, "auto" for the best one, ``precision`` that of
    its products on the CPU (:func:`~cello.scan`).

    Frames are D features, of which some may have been lost (B, T): a cell that names the parts of its frames gets their
    value, mask and gap, any other the last frame seen (:mod:`cello.models.received`).
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        config: ModelConfig,
        dimensions: int,
        classes: int,
        seed: int = 0,
        *,
        backend: str = "auto",
        precision: str = "float32",
    ) -> None:
        super().__init__()
        cell = cell_of(config)
        check_fit(config, cell, dimensions)
        self.parts = part_sizes(cell, dimensions)
        self.frame_stacking = config.frame_stacking
        self.encoder = Encoder(config, frame_size(cell, dimensions) * config.frame_stacking, cell, backend, precision)
        self.pooling = Pooling(config, self.encoder.width, backend)
        self.dropout = Dropout(config.dropout)
        self.head = nn.Linear(self.encoder.width, classes)
        self.register_buffer("mean", torch.zeros(dimensions))
        self.register_buffer("deviation", torch.ones(dimensions))
        generator = torch.Generator().manual_seed(seed)
        self.register_load_state_dict_pre_hook(_former_names)  # type: ignore[no-untyped-call]
        initialise(self.encoder, config, generator)
        for linear in (self.head, self.pooling.score):
            if linear is not None:
                bound = linear.in_features**-0.5
                for weight in linear.parameters():
                    with torch.no_grad(), drawn(weight) as values:
                        values.uniform_(-bound, bound, generator=generator)

    def standardise(self, frames: Tensor, lengths: Lengths) -> Tensor:
        lengths = frames_of_clips(lengths, frames).to(frames.device)
        return (frames - self.mean) / self.deviation * frame_mask(lengths, frames.shape[1])

    def forward(self, frames: Tensor, lengths: Lengths | None = None, lost: Tensor | None = None) -> Tensor:
        if lengths is None:
            ends = torch.full(frames.shape[:1], frames.shape[1], dtype=torch.int64, device=frames.device)
        else:
            ends = frames_of_clips(lengths, frames).to(frames.device)
        frames, ends = stack_frames(received(frames, lost, self.parts), ends, self.frame_stacking)
        y, last = self.encoder(frames, None if lengths is None else ends)
        scores: Tensor = self.head(self.dropout(self.pooling(y, last, ends)))
        return scores

    def unchecked(
        self,
        frames: Tensor,
        lengths: Tensor | None = None,
        lost: Tensor | None = None,
        weights: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """The scores by lengths that are known to be right: on a GPU nothing of them is read back.

        ``weights`` are to be used in place of the model's own.
        """
        with unchecked_lengths():
            if weights is None:
                scores: Tensor = self(frames, lengths, lost)
            else:
                scores = torch.func.functional_call(self, weights, (frames, lengths, lost))
        return scores

    @property
    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters())


def _former_names(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Take weights that were stored when the encoder was called ``stack`` and the pooling ``readout``."""
    for former, name in (("stack.", "encoder."), ("readout.", "pooling.")):
        for key in [key for key in state if key.startswith(prefix + former)]:
            state[prefix + name + key.removeprefix(prefix + former)] = state.pop(key)
