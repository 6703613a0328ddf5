"""Run the compiled pass over clips: from samples as they are stored to frames."""

from __future__ import annotations

import ctypes

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cello.audio.changes import Changes
from cello.audio.corpus import Corpus
from cello.features.c.library import (
    CLIP,
    KINDS,
    LONGEST,
    Clips,
    frames_into,
    library,
    source,
    unavailable,
    unsupported,
)
from cello.features.config import FeatureConfig

__all__ = [
    "CLIP",
    "changed",
    "clips_in",
    "clips_of",
    "library",
    "new_frames",
    "run",
    "source",
    "unavailable",
    "unsupported",
]


def clips_of(
    corpus: Corpus,
    indices: NDArray[np.int64],
    changes: Changes | None,
    recordings: tuple[NDArray[np.float32], ...],
) -> Clips | None:
    """What the pass is given of these clips of a corpus, but where they go; None where it cannot read their samples."""
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
    config: FeatureConfig,
    clips: Clips,
    out: Tensor,
    rows: NDArray[np.int64],
    most_warp: float,
    threads: int,
    *,
    double: bool = True,
) -> None:
    """Write the frames of clips into ``out`` (…, D), each from its row on; ``frames`` and ``out_frames`` are set.

    Raises:
        MemoryError: the longest of them does not fit into memory.
    """
    clips["out"] = out.data_ptr() + rows.astype(np.uint64) * (4 * config.dimensions)
    frames_into(config, clips, most_warp, threads, double=double)


def changed(clips: Clips, samples: int) -> NDArray[np.float32]:
    """The sound of changed clips, (B, ``samples``), zero after their ends."""
    out = np.empty((len(clips), samples), dtype=np.float32)
    for number, row in enumerate(out):
        address = clips.ctypes.data + number * clips.itemsize
        library().changed_clip(ctypes.c_void_p(address), ctypes.c_void_p(row.ctypes.data), ctypes.c_int64(samples))
    return out


def new_frames(*shape: int) -> Tensor:
    """Memory for frames, with whatever lies there."""
    return torch.empty(shape, dtype=torch.float32)
