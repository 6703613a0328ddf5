"""Perturb vocal tract length: compute features with a warped frequency axis for each clip."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cello.features.config import FeatureConfig
from cello.features.frames import frame_count
from cello.features.mel import warps
from cello.features.mfcc import extract


def draw_warps(most: float, clips: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Which of ``mel.warps(most)`` each of (B,) clips has."""
    return rng.integers(len(warps(most)), size=clips)


def extract_warped(
    audio: Tensor, lengths: Tensor, config: FeatureConfig, most: float, drawn: NDArray[np.int64]
) -> tuple[Tensor, Tensor]:
    """``extract`` with each clip's own of ``mel.warps(most)``, drawn (B,): (B, N), (B,) → (B, T, D) and (B,) counts.

    Reference: N. Jaitly, G. E. Hinton (2013). Vocal tract length perturbation (VTLP) improves speech recognition. ICML
    Workshop on Deep Learning for Audio, Speech and Language.

    Raises:
        FeatureError: as ``extract``.
    """
    choices = warps(most)
    samples = int(lengths.max()) if len(lengths) else config.window_samples
    time = frame_count(samples, config.window_samples, config.hop_samples)
    out = audio.new_zeros(len(audio), time, config.dimensions)
    counts = torch.zeros_like(lengths)
    for number in np.unique(drawn).tolist():
        rows = torch.from_numpy(np.flatnonzero(drawn == number))
        frames, counts[rows] = extract(audio[rows], lengths[rows], config, choices[number])
        out[rows, : frames.shape[1]] = frames
    return out, counts
