"""Bring given samples to what a model takes: one channel, float32, its sampling rate. Needs numpy; soxr to resample."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cello.audio.values import LOUDEST, Mixer, as_float
from cello.errors import ClipError

try:
    import soxr
except ImportError:
    soxr = None

Floats = NDArray[np.float32]
FLOAT32 = np.dtype(np.float32)


def mono(samples: ArrayLike) -> Floats:
    """(N,) or (N, channels) samples as (N,) float32 in [−1, 1], channels averaged as in a corpus.

    Raises:
        ClipError: neither floats nor int16, of another shape, not finite, or far beyond full scale.
    """
    given = np.asarray(samples)
    if given.dtype is FLOAT32 and given.ndim == 1 and given.dot(given) < LOUDEST**2:
        return given  # no sample is above LOUDEST where the sum of their squares is not; it takes a tenth of the rest
    if given.dtype != np.int16 and given.dtype.kind != "f":
        raise ClipError(f"samples of type {given.dtype} are not taken; give floats in [-1, 1] or int16")
    frames = given[:, None] if given.ndim == 1 else given
    if frames.ndim != 2 or not 1 <= frames.shape[1] <= max(1, len(frames)):
        raise ClipError(f"samples of shape {given.shape} are not taken; give (N,) or (N, channels)")
    frames = frames if frames.dtype == np.int16 else frames.astype(np.float32)
    return as_float(Mixer(frames.shape[1]).mono(frames))


def clip_of(samples: ArrayLike, from_hz: int, to_hz: int) -> Floats:
    """A whole clip at a model's rate, resampled as in a corpus.

    Raises:
        ClipError: as ``mono``, or a rate that is no rate.
    """
    check_rate(from_hz)
    sound = mono(samples)
    if from_hz == to_hz:
        return sound
    return np.asarray(_soxr(from_hz, to_hz).resample(sound, from_hz, to_hz, quality="HQ"), np.float32)


def check_rate(rate_hz: int) -> None:
    """Refuse what is no sampling rate.

    Raises:
        ClipError: it is not a positive whole number.
    """
    if rate_hz != int(rate_hz) or rate_hz < 1:
        raise ClipError(f"rate_hz={rate_hz} is invalid: it must be a positive whole number of hertz")


class Resampler:
    """Brings the pieces of a stream to a model's rate; every piece has the rate of the first."""

    def __init__(self, to_hz: int) -> None:
        self.to_hz, self.from_hz = to_hz, 0
        self._filter: Any = None

    def push(self, samples: Floats, rate_hz: int | None) -> Floats:
        """The samples at the model's rate; what the filter still holds comes later.

        Raises:
            ClipError: another rate than before, or one that is no rate.
        """
        rate_hz = (self.from_hz or self.to_hz) if rate_hz is None else rate_hz
        check_rate(rate_hz)
        if self.from_hz not in (0, rate_hz):
            raise ClipError(f"the stream began at {self.from_hz} Hz and goes on at {rate_hz} Hz; begin a new one")
        if not self.from_hz and rate_hz != self.to_hz:
            made = _soxr(rate_hz, self.to_hz)
            self._filter = made.ResampleStream(rate_hz, self.to_hz, 1, dtype="float32", quality="HQ")
        self.from_hz = rate_hz
        return samples if self._filter is None else np.asarray(self._filter.resample_chunk(samples))

    def finish(self) -> Floats:
        """What the filter still holds."""
        empty = np.empty(0, dtype=np.float32)
        return empty if self._filter is None else np.asarray(self._filter.resample_chunk(empty, last=True))


def _soxr(from_hz: int, to_hz: int) -> Any:
    if soxr is None:
        raise ClipError(
            f"the sound has {from_hz} Hz and the model takes {to_hz} Hz, but soxr is not installed to resample it; "
            "give: pip install soxr"
        )
    return soxr
