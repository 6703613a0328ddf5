"""Mask frames and coefficients in training (SpecAugment)."""

from __future__ import annotations

import torch
from torch import Tensor

from cello.audio.augment import AugmentConfig
from cello.errors import FeatureError
from cello.features.config import FeatureConfig


def frame_masks(
    frames: Tensor, counts: Tensor, config: AugmentConfig, features: FeatureConfig, generator: torch.Generator
) -> Tensor:
    """A copy of standardised frames (B, T, D) with random stretches at zero, their mean (Park et al. 2019).

    Each of ``time_masks`` hides w frames from t₀ on, w uniform in 0 … ``time_mask_ms`` (in hops, and never more than
    half of the clip), t₀ uniform in 0 … T − w. Each of ``band_masks`` hides b static coefficients, b uniform in
    0 … ``band_mask_width``, in Δ and ΔΔ as well; for ``kind="log-mel"`` they are mel bands, for ``"mfcc"`` they are
    cepstral coefficients, which is no band of frequencies but the same kind of noise. Draws depend on ``generator``,
    B and the config alone; frames after a clip's end stay as they are.

    Raises:
        FeatureError: a ``band_mask_width`` of more coefficients than there are.
    """
    static = features.static_dimensions
    if config.band_masks and config.band_mask_width > static:
        raise FeatureError(
            f"augment.band_mask_width={config.band_mask_width} is wider than the {static} coefficients of "
            f"features.kind={features.kind!r}; use at most {static}"
        )
    hidden = torch.zeros(len(frames), 1, 1, dtype=torch.bool, device=frames.device)
    if config.time_masks:
        limit = round(config.time_mask_ms * features.rate_hz / 1000 / features.hop_samples)
        widest = torch.clamp(counts // 2, max=limit)
        rows = _stretches(widest, counts, frames.shape[1], config.time_masks, generator)
        hidden = hidden | rows[:, :, None]
    if config.band_masks:
        size = counts.new_full((len(frames),), static)
        widest = counts.new_full((len(frames),), config.band_mask_width)
        columns = _stretches(widest, size, static, config.band_masks, generator)
        hidden = hidden | columns.repeat(1, 1 + features.deltas)[:, None, :]
    return frames.masked_fill(hidden, 0.0)


def _stretches(widest: Tensor, size: Tensor, places: int, each: int, generator: torch.Generator) -> Tensor:
    """(B, places) true inside any of ``each`` random stretches [a, a + w), w ≤ widest (B,), a + w ≤ size (B,)."""
    draws = torch.rand(2, len(size), each, generator=generator, device=generator.device).to(size.device)
    width = (draws[0] * (widest[:, None] + 1)).long()
    start = (draws[1] * (size[:, None] - width + 1)).long()
    place = torch.arange(places, device=size.device)
    inside = (place >= start[..., None]) & (place < (start + width)[..., None])
    return inside.any(dim=1)
