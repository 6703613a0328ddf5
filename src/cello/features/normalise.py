"""Standardise the coefficients of each clip to mean 0 and deviation 1."""

from __future__ import annotations

import torch
from torch import Tensor

from cello.features.transforms import SMALLEST_DEVIATION

__all__ = ["SMALLEST_DEVIATION", "blank_padding", "standardise_clips"]


def standardise_clips(frames: Tensor, counts: Tensor) -> Tensor:
    """Standardise each coefficient of (B, T, D) over the frames of its clip; the deviation is floored."""
    n = counts.clamp(min=1)[:, None, None]
    mean = frames.sum(dim=1, keepdim=True) / n
    centred = blank_padding(frames - mean, counts)
    deviation = (centred.square().sum(dim=1, keepdim=True) / n).sqrt().clamp(min=SMALLEST_DEVIATION)
    return centred / deviation


def blank_padding(frames: Tensor, counts: Tensor) -> Tensor:
    """Set the frames after the end of each clip to zero, in place; (B, T, D), and counts (B,) there or on the CPU."""
    time = frames.shape[1]
    short = torch.nonzero(counts < time).squeeze(1)
    if len(short):
        ends, short = counts[short, None].to(frames.device), short.to(frames.device)
        after = torch.arange(time, device=frames.device) >= ends
        frames[short] = frames[short].masked_fill(after[..., None], 0.0)
    return frames
