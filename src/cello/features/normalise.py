"""Standardise the coefficients of each clip to mean 0 and deviation 1."""

from __future__ import annotations

import torch
from torch import Tensor

#: The smallest deviation divided by: a coefficient that never changes must not have its rounding error blown up.
SMALLEST_DEVIATION = 1e-4


def standardise_clips(frames: Tensor, counts: Tensor) -> Tensor:
    """Each coefficient of each clip of (B, T, D) by its own mean and deviation (floored) over the clip's frames."""
    n = counts.clamp(min=1)[:, None, None]
    mean = frames.sum(dim=1, keepdim=True) / n
    centred = blank_padding(frames - mean, counts)
    deviation = (centred.square().sum(dim=1, keepdim=True) / n).sqrt().clamp(min=SMALLEST_DEVIATION)
    return centred / deviation


def blank_padding(frames: Tensor, counts: Tensor) -> Tensor:
    """The same frames with zeros after each clip's end, whatever stood there; (B, T, D), in place."""
    time = frames.shape[1]
    short = torch.nonzero(counts < time).squeeze(1)
    if len(short):
        after = torch.arange(time, device=frames.device) >= counts[short, None]
        frames[short] = frames[short].masked_fill(after[..., None], 0.0)
    return frames
