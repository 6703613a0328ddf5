"""Compute the mean and deviation of the training frames, for standardisation."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cello.audio.corpus import bounded
from cello.features.cache import FeatureSet
from cello.features.normalise import SMALLEST_DEVIATION

_CLIPS_AT_ONCE = 256
_FRAMES_AT_ONCE = 1 << 17


def corpus_statistics(features: FeatureSet, indices: NDArray[np.int64] | Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation, each (D,) float32, over all valid frames of these clips.

    The deviation is that of the population, √(Σ (x − μ)² / n), and at least ``SMALLEST_DEVIATION``; sums are taken
    in float64.
    """
    chosen = torch.as_tensor(indices)
    total = torch.zeros(features.dimensions, dtype=torch.float64, device=features.flat.device)
    squares = torch.zeros_like(total)
    frames_seen = 0
    for start in range(0, len(chosen), _CLIPS_AT_ONCE):
        some = chosen[start : start + _CLIPS_AT_ONCE]
        for first, last in bounded(features.counts[some].tolist(), _FRAMES_AT_ONCE):
            frames, counts = features.batch(some[first:last])
            wide = frames.to(torch.float64)
            total += wide.sum(dim=(0, 1))
            squares += wide.square().sum(dim=(0, 1))
            frames_seen += int(counts.sum())
    mean = total / max(1, frames_seen)
    variance = squares / max(1, frames_seen) - mean.square()
    deviation = variance.clamp(min=SMALLEST_DEVIATION**2).sqrt()
    return mean.to(torch.float32), deviation.to(torch.float32)
