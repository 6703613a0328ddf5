"""Pool the outputs of all frames into one vector for each clip."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cello.models.config import ModelConfig
from cello.models.direction import frame_mask


class Pooling(nn.Module):
    """(B, T, H) outputs → one (B, H) vector a clip, padding left out.

    ``last``: the forward half at the clip's last frame, the backward half at its first: each direction where it has
    seen the whole clip. ``mean``: over the clip's frames. ``attention``: Σₜ αₜ yₜ with α = softmax(w·y) over them.
    Of a clip without frames each is zero.
    """

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        self.kind = config.pooling
        self.score = nn.Linear(width, 1) if self.kind == "attention" else None

    def forward(self, y: Tensor, last: Tensor, lengths: Tensor) -> Tensor:
        if self.kind == "last":
            return last
        mask = frame_mask(lengths, y.shape[1])
        if self.score is None:
            return (y * mask).sum(1) / lengths.clamp(min=1).unsqueeze(1)
        counted = mask | (lengths == 0).view(-1, 1, 1)  # a softmax over nothing is no number; y is zero there
        weights: Tensor = self.score(y).masked_fill(~counted, -torch.inf).softmax(dim=1)
        return (weights * y).sum(1)
