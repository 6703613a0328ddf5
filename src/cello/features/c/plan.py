"""Lay out what the compiled pass knows of a front end: window, transform, mel bands, cosines, deltas."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cello.features import mel
from cello.features.config import FeatureConfig
from cello.features.transforms import SMALLEST_DEVIATION, dct, delta_weights, hann

LARGEST_RADIX = 251
"""The largest prime factor of a window that the pass transforms."""


class Transform(ctypes.Structure):
    """``struct transform`` of the C text; pointers are addresses."""

    _fields_ = [(name, ctypes.c_int64) for name in ("n", "steps", "radices", "turn")]


class Plan(ctypes.Structure):
    """``struct plan`` of the C text."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("window", "hop", "bins", "mels", "static_size", "deltas")),
        *((name, ctypes.c_int64) for name in ("delta_width", "cepstra", "standardise", "largest_band")),
        ("transform", Transform),
        *(
            (name, ctypes.c_int64)
            for name in ("shape", "turn", "first", "length", "weights", "cosines", "delta_weights")
        ),
        *((name, ctypes.c_double) for name in ("emphasis", "floor", "smallest_deviation")),
    ]


@dataclass(frozen=True, eq=False)
class FrontEnd:
    """A plan and the arrays that it points into."""

    plan: Plan
    arrays: tuple[NDArray[np.generic], ...]


@lru_cache(maxsize=64)
def front_end(config: FeatureConfig, most_warp: float, double: bool) -> FrontEnd:
    """The plan of a front end with the filters of all ``mel.warps(most_warp)``, of one where that is 0.

    Its tables are of the type that the pass computes with.
    """
    window = config.window_samples
    points = window if window % 2 else window // 2
    warps = mel.warps(most_warp) if most_warp else (1.0,)
    bands = [mel.filterbank(config.warped_edges_hz(warp), config.rate_hz, window) for warp in warps]
    first, length, weights = _narrow(np.stack(bands))
    found: dict[str, NDArray[Any]] = {
        "radices": np.array(radices(points), dtype=np.int64),
        "points": circle(points),
        "shape": hann(window) * (1.0 if window % 2 else 0.5),
        "turn": circle(window),
        "first": first,
        "length": length,
        "weights": weights,
        "cosines": dct(config.n_mels, config.n_mfcc),
        "delta_weights": _delta_weights(config),
    }
    real = np.float64 if double else np.float32
    arrays = {
        name: np.ascontiguousarray(array, dtype=real if array.dtype == np.float64 else array.dtype)
        for name, array in found.items()
    }
    at = {name: array.ctypes.data for name, array in arrays.items()}
    plan = Plan(
        window=window, hop=config.hop_samples, bins=window // 2 + 1, mels=config.n_mels,
        static_size=config.static_dimensions, deltas=config.deltas, delta_width=config.delta_frames,
        cepstra=int(config.kind == "mfcc"), standardise=int(config.normalisation == "clip"),
        largest_band=weights.shape[2],
        transform=Transform(points, len(arrays["radices"]), at["radices"], at["points"]),
        emphasis=config.pre_emphasis, floor=config.log_floor, smallest_deviation=SMALLEST_DEVIATION,
        **{name: at[name] for name in ("shape", "turn", "first", "length", "weights", "cosines", "delta_weights")},
    )  # fmt: skip
    return FrontEnd(plan, tuple(arrays.values()))


def radices(points: int) -> list[int]:
    """The factors by which a transform is taken apart, few large ones before many small ones.

    >>> radices(320), radices(882)
    ([8, 8, 5], [3, 3, 2, 7, 7])
    """
    found, factor = [], 7
    for radix in (8, 5, 4, 3, 2):
        while points % radix == 0 and not (radix == 8 and points in (16, 32)):  # 4 · 4 and 4 · 8 take fewer steps
            found.append(radix)
            points //= radix
    while points > 1:
        while points % factor == 0:
            found.append(factor)
            points //= factor
        factor += 2
    return found


def circle(points: int) -> NDArray[np.float64]:
    """The cosine and sine of −2π k / points, (points, 2)."""
    angles = -2 * np.pi * np.arange(points) / points
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _narrow(bands: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """(warps, bins, mels) weights as the first bin and number of bins of each band, and the weights of these alone."""
    warps, _, mels = bands.shape
    first, length = np.zeros((warps, mels), dtype=np.int64), np.zeros((warps, mels), dtype=np.int64)
    for warp, band in np.ndindex(warps, mels):
        touched = np.flatnonzero(bands[warp, :, band])
        if len(touched):
            first[warp, band], length[warp, band] = touched[0], touched[-1] + 1 - touched[0]
    weights = np.zeros((warps, mels, max(1, int(length.max()))))
    for warp, band in np.ndindex(warps, mels):
        low, count = first[warp, band], length[warp, band]
        weights[warp, band, :count] = bands[warp, low : low + count, band]
    return first, length, weights


def _delta_weights(config: FeatureConfig) -> NDArray[np.float64]:
    """The weights of each order for the widths 3, 5, … delta_frames, (deltas, widths, delta_frames)."""
    widest = config.delta_frames
    found = np.zeros((max(1, config.deltas), widest // 2, widest))
    for order in range(config.deltas):
        for place, width in enumerate(range(3, widest + 1, 2)):
            found[order, place, :width] = delta_weights(width, order + 1)
    return found
