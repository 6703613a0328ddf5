"""Compute the constants of the front end: window function, cosines, weights of deltas. Needs no torch."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

SMALLEST_DEVIATION = 1e-4
"""The smallest deviation divided by: a coefficient that never changes must not have its rounding error blown up."""


def hann(size: int) -> NDArray[np.float64]:
    """The periodic Hann window, (size,): 0.5 − 0.5 cos(2π n / size)."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)


def dct(bands: int, coefficients: int) -> NDArray[np.float64]:
    """The orthonormal DCT-II as a (bands, coefficients) matrix."""
    m, k = np.arange(bands)[:, None], np.arange(coefficients)
    cosines = math.sqrt(2 / bands) * np.cos(np.pi * k * (m + 0.5) / bands)
    cosines[:, 0] /= math.sqrt(2)
    return cosines


@lru_cache(maxsize=64)
def delta_weights(width: int, order: int) -> NDArray[np.float64]:
    """The (width,) weights that give the ``order``-th derivative of the polynomial of that degree fitted to a window.

    With τ = −m … m and m = (width − 1) / 2: order 1 is τ / Σ τ²; order 2 is 2 (τ² − μ) / Σ (τ² − μ)², μ the mean
    of τ² (Savitzky & Golay 1964).

    >>> delta_weights(3, 1).tolist(), delta_weights(3, 2).round(12).tolist()
    ([-0.5, 0.0, 0.5], [1.0, -2.0, 1.0])
    """
    tau = np.arange(width) - (width - 1) / 2
    shape = tau if order == 1 else tau**2 - np.mean(tau**2)
    weights: NDArray[np.float64] = order * shape / np.sum(shape**2)
    return weights
