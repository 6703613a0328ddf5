"""Compute deltas: first and second derivatives of frames over time, within each clip."""

from __future__ import annotations

import torch
from torch import Tensor

from cello.features.transforms import delta_weights

__all__ = ["append_deltas", "delta_weights"]


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
