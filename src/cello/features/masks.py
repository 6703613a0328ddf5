"""Mask frames and coefficients in training (SpecAugment)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cello.audio.augment import AugmentConfig
from cello.errors import FeatureError
from cello.features.config import FeatureConfig


@dataclass(frozen=True, eq=False)
class Masks:
    """Random stretches of frames and of coefficients to hide in a batch of B clips.

    Attributes:
        times: (2, B, n) uniform draws, of the stretches' lengths and of their places; None for no stretches
        longest: frames of the longest stretch; also, none is longer than half of its clip
        bands: (2, B, m) uniform draws for the coefficients
        widest: coefficients of the widest stretch
        statics: static coefficients, whose deltas are hidden as well
    """

    times: Tensor | None = None
    longest: int = 0
    bands: Tensor | None = None
    widest: int = 0
    statics: int = 0

    def hide(self, frames: Tensor, counts: Tensor) -> Tensor:
        """A copy of frames (B, T, D) with the stretches at zero; frames after a clip's end stay as they are."""
        hidden = torch.zeros(len(frames), 1, 1, dtype=torch.bool, device=frames.device)
        if self.times is not None:
            widest = torch.clamp(counts // 2, max=self.longest)
            hidden = hidden | _stretches(self.times, widest, counts, frames.shape[1])[:, :, None]
        if self.bands is not None:
            size = counts.new_full((len(frames),), self.statics)
            columns = _stretches(self.bands, torch.full_like(size, self.widest), size, self.statics)
            hidden = hidden | columns.repeat(1, frames.shape[2] // self.statics)[:, None, :]
        return frames.masked_fill(hidden, 0.0)


def draw_masks(clips: int, config: AugmentConfig, features: FeatureConfig, generator: torch.Generator) -> Masks:
    """Stretches to hide in so many clips; they depend on ``generator``, that number and the config alone.

    Raises:
        FeatureError: a ``band_mask_width`` of more coefficients than there are.
    """
    statics = features.static_dimensions
    if config.band_masks and config.band_mask_width > statics:
        raise FeatureError(
            f"augment.band_mask_width={config.band_mask_width} is wider than the {statics} coefficients of "
            f"features.kind={features.kind!r}; use at most {statics}"
        )

    def draws(each: int) -> Tensor | None:
        return torch.rand(2, clips, each, generator=generator, device=generator.device) if each else None

    return masks_from(draws(config.time_masks), draws(config.band_masks), config, features)


def masks_from(times: Tensor | None, bands: Tensor | None, config: AugmentConfig, features: FeatureConfig) -> Masks:
    """The masks of a config by draws ``times`` (2, B, n) and ``bands`` (2, B, m)."""
    longest = round(config.time_mask_ms * features.rate_hz / 1000 / features.hop_samples)
    return Masks(times, longest, bands, config.band_mask_width, features.static_dimensions)


def frame_masks(
    frames: Tensor, counts: Tensor, config: AugmentConfig, features: FeatureConfig, generator: torch.Generator
) -> Tensor:
    """A copy of standardised frames (B, T, D) with random stretches at zero, their mean (Park et al. 2019).

    Each of ``time_masks`` hides w frames from t₀ on, w uniform in 0 … ``time_mask_ms`` (in hops, and never more than
    half of the clip), t₀ uniform in 0 … T − w. Each of ``band_masks`` hides b static coefficients, b uniform in
    0 … ``band_mask_width``, in Δ and ΔΔ as well; for ``kind="log-mel"`` they are mel bands, for ``"mfcc"`` they are
    cepstral coefficients, which is no band of frequencies but the same kind of noise.

    Raises:
        FeatureError: a ``band_mask_width`` of more coefficients than there are.
    """
    return draw_masks(len(frames), config, features, generator).hide(frames, counts)


def _stretches(draws: Tensor, widest: Tensor, size: Tensor, places: int) -> Tensor:
    """(B, places) true inside any of a clip's random stretches [a, a + w), w ≤ widest (B,), a + w ≤ size (B,)."""
    draws = draws.to(size.device)
    width = (draws[0] * (widest[:, None] + 1)).long()
    start = (draws[1] * (size[:, None] - width + 1)).long()
    place = torch.arange(places, device=size.device)
    inside = (place >= start[..., None]) & (place < (start + width)[..., None])
    return inside.any(dim=1)
