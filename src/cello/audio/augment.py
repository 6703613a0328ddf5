"""Augment training clips with time shifts, speed changes and background noise."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray

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
    max_shift = round(config.shift_ms * rate_hz / 1000)
    out = audio
    if config.speed:
        out, lengths = change_speed(out, lengths, config.speed, rng)
    if max_shift:
        out = shift(out, lengths, max_shift, rng)
    if config.noise_share:
        out = audio.copy() if out is audio else out
        _mix_in(out, lengths, list(noise) or made_noise(rate_hz), config, rng)
    return out, lengths


def change_speed(
    audio: NDArray[np.float32], lengths: NDArray[np.int64], most: float, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Play each clip at r times its speed, r uniform in [1 − ``most``, 1 + ``most``]; (B, N), (B,) → the same shapes.

    y[t] = x(r·t), linear between samples. A faster clip ends earlier; a slower one keeps its length and loses what no
    longer fits, as much at its start as at its end.

    Reference: T. Ko, V. Peddinti, D. Povey, S. Khudanpur (2015). Audio augmentation for speech recognition.
    Interspeech.
    """
    out = np.zeros_like(audio)
    rates = rng.uniform(1 - most, 1 + most, size=len(audio))
    kept = np.minimum(np.floor(np.maximum(lengths - 1, 0) / rates).astype(np.int64) + 1, lengths)
    times = np.arange(audio.shape[1], dtype=np.float32)
    for row, (rate, length, n) in enumerate(zip(rates.tolist(), lengths.tolist(), kept.tolist(), strict=True)):
        if n > 1:
            at = times[:n] * np.float32(rate) + np.float32(max(0.0, (length - 1 - rate * (n - 1)) / 2))
            before = np.minimum(at.astype(np.intp), length - 2)
            clip = audio[row]
            at -= before.astype(np.float32)
            at *= np.diff(clip).take(before)
            np.add(clip.take(before), at, out=out[row, :n])
        else:
            out[row, :n] = audio[row, :n]
    return out, kept


def shift(
    audio: NDArray[np.float32], lengths: NDArray[np.int64], max_shift: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Move each clip by a whole number of samples, uniform in [−``max_shift``, ``max_shift``]; (B, N) → (B, N).

    >>> clips = np.arange(1, 5, dtype=np.float32)[None]
    >>> shift(clips, np.array([4]), 2, np.random.default_rng(3)).tolist()
    [[0.0, 0.0, 1.0, 2.0]]
    """
    return move(audio, lengths, rng.integers(-max_shift, max_shift, size=len(audio), endpoint=True))


def move(audio: NDArray[np.float32], lengths: NDArray[np.int64], moves: NDArray[np.int64]) -> NDArray[np.float32]:
    """Move each clip by its own number of samples (B,), later where positive; (B, N) → (B, N).

    What is moved out of [0, length) is lost, what is moved in is zero; lengths stay.
    """
    out = np.zeros_like(audio)
    for row, (by, length) in enumerate(zip(moves.tolist(), lengths.tolist(), strict=True)):
        kept = max(0, length - abs(by))
        to, start = max(0, by), max(0, -by)
        out[row, to : to + kept] = audio[row, start : start + kept]
    return out


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
    out = audio.copy()
    _mix_in(out, lengths, list(noise) or made_noise(rate_hz), config, rng)
    return out


def _mix_in(
    audio: NDArray[np.float32],
    lengths: NDArray[np.int64],
    recordings: Sequence[NDArray[np.float32]],
    config: AugmentConfig,
    rng: np.random.Generator,
) -> None:
    # as many numbers are drawn whatever they turn out to be, so that one clip's luck does not change the next one's
    noisy = rng.random(len(audio)) < config.noise_share
    chosen = rng.integers(len(recordings), size=len(audio))
    where = rng.random(len(audio))
    gains = 10 ** (-rng.uniform(config.snr_low_db, config.snr_high_db, size=len(audio)) / 20)
    rolls = [_rollable(recording, audio.shape[1]) for recording in recordings]
    for row in np.flatnonzero(noisy).tolist():
        recording, starts = rolls[chosen[row]]
        start = int(where[row] * starts)
        clip = audio[row, : lengths[row]]
        excerpt = recording[start : start + len(clip)]
        power = float(np.vdot(excerpt, excerpt))
        if power > 0:
            clip += excerpt * np.float32(gains[row] * np.sqrt(np.vdot(clip, clip) / power))


@lru_cache(maxsize=4)
def made_noise(rate_hz: int, seed: int = 0) -> tuple[NDArray[np.float32], ...]:
    """White, pink and brown noise, each (MADE_SECONDS · rate,), of unit power; seed 0 stands in for recordings."""
    rng = np.random.default_rng(seed)
    return tuple(coloured(colour, MADE_SECONDS * rate_hz, rate_hz, rng) for colour in _MADE_COLOURS)


def _rollable(recording: NDArray[np.float32], samples: int) -> tuple[NDArray[np.float32], int]:
    """A recording and at how many places an excerpt of ``samples`` may start in it, looped where it is shorter."""
    if len(recording) >= samples:
        return recording, len(recording) - samples + 1
    return np.resize(recording, len(recording) - 1 + samples), len(recording)
