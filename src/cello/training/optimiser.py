"""Make the optimiser, the learning-rate schedule and the moving average of weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from cello.training.config import OptimiserConfig


def make_optimiser(config: OptimiserConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The named torch optimiser with torch's own defaults beside the learning rate and weight decay."""
    rate, decay = config.learning_rate, config.weight_decay
    match config.name:
        case "adamw":
            return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
        case "adam":
            return torch.optim.Adam(parameters, lr=rate, weight_decay=decay)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, lr=rate, weight_decay=decay)
        case "sgd":
            return torch.optim.SGD(parameters, lr=rate, weight_decay=decay, momentum=0.9)


def learning_rate(config: OptimiserConfig, step: int, steps: int) -> float:
    """The rate at one step: a linear warm-up over a share ``warmup`` of all steps, then constant or half a cosine to 0.

    >>> config = OptimiserConfig(learning_rate=1.0, warmup=0.5)
    >>> [round(learning_rate(config, step, 4), 2) for step in range(4)]
    [0.5, 1.0, 1.0, 0.5]
    """
    warm = round(config.warmup * steps)
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    if config.schedule == "constant":
        return config.learning_rate
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


class Average:
    """Exponential moving average of weights, θ̄ ← d·θ̄ + (1 − d)·θ with d = min(decay, (1 + k)/(10 + k)) at update k.

    The ramp of d lets early updates forget the first weights. With decay 0 the average is the weights themselves.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self._live = {name: p.detach() for name, p in model.named_parameters()}
        self.weights: dict[str, Tensor] = self._live if decay == 0 else _copy(self._live)

    def update(self) -> None:
        """Take in the weights as they are now."""
        if self.decay > 0:
            self.updates += 1
            keep = min(self.decay, (1 + self.updates) / (10 + self.updates))
            torch._foreach_lerp_(list(self.weights.values()), list(self._live.values()), 1 - keep)

    def state(self) -> dict[str, Any]:
        return {"updates": self.updates, "weights": self.weights}

    def load(self, state: dict[str, Any]) -> None:
        self.updates = state["updates"]
        for name, weight in state["weights"].items():
            self.weights[name].copy_(weight)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model with its averaged weights within."""
        own = _copy(self._live)
        for name, weight in self._live.items():
            weight.copy_(self.weights[name])
        try:
            yield
        finally:
            for name, weight in self._live.items():
                weight.copy_(own[name])


def _copy(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in weights.items()}
