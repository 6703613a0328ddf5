"""Coefficients brought to mean 0 and deviation 1, by a clip's own numbers or by those of the training clips."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    import numpy as np

    from cello.features.cache import FeatureSet

#: The smallest deviation divided by: a coefficient that never changes must not have its rounding error blown up.
SMALLEST_DEVIATION = 1e-4

_CLIPS_AT_ONCE = 256


def corpus_statistics(features: FeatureSet, indices: NDArray[np.int64] | Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation, each (D,) float32, over all valid frames of these clips (the training clips, for honesty).

    The deviation is that of the population, √(Σ (x − μ)² / n), and at least ``SMALLEST_DEVIATION``; sums are taken
    in float64.
    """
    chosen = torch.as_tensor(indices)
    total = torch.zeros(features.dimensions, dtype=torch.float64)
    squares = torch.zeros_like(total)
    frames_seen = 0
    for start in range(0, len(chosen), _CLIPS_AT_ONCE):
        frames, counts = features.batch(chosen[start : start + _CLIPS_AT_ONCE])
        wide = frames.to(torch.float64)
        total += wide.sum(dim=(0, 1))
        squares += wide.square().sum(dim=(0, 1))
        frames_seen += int(counts.sum())
    mean = total / max(1, frames_seen)
    variance = squares / max(1, frames_seen) - mean.square()
    deviation = variance.clamp(min=SMALLEST_DEVIATION**2).sqrt()
    return mean.to(torch.float32), deviation.to(torch.float32)


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
