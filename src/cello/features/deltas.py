"""Compute deltas: first and second derivatives of frames over time, within each clip."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


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


def append_deltas(static: Tensor, counts: Tensor, width: int, orders: int) -> Tensor:
    """Frames with Δ (and ΔΔ) after them: (B, T, S) and (B,) frame counts → (B, T, S · (1 + orders)).

    Each is ``librosa.feature.delta(mode="interp", order=1 or 2)`` of the clip's own frames. As the degree of the
    polynomial is the order of the derivative, the derivative is constant over a window: the first and the last
    ``width // 2`` frames carry the value of the nearest whole window. A clip of fewer than ``width`` frames uses
    the largest odd width of at least 3 that fits; one of fewer than 3 frames has deltas of zero.
    What lies after a clip's end never enters; the result there is undefined.
    """
    batch, time, size = static.shape
    out = static.new_zeros(batch, time, size * (1 + orders))
    out[..., :size] = static
    if orders == 0 or batch == 0:
        return out
    widths = torch.clamp((counts - 1) // 2 * 2 + 1, max=width)
    for fitting in torch.unique(widths).tolist():
        if fitting < 3:
            continue
        rows = torch.nonzero(widths == fitting).squeeze(1)
        if len(rows) == batch:
            out[..., size:] = _deltas(static, counts, fitting, orders)
        else:
            out[rows, :, size:] = _deltas(static[rows], counts[rows], fitting, orders)
    return out


def _deltas(static: Tensor, counts: Tensor, width: int, orders: int) -> Tensor:
    """(B, T, S) → (B, T, S · orders) for clips of at least ``width`` frames."""
    batch, time, size = static.shape
    centres = time - width + 1
    inner = static.new_zeros(batch, centres, orders, size)
    for order in range(1, orders + 1):
        target = inner[:, :, order - 1]
        for tap, weight in enumerate(delta_weights(width, order).tolist()):
            if weight:
                target.add_(static[:, tap : tap + centres], alpha=weight)
    half = width // 2
    nearest = torch.arange(time, device=static.device) - half
    nearest = torch.minimum(nearest.clamp(min=0)[None], (counts - width)[:, None])
    rows = torch.arange(batch, device=static.device)[:, None] * centres + nearest
    return inner.view(batch * centres, orders * size).index_select(0, rows.view(-1)).view(batch, time, orders * size)
