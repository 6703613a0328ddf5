"""Define the front end's settings, which are part of the identity of a run."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from cello.errors import ConfigError, unknown
from cello.features import frames, mel

Kind = Literal["mfcc", "log-mel"]
Normalisation = Literal["none", "clip", "corpus"]


class FeatureConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The features of each frame: kind, windows, mel bands and normalisation.

    Attributes:
        kind: mel-frequency cepstral coefficients (mfcc) or log mel energies (log-mel), in natural-log units
        rate_hz: sampling rate in Hz at which clips are read; files of another rate are resampled
        window_ms: length of the analysis window in ms
        hop_ms: time between two frames in ms; half the window unless given
        n_mels: mel bands
        n_mfcc: coefficients kept of each frame, at most n_mels; for kind mfcc
        low_hz: lower edge of the lowest mel band in Hz
        high_hz: upper edge of the highest mel band in Hz; half of rate_hz unless given
        pre_emphasis: coefficient of the pre-emphasis filter, 0 (off) to 1
        log_floor: the smallest energy whose logarithm is taken
        deltas: derivatives over time that are appended: 0 none, 1 Δ, 2 Δ and ΔΔ
        delta_width: frames that a Δ is fitted to, an odd number
        delta_width_ms: the same as a time in ms, rounded to an odd number of frames; delta_width unless given
        normalisation: each feature by mean and deviation of the training clips (corpus), of the clip (clip), or none

    Raises:
        ConfigError: a value no front end can have, with the field, the value and what would be legal.

    >>> FeatureConfig(window_ms=40).hop_samples
    320
    >>> FeatureConfig(window_ms=40).dimensions
    39
    """

    kind: Kind = "mfcc"
    rate_hz: int = 16_000
    window_ms: float = 40.0
    hop_ms: float | None = None
    n_mels: int = 40
    n_mfcc: int = 13
    low_hz: float = 20.0
    high_hz: float | None = None
    pre_emphasis: float = 0.0
    log_floor: float = 1e-6
    deltas: int = 2
    delta_width: int = 9
    delta_width_ms: float | None = None
    normalisation: Normalisation = "corpus"

    @property
    def window_samples(self) -> int:
        return frames.samples_of(self.window_ms, self.rate_hz)

    @property
    def hop_samples(self) -> int:
        return frames.samples_of(self.window_ms / 2 if self.hop_ms is None else self.hop_ms, self.rate_hz)

    @property
    def static_dimensions(self) -> int:
        return self.n_mfcc if self.kind == "mfcc" else self.n_mels

    @property
    def dimensions(self) -> int:
        """D, the elements of one frame."""
        return self.static_dimensions * (1 + self.deltas)

    @property
    def delta_frames(self) -> int:
        """The odd number of frames that a delta is computed from, from ``delta_width_ms`` where given.

        >>> FeatureConfig(window_ms=40, delta_width_ms=100).delta_frames
        5
        """
        if self.delta_width_ms is None:
            return self.delta_width
        hops = self.delta_width_ms * self.rate_hz / 1000 / self.hop_samples
        return max(3, 2 * math.floor(hops / 2) + 1)

    @property
    def band_edges_hz(self) -> NDArray[np.float64]:
        """The (n_mels + 2,) corner frequencies of the mel filters."""
        return mel.band_edges_hz(self.n_mels, self.low_hz, self.rate_hz / 2 if self.high_hz is None else self.high_hz)

    def warped_edges_hz(self, warp: float) -> NDArray[np.float64]:
        """The corner frequencies with the frequency axis warped (see ``mel.warped_hz``); 1 leaves them as they are."""
        return self.band_edges_hz if warp == 1 else mel.warped_hz(self.band_edges_hz, warp, self.rate_hz / 2)

    def __post_init__(self) -> None:
        for field, legal in (("kind", get_args(Kind)), ("normalisation", get_args(Normalisation))):
            if getattr(self, field) not in legal:
                raise ConfigError(unknown(f"features.{field}", str(getattr(self, field)), legal))
        for field in ("rate_hz", "n_mels", "n_mfcc", "deltas", "delta_width"):
            _require(self, field, type(getattr(self, field)) is int, "a whole number")
        for field in ("window_ms", "hop_ms", "low_hz", "high_hz", "pre_emphasis", "log_floor", "delta_width_ms"):
            value = getattr(self, field)
            if value is not None or field in ("window_ms", "low_hz", "pre_emphasis", "log_floor"):
                _require(self, field, _is_number(value), "a finite number")
                # 40 and 40.0 are one window: they must have one identity, in Python as in a TOML file.
                msgspec.structs.force_setattr(self, field, float(value))
        self._check_ranges()
        self._check_bands()

    def _check_ranges(self) -> None:
        nyquist = self.rate_hz / 2
        _require(self, "rate_hz", self.rate_hz >= 1, "at least 1")
        _require(self, "window_ms", self.window_samples >= 2, f"at least two samples, {2000 / self.rate_hz:g} ms")
        if self.hop_ms is not None:
            _require(self, "hop_ms", self.hop_samples >= 1, f"at least one sample, {1000 / self.rate_hz:g} ms")
        _require(self, "low_hz", 0 <= self.low_hz < nyquist, f"from 0 to below {nyquist:g} Hz, half of rate_hz")
        if self.high_hz is not None:
            legal = f"above low_hz={self.low_hz:g} and at most {nyquist:g} Hz, half of rate_hz"
            _require(self, "high_hz", self.low_hz < self.high_hz <= nyquist, legal)
        _require(self, "pre_emphasis", 0 <= self.pre_emphasis <= 1, "from 0 to 1")
        smallest = float(np.finfo(np.float32).tiny)
        _require(
            self, "log_floor", smallest <= self.log_floor <= 1e30, f"from {smallest:.3g} to 1e30, as float32 has it"
        )
        _require(self, "deltas", self.deltas in (0, 1, 2), "0 (none), 1 (Δ) or 2 (Δ and ΔΔ)")
        _require(self, "delta_width", self.delta_width >= 3 and self.delta_width % 2 == 1, "odd and at least 3 frames")
        if self.delta_width_ms is not None:
            _require(self, "delta_width_ms", self.delta_width_ms > 0, "above 0 ms")
        _require(self, "n_mels", self.n_mels >= 1, "at least 1")
        _require(self, "n_mfcc", self.n_mfcc >= 1, "at least 1")
        if self.n_mfcc > self.n_mels and self.kind == "mfcc":
            raise ConfigError(
                f"features.n_mfcc={self.n_mfcc} asks for more coefficients than n_mels={self.n_mels} bands can give; "
                f"lower n_mfcc or raise n_mels"
            )

    def _check_bands(self) -> None:
        """Refuse filters that no bin of the spectrum falls into: they would be a constant, silently."""
        window = self.window_samples
        bins = window // 2 + 1
        empty = _empty(self, self.n_mels, window) if self.n_mels <= bins else None
        if empty is not None and not len(empty):
            return
        fits = next((n for n in range(min(self.n_mels - 1, bins), 0, -1) if not len(_empty(self, n, window))), 0)
        which = "some" if empty is None else f"{len(empty)} of them (the first is band {empty[0]})"
        remedy = (
            f"use n_mels={fits} or less, or a longer window" if fits else "use a longer window or a wider mel range"
        )
        raise ConfigError(
            f"features.n_mels={self.n_mels} bands are too narrow for window_ms={self.window_ms:g}, whose spectrum has "
            f"a bin every {self.rate_hz / window:g} Hz: {which} would hold no bin; {remedy}"
        )


@lru_cache(maxsize=64)
def most_empty(config: FeatureConfig, most: float) -> int:
    """How many bands no bin of the spectrum falls into, at that of ``mel.warps(most)`` where they are most."""
    edges = (config.warped_edges_hz(warp) for warp in mel.warps(most))
    return max(len(mel.empty_bands(hz, config.rate_hz, config.window_samples)) for hz in edges)


def _require(config: FeatureConfig, field: str, holds: bool, legal: str) -> None:
    if not holds:
        raise ConfigError(f"features.{field}={getattr(config, field)!r} is invalid: it must be {legal}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _empty(config: FeatureConfig, n_mels: int, window: int) -> NDArray[np.int64]:
    high = config.rate_hz / 2 if config.high_hz is None else config.high_hz
    return _empty_bands(n_mels, config.low_hz, high, config.rate_hz, window)


@lru_cache(maxsize=1024)
def _empty_bands(n_mels: int, low_hz: float, high_hz: float, rate_hz: int, window: int) -> NDArray[np.int64]:
    """Kept, for a study reads thousands of configs with the same few front ends."""
    return mel.empty_bands(mel.band_edges_hz(n_mels, low_hz, high_hz), rate_hz, window)
