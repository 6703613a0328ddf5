"""Compute the Slaney mel scale and its triangular filters, with numpy only."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

HZ_PER_MEL = 200 / 3
KNEE_HZ = 1000.0
KNEE_MEL = KNEE_HZ / HZ_PER_MEL
LOG_STEP = math.log(6.4) / 27
WARP_KNEE = 0.8
WARP_STEPS = 8


def mel_of(hz: float) -> float:
    """The Slaney mel number of a frequency: linear below 1 kHz, logarithmic above.

    >>> round(mel_of(500.0), 6), round(mel_of(6400.0), 6)
    (7.5, 42.0)
    """
    return hz / HZ_PER_MEL if hz < KNEE_HZ else KNEE_MEL + math.log(hz / KNEE_HZ) / LOG_STEP


def band_edges_hz(n_mels: int, low_hz: float, high_hz: float) -> NDArray[np.float64]:
    """The (n_mels + 2,) frequencies, equally far apart in mel; band m rises from edge m to m+1 and falls to m+2."""
    mels = np.linspace(mel_of(low_hz), mel_of(high_hz), n_mels + 2)
    return np.where(mels < KNEE_MEL, mels * HZ_PER_MEL, KNEE_HZ * np.exp((mels - KNEE_MEL) * LOG_STEP))


def warped_hz(hz: NDArray[np.float64], warp: float, highest_hz: float) -> NDArray[np.float64]:
    """Frequencies f as another vocal tract has them: α f up to f₀ = 0.8 · highest · min(1, 1/α), α the warp, and from
    there on a straight line to the highest, which stays (Jaitly & Hinton 2013).

    >>> warped_hz(np.array([0.0, 1000.0, 8000.0]), 1.1, 8000.0).round(6).tolist()
    [0.0, 1100.0, 8000.0]
    """
    knee = WARP_KNEE * highest_hz * min(1.0, 1 / warp)
    above = warp * knee + (hz - knee) * (highest_hz - warp * knee) / (highest_hz - knee)
    return np.where(hz <= knee, warp * hz, above)


def warps(most: float) -> tuple[float, ...]:
    """The warps that training draws from, evenly from 1 − ``most`` to 1 + ``most``: few, for each has its filters.

    >>> warps(0.08)[::8]
    (0.92, 1.0, 1.08)
    """
    return tuple(round(1 + most * step / WARP_STEPS, 12) for step in range(-WARP_STEPS, WARP_STEPS + 1))


def filterbank(edges_hz: NDArray[np.float64], rate_hz: int, fft_size: int) -> NDArray[np.float64]:
    """Triangular filters of unit area per hertz, (fft_size // 2 + 1, n_mels); equal to ``librosa.filters.mel``.

    W[k, m] = 2 / (e[m+2] − e[m]) · max(0, min((f_k − e[m]) / (e[m+1] − e[m]), (e[m+2] − f_k) / (e[m+2] − e[m+1])))
    """
    hz = np.arange(fft_size // 2 + 1)[:, None] * (rate_hz / fft_size)
    low, centre, high = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    triangles = np.minimum((hz - low) / (centre - low), (high - hz) / (high - centre))
    return np.maximum(0.0, triangles) * (2 / (high - low))


def empty_bands(edges_hz: NDArray[np.float64], rate_hz: int, fft_size: int) -> NDArray[np.int64]:
    """The bands no FFT bin falls into: too narrow for this window."""
    spacing = rate_hz / fft_size
    bins = np.floor(edges_hz[:-2, None] / spacing) + np.arange(3)
    inside = (bins * spacing > edges_hz[:-2, None]) & (bins * spacing < edges_hz[2:, None])
    return np.flatnonzero(~inside.any(axis=1)).astype(np.int64)
