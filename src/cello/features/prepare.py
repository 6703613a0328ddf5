"""Standardise and mask a batch of frames in one compiled pass, in place."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from importlib import resources

import torch
from torch import Tensor

from cello.errors import BackendError
from cello.features.masks import Masks
from cello.native.build import load


def prepare(frames: Tensor, counts: Tensor, mean: Tensor, deviation: Tensor, masks: Masks | None = None) -> bool:
    """Standardise (B, T, D) frames by a mean and deviation (D,), mask them, and blank what follows a clip's end.

    The frames are changed in place, to the bits of (x − mean) / deviation and of ``Masks.hide``: let no one else have
    them. False where no compiled code can be had for these tensors; they are then as they were.
    """
    masks = masks or Masks()
    values = [frames, mean, deviation, *(draws for draws in (masks.times, masks.bands) if draws is not None)]
    if not all(value.is_cpu and value.dtype is torch.float32 and value.is_contiguous() for value in values):
        return False
    library = _library()
    if library is None or not frames.numel():
        return False
    batch, steps, width = frames.shape
    statics = masks.statics or width
    rows = frames.new_empty(2 * library.vec_length() * width)
    counts = counts.to("cpu", torch.int64).contiguous()
    library.prepare(
        *(value.data_ptr() for value in (frames, counts, mean, deviation, rows)),
        *_drawn(masks.times),
        masks.longest,
        *_drawn(masks.bands),
        masks.widest,
        *(statics, batch, steps, width),
    )
    return True


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
    library.prepare.argtypes = [*[pointer] * 6, size, size, pointer, *[size] * 6]
    library.prepare.restype, library.vec_length.restype = None, size
    return library
