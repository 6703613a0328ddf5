"""Average channels, and check every sample."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cello.errors import ClipError

Frames = NDArray[np.int16] | NDArray[np.float32]
Sound = NDArray[np.int16] | NDArray[np.float32]

LOUDEST = 16.0
"""24 dB above full scale: no recorder's float samples go beyond."""
_INTEGER_BITS = (16, 24, 32)
_CANCELLED = 1e-4  # −40 dB: unrelated channels, even 1,000 of them, leave ten times as much


def as_float(sound: Sound) -> NDArray[np.float32]:
    """Samples as float32, full scale ±1; float32 samples are returned as they are."""
    return sound * np.float32(1 / 32768) if sound.dtype == np.int16 else sound.astype(np.float32, copy=False)


class Mixer:
    """Averages the channels of successive (N, channels) blocks to (N,) blocks."""

    def __init__(self, channels: int) -> None:
        self._channels = channels
        self._frames = 0
        self._any = False
        self._mixed_any = False
        self._sums = np.zeros((2, channels))  # of samples and of their squares
        self._mixed_sums = np.zeros(2)

    def mono(self, frames: Frames) -> Sound:
        """One channel as it is; several as float32, averaged.

        Raises:
            ClipError: a sample is NaN, infinite or far beyond full scale.
        """
        self._check(frames)
        if self._channels == 1:
            return frames[:, 0]
        wide = as_float(frames)
        mixed: NDArray[np.float32] = wide.mean(axis=1)
        self._frames += len(frames)
        self._mixed_any = self._mixed_any or bool(mixed.any())
        self._sums += wide.sum(axis=0, dtype=np.float64), np.square(wide, dtype=np.float64).sum(axis=0)
        self._mixed_sums += mixed.sum(dtype=np.float64), np.square(mixed, dtype=np.float64).sum()
        return mixed

    @property
    def has_signal(self) -> bool:
        """Whether any sample of any channel is not zero."""
        return self._any

    def _check(self, frames: Frames) -> None:
        if not len(frames):
            return
        least, most = float(frames.min()), float(frames.max())
        self._any = self._any or least < 0 or most > 0
        if frames.dtype == np.int16:
            return
        peak = max(-least, most)
        if not (math.isfinite(least) and math.isfinite(most)):
            raise ClipError("not finite: it holds NaN or infinite samples")
        if peak > LOUDEST:
            raise ClipError(f"its samples go far beyond full scale ({peak:.3g}): perhaps {_cause(peak)}")

    def check_signal(self) -> None:
        """Raises ClipError when every sample was zero, or what the channels have is lost in their mean."""
        if not self._any:
            raise ClipError("all silence: every sample is zero")
        if self._channels == 1:
            return
        if not self._mixed_any:
            raise ClipError("its channels cancel each other out: their mean is zero; keep one of them")
        power = _variance(self._sums, self._frames).mean()
        mixed = float(_variance(self._mixed_sums, self._frames))
        if mixed < _CANCELLED * power:
            lost = 10 * math.log10(power / mixed) if mixed > 0 else math.inf
            raise ClipError(
                f"its channels cancel each other out: their mean is {lost:.0f} dB below them; keep one of them"
            )


def _variance(sums: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    mean, squares = sums / count
    variance: NDArray[np.float64] = np.maximum(squares - mean**2, 0)
    return variance


def _cause(peak: float) -> str:
    """What makes float samples so large: integers that were never divided by their full scale, or exchanged bytes."""
    for bits in _INTEGER_BITS:
        full_scale = 1 << bits - 1
        if peak <= 1.01 * full_scale:
            return f"{bits}-bit integers in a float file; divide them by {full_scale}"
    return "another byte order"
