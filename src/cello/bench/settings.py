"""Define what a benchmark measures: cells × sizes × threads, in how many rounds. Needs no torch."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Literal

from cello.errors import ConfigError

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
        if self.rounds < 1:
            raise ConfigError(
                f"rounds={self.rounds} is invalid: it must be at least 1, and 9 or more for a median worth quoting"
            )
        cores = os.cpu_count() or 1
        for threads in self.threads:
            if not 1 <= threads <= cores:
                raise ConfigError(f"threads={threads} is invalid: it must be 1 to {cores}, the cores of this machine")


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
