"""Build the compiled pass, and describe what it is given of each clip. Needs no torch."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from cello.features.c.plan import LARGEST_RADIX, front_end, radices
from cello.features.config import FeatureConfig
from cello.native.build import load, missing_compiler

TEXTS = ("fft.h", "frames.h", "sound.h", "pass.h")
KINDS = {np.dtype(np.int16): 0, np.dtype(np.float32): 1}
"""The types of samples that are read, and their numbers in the C text."""
LONGEST = 1 << 31
"""Samples of a clip, whose places at another speed the pass counts in 32 bits."""

CLIP = np.dtype(
    [
        *((name, "u8" if name == "samples" else "i8") for name in ("samples", "kind", "length", "kept")),
        *((name, "f8") for name in ("rate", "from")),
        *((name, "u8" if name == "noise" else "i8") for name in ("move", "noise", "noise_length", "noise_start")),
        ("gain", "f8"),
        *((name, "u8" if name == "out" else "i8") for name in ("warp", "frames", "out", "out_frames")),
    ]
)
"""``struct clip`` of the C text; pointers are addresses."""

Clips = NDArray[np.void]


def source(double: bool = True) -> str:
    """The C text of the pass, in double precision or in single."""
    here = resources.files("cello.features.c")
    return "\n".join([f"#define DOUBLE {int(double)}", *(here.joinpath(name).read_text("utf-8") for name in TEXTS)])


@lru_cache(maxsize=2)
def library(double: bool = True) -> ctypes.CDLL:
    """The compiled pass, in double precision or in single.

    Raises:
        BackendError: it cannot be compiled here.
    """
    return load(source(double), "front-end")


@lru_cache(maxsize=64)
def unsupported(config: FeatureConfig) -> str | None:
    """Why the pass cannot compute this front end, if it cannot."""
    window = config.window_samples
    largest = max(radices(window if window % 2 else window // 2), default=1)
    if largest > LARGEST_RADIX:
        return f"windows of {window} samples have the prime factor {largest}, and it takes up to {LARGEST_RADIX}"
    return None


def unavailable() -> str | None:
    """Why nothing can be compiled on this machine, if so."""
    return missing_compiler()


def frames_into(
    config: FeatureConfig, clips: Clips, most_warp: float = 0.0, threads: int = 1, *, double: bool = True
) -> None:
    """Write the frames of clips to where they say; all of their fields are set.

    Without ``double`` they are computed in single precision, in half of the time: a band 70 dB below the loudest is off
    by up to 5e-5 then.

    Raises:
        MemoryError: the longest of them does not fit into memory.
    """
    plan = front_end(config, most_warp, double).plan
    done = library(double).clips_to_frames(
        ctypes.byref(plan), ctypes.c_void_p(clips.ctypes.data), ctypes.c_int64(len(clips)), ctypes.c_int64(threads)
    )
    if done:
        longest = int(clips["length"].max())
        raise MemoryError(f"no memory for the samples of {len(clips)} clips, the longest of which has {longest}")
