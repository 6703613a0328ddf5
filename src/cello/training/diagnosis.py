"""Find what made a loss NaN or infinite, and weights that get no gradient."""

from __future__ import annotations

import torch
from torch import nn

from cello.training.data import FRAMES_AT_ONCE, Frames


def clip_not_finite(clips: Frames) -> int | None:
    """The first clip whose frames hold NaN or infinity: one is enough to spoil the mean of all."""
    for part in clips.parts(torch.arange(len(clips)), FRAMES_AT_ONCE):
        frames = clips.batch(part)[0]
        wrong = (~frames.isfinite().flatten(1).all(dim=1)).cpu()
        if wrong.any():
            return int(part[wrong].min())
    return None


def has_gradient(module: nn.Module) -> bool:
    """Whether any parameter got a gradient that is not all zero; a module without parameters needs none."""
    weights = list(module.parameters())
    return not weights or any(weight.grad is not None and bool(weight.grad.any()) for weight in weights)
