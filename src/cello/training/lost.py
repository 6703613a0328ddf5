"""Choose the frames that are lost on their way to a model: anew in training, the same for each clip in evaluation."""

from __future__ import annotations

import torch
from torch import Tensor

from cello.training.config import DataConfig

EVALUATION = 0
"""The key of evaluation: every model and seed misses the same frames of a clip."""
_BITS = 53


def lost_frames(data: DataConfig, clips: Tensor, frames: int, key: Tensor | int = EVALUATION) -> Tensor | None:
    """(B, T) booleans, true where a frame of a clip is lost: a share ``data.lost_frames`` of all; None where none is.

    ``clips`` (B,) are numbers that tell clips apart. Whether a frame is lost depends on its clip, its place and ``key``
    alone: on no other clip, nor on what clips are padded to, nor on the device.
    """
    if not data.lost_frames:
        return None
    time = torch.arange(frames, device=clips.device)
    found = _mixed(_mixed(clips.long()[:, None] + key) + time)
    return (found & ((1 << _BITS) - 1)) < int(data.lost_frames * (1 << _BITS))


def drawn_key(generator: torch.Generator) -> Tensor:
    """A key for one batch of training."""
    return torch.randint(1, 1 << 62, (), generator=generator)


def _mixed(v: Tensor) -> Tensor:
    """Numbers whose bits depend on all bits of v: SplitMix64 (Steele, Lea & Flood 2014), in wrapping arithmetic."""
    v = v * -7046029254386353131 + 1442695040888963407
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        v = (v ^ ((v >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return v ^ ((v >> 31) & ((1 << 33) - 1))
