"""Pool the outputs of all frames into one vector for each clip."""

from __future__ import annotations

from torch import Tensor, nn

from cello.models.attention import compiled_sum, weighted_sum
from cello.models.config import ModelConfig
from cello.models.direction import frame_mask


class Pooling(nn.Module):
    """(B, T, H) outputs → one (B, H) vector a clip, padding left out.

    ``last``: the forward half at the clip's last frame, the backward half at its first: each direction where it has
    seen the whole clip. ``mean``: over the clip's frames. ``attention``: Σₜ αₜ yₜ with α = softmax(w·y) over them.
    Of a clip without frames each is zero.
    """

    def __init__(self, config: ModelConfig, width: int, backend: str = "auto") -> None:
        super().__init__()
        self.kind = config.pooling
        self.backend = config.backend if backend == "auto" else backend
        self.score = nn.Linear(width, 1) if self.kind == "attention" else None

    def forward(self, y: Tensor, last: Tensor, lengths: Tensor) -> Tensor:
        if self.kind == "last":
            return last
        if self.score is None:
            return (y * frame_mask(lengths, y.shape[1])).sum(1) / lengths.clamp(min=1).unsqueeze(1)
        given = y, self.score.weight, self.score.bias, lengths
        pooled = compiled_sum(*given) if self.backend != "plain" else None
        return weighted_sum(*given) if pooled is None else pooled
