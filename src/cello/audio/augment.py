"""Augment training clips with time shifts, speed changes and background noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from cello.audio.changes import Changes, slower_or_faster
from cello.audio.noise import MadeColour, coloured
from cello.errors import ConfigError

MADE_SECONDS = 16
MOST_WARP = 0.3
_MADE_COLOURS: tuple[MadeColour, ...] = ("white", "pink", "brown")


class AugmentConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Augmentation of training clips, drawn anew each epoch; all zeros means none.

    Attributes:
        speed: largest relative change of speed and so of pitch, either way; 0.1 is 0.9 to 1.1 times (Ko et al. 2015)
        shift_ms: largest shift in time, either way, in ms
        noise_share: share of clips to which noise is added, 0 to 1
        snr_low_db: lowest signal-to-noise ratio of added noise, in dB; drawn uniformly up to snr_high_db
        snr_high_db: highest signal-to-noise ratio of added noise, in dB
        time_masks: stretches of time set to the mean (SpecAugment, Park et al. 2019)
        time_mask_ms: longest time mask in ms
        band_masks: stretches of features set to the mean (SpecAugment)
        band_mask_width: features in the widest of these stretches
        mixup: α of the Beta distribution of mixup (Zhang et al. 2018); 0 is off
        warp: largest relative change of the frequency axis, as of another vocal tract (Jaitly & Hinton 2013)

    Raises:
        ConfigError: a value that cannot be, with the field, the value and what would be legal.
    """

    speed: float = 0.0
    shift_ms: float = 0.0
    noise_share: float = 0.0
    snr_low_db: float = 5.0
    snr_high_db: float = 30.0
    time_masks: int = 0
    time_mask_ms: float = 100.0
    band_masks: int = 0
    band_mask_width: int = 3
    mixup: float = 0.0
    warp: float = 0.0

    def __post_init__(self) -> None:
        for field in (
            "speed",
            "shift_ms",
            "noise_share",
            "time_masks",
            "time_mask_ms",
            "band_masks",
            "band_mask_width",
            "mixup",
            "warp",
        ):
            value = getattr(self, field)
            if not 0 <= value < np.inf:
                raise ConfigError(f"augment.{field}={value} is invalid: it must be finite and ≥ 0 (0 is off)")
        if self.speed >= 1:
            raise ConfigError(f"augment.speed={self.speed} is invalid: it must be below 1, for example 0.1")
        if self.warp > MOST_WARP:
            raise ConfigError(f"augment.warp={self.warp} is invalid: it must be at most {MOST_WARP}, for example 0.1")
        if self.noise_share > 1:
            raise ConfigError(f"augment.noise_share={self.noise_share} is invalid: it must be from 0 to 1")
        if not -np.inf < self.snr_low_db <= self.snr_high_db < np.inf:
            raise ConfigError(
                f"augment.snr_low_db={self.snr_low_db} is invalid: it must be finite and at most "
                f"augment.snr_high_db={self.snr_high_db}, which must be finite too"
            )


def draw(
    lengths: NDArray[np.int64],
    config: AugmentConfig,
    noise: Sequence[NDArray[np.float32]],
    rng: np.random.Generator,
    rate_hz: int = 16_000,
) -> Changes:
    """Draw what is done to clips of these lengths (B,): speed, then shift, then noise, each only if configured."""
    changes = Changes(lengths)
    if config.speed:
        rates = rng.uniform(1 - config.speed, 1 + config.speed, size=len(lengths))
        changes = slower_or_faster(rates, lengths)
    max_shift = round(config.shift_ms * rate_hz / 1000)
    if max_shift:
        moves = rng.integers(-max_shift, max_shift, size=len(lengths), endpoint=True)
        changes = replace(changes, moves=moves)
    if config.noise_share:
        longest = int(lengths.max(initial=0))
        changes = _draw_noise(changes, longest, config, [len(recording) for recording in noise], rng)
    return changes


def augment(
    audio: NDArray[np.float32],
    lengths: NDArray[np.int64],
    config: AugmentConfig,
    noise: Sequence[NDArray[np.float32]],
    rng: np.random.Generator,
    rate_hz: int = 16_000,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Change speed, shift and add noise as configured: (B, N) and (B,) lengths → the same shapes.

    The input is never written to; it is itself what comes back when the config asks for nothing.
    """
    recordings = recordings_for(config, noise, rate_hz)
    changes = draw(lengths, config, recordings, rng, rate_hz)
    return changes.apply(audio, recordings), changes.lengths


def recordings_for(
    config: AugmentConfig, noise: Sequence[NDArray[np.float32]], rate_hz: int
) -> Sequence[NDArray[np.float32]]:
    """The recordings that noise is taken from: the corpus's own, or white, pink and brown noise where it has none."""
    return noise if noise or not config.noise_share else made_noise(rate_hz)


def change_speed(
    audio: NDArray[np.float32], lengths: NDArray[np.int64], most: float, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Play each clip r times as fast, r uniform in [1 − ``most``, 1 + ``most``]: (B, N), (B,) → the same shapes."""
    return augment(audio, lengths, AugmentConfig(speed=most), (), rng)


def add_noise(
    audio: NDArray[np.float32],
    lengths: NDArray[np.int64],
    noise: Sequence[NDArray[np.float32]],
    config: AugmentConfig,
    rng: np.random.Generator,
    rate_hz: int = 16_000,
) -> NDArray[np.float32]:
    """Add a random excerpt of a random recording to a share of the clips; (B, N) → (B, N), not clipped to ±1.

    y = x + g·n with g² = (Σx² / Σn²) · 10^(−SNR/10), sums over the clip's own samples. A recording shorter than the
    batch is looped. Without recordings, white, pink and brown noise is made, always the same
    ``MADE_SECONDS`` of it. A silent clip, or one that draws a silent excerpt, stays as it is.
    """
    recordings = recordings_for(config, noise, rate_hz)
    changes = _draw_noise(Changes(lengths), audio.shape[1], config, [len(recording) for recording in recordings], rng)
    return changes.apply(audio, recordings)


def _draw_noise(
    changes: Changes, longest: int, config: AugmentConfig, recordings: Sequence[int], rng: np.random.Generator
) -> Changes:
    # as many numbers are drawn whatever they turn out to be, so that one clip's luck does not change the next one's
    noisy = rng.random(len(changes)) < config.noise_share
    chosen = rng.integers(len(recordings), size=len(changes))
    where = rng.random(len(changes))
    gains = 10 ** (-rng.uniform(config.snr_low_db, config.snr_high_db, size=len(changes)) / 20)
    # An excerpt of the longest clip must fit, unless the recording is shorter and looped: then it starts anywhere.
    places = np.array([n - longest + 1 if n >= longest else n for n in recordings])
    starts = (where * places[chosen]).astype(np.int64)
    return replace(changes, noise=np.where(noisy, chosen, -1), starts=starts, gains=gains)


@lru_cache(maxsize=4)
def made_noise(rate_hz: int, seed: int = 0) -> tuple[NDArray[np.float32], ...]:
    """White, pink and brown noise, each (MADE_SECONDS · rate,), of unit power; seed 0 stands in for recordings."""
    rng = np.random.default_rng(seed)
    return tuple(coloured(colour, MADE_SECONDS * rate_hz, rate_hz, rng) for colour in _MADE_COLOURS)
