"""What the front end computes; part of every run's identity."""

from __future__ import annotations

from typing import Literal

import msgspec

from cello.errors import ConfigError
from cello.features import frames


class FeatureConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Frames of a clip: windows in milliseconds, mel range in hertz, natural-log units.

    ``hop_ms=None`` is half the window (50 % overlap). ``high_hz=None`` is half the sample rate.
    ``delta_width`` counts frames (odd, as in librosa); ``delta_width_ms`` gives the same support in time instead,
    rounded to the nearest odd number of frames of at least 3. ``deltas=2`` appends Δ and ΔΔ, so D = 3·n_mfcc.
    ``normalisation="corpus"`` standardises each coefficient by the mean and deviation of the training clips,
    ``"clip"`` by the clip's own, ``"none"`` leaves the numbers as they are.

    Raises:
        ConfigError: a value no front end can have, with the field, the value and what would be legal.

    >>> FeatureConfig(window_ms=40).hop_samples
    320
    >>> FeatureConfig(window_ms=40).dimensions
    39
    """

    kind: Literal["mfcc", "log-mel"] = "mfcc"
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
    normalisation: Literal["none", "clip", "corpus"] = "corpus"

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
        """D, the numbers in one frame."""
        return self.static_dimensions * (1 + self.deltas)

    def __post_init__(self) -> None:
        if self.n_mfcc > self.n_mels and self.kind == "mfcc":
            raise ConfigError(
                f"features.n_mfcc={self.n_mfcc} asks for more coefficients than n_mels={self.n_mels} bands can give; "
                f"lower n_mfcc or raise n_mels"
            )
