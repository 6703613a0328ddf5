"""Run the compiled pass over clips: from samples as they are stored to frames."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from importlib import resources

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cello.audio.changes import Changes
from cello.audio.corpus import Corpus
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


def source() -> str:
    """The C text of the pass."""
    here = resources.files("cello.features.c")
    return "\n".join(here.joinpath(name).read_text(encoding="utf-8") for name in TEXTS)


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL:
    """The compiled pass.

    Raises:
        BackendError: it cannot be compiled here.
    """
    return load(source(), "front-end")


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


def clips_of(
    corpus: Corpus,
    indices: NDArray[np.int64],
    changes: Changes | None,
    recordings: tuple[NDArray[np.float32], ...],
) -> Clips | None:
    """What the pass is told of these clips of a corpus, but where they go; None where it cannot read their samples."""
    arrays = corpus.arrays
    if not all(array.dtype in KINDS and array.flags.c_contiguous for array in arrays):
        return None
    if len(indices) and int(corpus.lengths[indices].max()) >= LONGEST:
        return None
    clips = np.zeros(len(indices), dtype=CLIP)
    which, at = corpus.located(indices)
    address = np.array([array.ctypes.data for array in arrays], dtype=np.uint64)
    size = np.array([array.itemsize for array in arrays], dtype=np.uint64)
    clips["samples"] = address[which] + at.astype(np.uint64) * size[which]
    clips["kind"] = np.array([KINDS[array.dtype] for array in arrays])[which]
    clips["length"] = clips["kept"] = corpus.lengths[indices]
    if changes is not None:
        _change(clips, changes, recordings)
    return clips


def clips_in(audio: Tensor, lengths: Tensor) -> Clips:
    """The same for clips (B, N) float32, each row's samples side by side in memory, of these lengths (B,)."""
    clips = np.zeros(len(audio), dtype=CLIP)
    clips["samples"] = audio.data_ptr() + np.arange(len(audio), dtype=np.uint64) * (4 * audio.stride(0))
    clips["kind"] = KINDS[np.dtype(np.float32)]
    clips["length"] = clips["kept"] = lengths.numpy()
    return clips


def _change(clips: Clips, changes: Changes, recordings: tuple[NDArray[np.float32], ...]) -> None:
    clips["kept"] = changes.lengths
    if changes.rates is not None:
        clips["rate"], clips["from"] = changes.rates, changes.froms
    if changes.moves is not None:
        clips["move"] = changes.moves
    if changes.noise is not None:
        noisy = changes.noise >= 0
        chosen = changes.noise[noisy]
        clips["noise"][noisy] = np.array([recording.ctypes.data for recording in recordings], dtype=np.uint64)[chosen]
        clips["noise_length"][noisy] = np.array([len(recording) for recording in recordings])[chosen]
        clips["noise_start"], clips["gain"] = changes.starts, changes.gains


def run(
    config: FeatureConfig, clips: Clips, out: Tensor, rows: NDArray[np.int64], most_warp: float, threads: int
) -> None:
    """Write the frames of clips into ``out`` (…, D), each from its row on; ``frames`` and ``out_frames`` are set.

    Raises:
        MemoryError: the longest of them does not fit into memory.
    """
    clips["out"] = out.data_ptr() + rows.astype(np.uint64) * (4 * config.dimensions)
    plan = front_end(config, most_warp).plan
    done = library().clips_to_frames(
        ctypes.byref(plan), ctypes.c_void_p(clips.ctypes.data), ctypes.c_int64(len(clips)), ctypes.c_int64(threads)
    )
    if done:
        longest = int(clips["length"].max())
        raise MemoryError(f"no memory for the samples of {len(clips)} clips, the longest of which has {longest}")


def heard(clips: Clips, samples: int) -> NDArray[np.float32]:
    """The sound of changed clips, (B, ``samples``), zero after their ends."""
    out = np.empty((len(clips), samples), dtype=np.float32)
    for number, row in enumerate(out):
        address = clips.ctypes.data + number * clips.itemsize
        library().clip_as_heard(ctypes.c_void_p(address), ctypes.c_void_p(row.ctypes.data), ctypes.c_int64(samples))
    return out


def new_frames(*shape: int) -> Tensor:
    """Memory for frames, with whatever lies there."""
    return torch.empty(shape, dtype=torch.float32)
