"""Stack the weights of replicates, so that one call computes the scores of all and one step changes all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cello.models.classifier import Classifier
from cello.models.randomness import drawing_from
from cello.training.config import RunConfig
from cello.training.data import RunData
from cello.training.optimiser import Average, ResidentOptimiser, change, clip


class Replicate(NamedTuple):
    """A run among others that differ from it in the seed alone: its settings, clips and what it trains."""

    config: RunConfig
    data: RunData
    model: Classifier
    optimiser: ResidentOptimiser
    average: Average


class Stacked:
    """Weights, state of the optimiser and mean weights of R replicates (R, N); those of each are rows from now on.

    ``averages`` says that there are means.
    """

    def __init__(self, replicates: Sequence[Replicate]) -> None:
        self._replicates, self._config = replicates, replicates[0].config.optimiser
        self.averages = replicates[0].average.decay > 0
        optimisers, averages = [one.optimiser for one in replicates], [one.average for one in replicates]
        self.rate = optimisers[0].rate
        if len(replicates) == 1:
            (optimiser,), (average,) = optimisers, averages
            self.weights, self._means = optimiser.weights.unsqueeze(0), average.mean.unsqueeze(0)
            self._state = {name: value.unsqueeze(0) for name, value in optimiser.state.items()}
        else:
            self.weights = _rows([one.weights for one in optimisers])
            self._means = _rows([one.mean for one in averages]) if self.averages else self.weights
            self._state = {name: _rows([one.state[name] for one in optimisers]) for name in optimisers[0].state}
            for row, (optimiser, average) in enumerate(zip(optimisers, averages, strict=True)):
                weights = self.weights[row]
                optimiser.move(weights, {name: value[row] for name, value in self._state.items()})
                average.move(weights, self._means[row] if self.averages else weights)
        self._leaves = self._as_leaves()

    def _as_leaves(self) -> dict[str, Tensor]:
        """The weights by name, each (R, …), to which derivatives are taken; one replicate's are its own."""
        named = dict(self._replicates[0].model.named_parameters())
        if len(self._replicates) == 1:
            return dict(named)
        parts = torch.split(self.weights, [weight.numel() for weight in named.values()], 1)
        pairs = zip(named.items(), parts, strict=True)
        return {name: part.view(-1, *one.shape).detach().requires_grad_() for (name, one), part in pairs}

    def scores(self, frames: Tensor, counts: Tensor | None, keys: Tensor, lost: Tensor | None = None) -> Tensor:
        """(R, B, C) scores of frames (R, B, T, D), dropout and zoneout drawn by counters from keys (R,).

        ``counts`` (R, B) are not needed where all clips have T frames, ``lost`` (R, B, T) are frames that are lost.
        """
        model = self._replicates[0].model
        if len(self._replicates) == 1:
            with drawing_from(keys[0]):
                ends, missed = (None if given is None else given[0] for given in (counts, lost))
                return model.unchecked(frames[0], ends, missed).unsqueeze(0)

        def one(
            weights: dict[str, Tensor], frames: Tensor, counts: Tensor | None, lost: Tensor | None, key: Tensor
        ) -> Tensor:
            with drawing_from(key):
                return model.unchecked(frames, counts, lost, weights)

        over = [None if given is None else 0 for given in (counts, lost)]
        scores: Tensor = torch.vmap(one, in_dims=(0, 0, *over, 0))(self._leaves, frames, counts, lost, keys)
        return scores

    def gradients(self, loss: Tensor) -> list[Tensor | None]:
        """The derivatives (R, …) of the sum of all replicates' losses, in the order of the weights."""
        found = torch.autograd.grad(loss, [*self._leaves.values()], allow_unused=True)
        if len(self._replicates) > 1:
            return list(found)
        return [None if one is None else one.unsqueeze(0) for one in found]

    def update(self, gradients: Sequence[Tensor | None], rate: Tensor) -> None:
        """Change the weights by their gradients; a weight without one stays as it is."""
        self.rate.copy_(rate)
        sizes = [weight.numel() for weight in self._replicates[0].model.parameters()]
        parts = torch.split(self.weights, sizes, 1)
        kept = [(part, part.clone()) for part, one in zip(parts, gradients, strict=True) if one is None]
        pairs = zip(parts, gradients, strict=True)
        flat = torch.cat(
            [torch.zeros_like(part) if one is None else one.reshape(len(part), -1) for part, one in pairs], 1
        )
        if self._config.clip_norm > 0:
            clip(flat, self._config.clip_norm)
        with torch.no_grad():
            change(self._replicates[0].optimiser.param_groups[0], self.rate, self.weights, flat, self._state)
            for part, value in kept:
                part.copy_(value)

    def shares(self, updates: int) -> list[float]:
        """How much of the weights each of the next updates of the means takes in, the same for all at an epoch."""
        return self._replicates[0].average.shares(updates)

    def take_in(self, share: Tensor) -> None:
        """Move the means this share of the way to the weights as they are now."""
        self._means.lerp_(self.weights, share)

    def count_updates(self, updates: int) -> None:
        """Let the means know of updates that have been made."""
        for replicate in self._replicates:
            replicate.average.updates += updates if self.averages else 0


def _rows(values: Sequence[Tensor]) -> Tensor:
    """Memory for so many alike, one after the other."""
    return torch.empty(len(values), *values[0].shape, dtype=values[0].dtype, device=values[0].device)
