"""Choose the frames that are lost on their way to a model: anew in training, the same for each clip in evaluation."""

from __future__ import annotations

import torch
from torch import Tensor

from cello.models.randomness import GOLDEN, less, mixed
from cello.training.config import DataConfig

EVALUATION = 0
"""The key of evaluation: every model and seed misses the same frames of a clip."""


def lost_frames(data: DataConfig, clips: Tensor, frames: int, key: Tensor | int = EVALUATION) -> Tensor | None:
    """(B, T) booleans, true where a frame of a clip is lost: a share ``data.lost_frames`` of all; None where none is.

    ``clips`` (B,) are numbers that tell clips apart. Whether a frame is lost depends on its clip, its place and ``key``
    alone: on no other clip, nor on what clips are padded to, nor on the device.
    """
    if not data.lost_frames:
        return None
    time = torch.arange(frames, device=clips.device)
    of_clips = mixed((clips.long()[:, None] + 1) * GOLDEN + key)
    return less(mixed(of_clips + (time + 1) * GOLDEN), data.lost_frames)


def drawn_key(generator: torch.Generator) -> Tensor:
    """A key for one batch of training."""
    return torch.randint(1, 1 << 62, (), generator=generator)
