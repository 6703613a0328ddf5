"""Make a batch of frames, standardised and masked, in one compiled pass."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from importlib import resources

import torch
from torch import Tensor

from cello.errors import BackendError
from cello.features.cache import FeatureSet
from cello.features.masks import Masks
from cello.native.build import load


def prepared_batch(
    features: FeatureSet, clips: Tensor, mean: Tensor, deviation: Tensor, masks: Masks | None = None
) -> tuple[Tensor, Tensor] | None:
    """What ``features.batch(clips)`` gives, standardised by a mean and deviation (D,) and masked, to the same bits.

    That is (B, T, D) frames, (x − mean) / deviation, after them ``Masks.hide``, zero after each clip's end; and (B,)
    counts. None where no compiled code can be had for these tensors.
    """
    masks = masks or Masks()
    flat, counts = features.flat, features.counts[clips]
    values = [flat, mean, deviation, *(draws for draws in (masks.times, masks.bands) if draws is not None)]
    if not all(value.is_cpu and value.dtype is torch.float32 and value.is_contiguous() for value in values):
        return None
    library = _library() if clips.dtype is counts.dtype is torch.int64 and clips.is_contiguous() else None
    if library is None or not len(counts):
        return None
    batch, steps, width = len(counts), int(counts.max()), flat.shape[1]
    frames = flat.new_empty(batch, steps, width)
    rows = flat.new_empty(2 * library.vec_length() * width)
    outside = library.prepare(
        *(flat.data_ptr(), len(flat)),
        *(value.data_ptr() for value in (features.starts, features.counts, clips, frames, mean, deviation, rows)),
        *_drawn(masks.times),
        masks.longest,
        *_drawn(masks.bands),
        masks.widest,
        masks.statics or width,
        *(batch, steps, width),
    )
    return None if outside else (frames, counts)


def _drawn(draws: Tensor | None) -> tuple[int, int]:
    """Where the draws lie, and how many stretches a clip has."""
    return (0, 0) if draws is None else (draws.data_ptr(), draws.shape[2])


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | None:
    """The compiled pass; None where there is no compiler, which the cell's back end tells."""
    try:
        library = load(resources.files("cello.features").joinpath("prepare.c").read_text(encoding="utf-8"), "prepare")
    except BackendError:
        return None
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    library.prepare.argtypes = [pointer, size, *[pointer] * 8, size, size, pointer, *[size] * 6]
    library.vec_length.restype = size
    return library
