"""Define what a benchmark measures, of cells or of features, and in how many rounds. Needs no torch."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Literal

from cello.audio.augment import AugmentConfig
from cello.errors import ConfigError
from cello.features.config import FeatureConfig

DType = Literal["float32", "float64"]


@dataclass(frozen=True)
class Size:
    """A layer's size: B clips of T frames of D features, H hidden units."""

    batch: int
    frames: int
    inputs: int
    hidden: int

    def __str__(self) -> str:
        return f"{self.batch}×{self.frames}×{self.inputs}×{self.hidden}"


MOST_ELEMENTS = 2**40
"""Elements that the frames, states and matrices of a size may have: 4 TB."""
CELLS = ("lstm", "gru", "rnn", "lstm-peephole-full")
SIZES = (Size(64, 49, 39, 64), Size(128, 49, 39, 128), Size(256, 49, 39, 128), Size(128, 99, 39, 256))


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """One benchmark: every cell at every size with every number of threads.

    ``x_gradients`` says whether the backward pass also gives the gradient of x, which a first layer does not need and
    a later one does; both may be measured.

    Raises:
        ConfigError: a value that cannot be measured here.
    """

    cells: tuple[str, ...] = CELLS
    sizes: tuple[Size, ...] = SIZES
    threads: tuple[int, ...] = (1,)
    rounds: int = 9
    dtype: DType = "float32"
    x_gradients: tuple[bool, ...] = (False,)

    def __post_init__(self) -> None:
        _check_rounds(self.rounds)
        cores = os.cpu_count() or 1
        for threads in self.threads:
            if not 1 <= threads <= cores:
                raise ConfigError(f"threads={threads} is invalid: it must be 1 to {cores}, the cores of this machine")


WINDOWS_MS = (20.0, 40.0, 80.0, 120.0)
FAIR = AugmentConfig(speed=0.1, shift_ms=100.0, noise_share=0.3)
"""How the ``fair`` protocol changes the sound of training clips."""
MOST_CLIPS = 100_000


@dataclass(frozen=True, kw_only=True)
class FeatureBenchConfig:
    """One benchmark of features: ``clips`` of one second at 16 kHz at every window, without and with augmentation.

    Raises:
        ConfigError: a value that cannot be measured.
    """

    windows_ms: tuple[float, ...] = WINDOWS_MS
    clips: int = 64
    rounds: int = 9

    def __post_init__(self) -> None:
        _check_rounds(self.rounds)
        if not 1 <= self.clips <= MOST_CLIPS:
            raise ConfigError(f"clips={self.clips} is invalid: it must be 1 to {MOST_CLIPS:,}, clips of one second")
        for window_ms in self.windows_ms:
            if front_end(window_ms).window_samples > front_end(window_ms).rate_hz:
                raise ConfigError(f"window={window_ms:g} is invalid: it must be at most 1000 ms, as long as a clip")


def front_end(window_ms: float) -> FeatureConfig:
    """What is measured: 13 MFCC with Δ and ΔΔ, not normalised."""
    return FeatureConfig(window_ms=window_ms, normalisation="none")


def _check_rounds(rounds: int) -> None:
    if rounds < 1:
        raise ConfigError(
            f"rounds={rounds} is invalid: it must be at least 1, and 9 or more for a median worth quoting"
        )


def parse_size(text: str) -> Size:
    """The size written BxTxDxH; × does as well as x.

    Raises:
        ConfigError: another text, a size of 0, or one that no machine holds.

    >>> parse_size("64x49x39x64")
    Size(batch=64, frames=49, inputs=39, hidden=64)
    """
    found = re.fullmatch("[x×]".join([r"(\d{1,9})"] * 4), text)
    numbers = [int(number) for number in found.groups()] if found else [0]
    if min(numbers) < 1:
        raise ConfigError(
            f"size {text!r} is not BxTxDxH, four whole numbers from 1 on: clips, frames, features, hidden units. "
            f"Write it like 64x49x39x64."
        )
    batch, frames, inputs, hidden = numbers
    elements = batch * frames * (inputs + hidden) + hidden * (inputs + hidden)
    if elements > MOST_ELEMENTS:
        raise ConfigError(f"size {text!r} has {elements:,} elements, more than any machine holds; give a smaller one")
    return Size(*numbers)
