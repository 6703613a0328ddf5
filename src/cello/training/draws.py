"""Draw all that is random in an epoch's steps before the first of them: order, masks, mixup."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from cello.features.masks import Masks, draw_masks, masks_from
from cello.training.config import RunConfig
from cello.training.lost import drawn_key


def beta(parameter: float, generator: torch.Generator) -> float:
    """One draw from Beta(a, a) by an explicit generator, as the ratio of two Gamma draws."""
    gamma = torch._standard_gamma(torch.full((2,), parameter), generator=generator)
    return float(gamma[0] / gamma.sum())


def step_draws(order: list[Tensor], config: RunConfig, generator: torch.Generator) -> dict[str, Tensor]:
    """What the steps of an epoch draw from ``generator``, which has just given their ``order``, batch after batch.

    Each has S steps: ``rows`` (S, B) of the training clips, ``times`` (S, 2, B, n) and ``bands`` (S, 2, B, m) of masks,
    of mixup ``share`` (S,) and ``partner`` (S, B), and ``lost`` (S,) the keys of lost frames. Steps of fewer clips than
    the first have zeros at their ends.
    """
    augment, size = config.augment, len(order[0])
    found: dict[str, list[Tensor]] = {"rows": list(order)}
    for rows in order:
        drawn: dict[str, Tensor | None] = {}
        if augment.time_masks or augment.band_masks:
            masks = draw_masks(len(rows), augment, config.features, generator)
            drawn = {"times": masks.times, "bands": masks.bands}
        if augment.mixup > 0:
            drawn["share"] = torch.tensor(beta(augment.mixup, generator))
            drawn["partner"] = torch.randperm(len(rows), generator=generator)
        if config.data.lost_frames:
            drawn["lost"] = drawn_key(generator)
        for name, value in drawn.items():
            if value is not None:
                found.setdefault(name, []).append(value)
    return {name: torch.stack([_filled(name, value, size) for value in values]) for name, values in found.items()}


def _filled(name: str, value: Tensor, size: int) -> Tensor:
    """With zeros for clips that the batch has not."""
    if value.ndim == 0:
        return value
    axis = 1 if name in ("times", "bands") else 0
    missing = size - value.shape[axis]
    if not missing:
        return value
    shape = [*value.shape]
    shape[axis] = missing
    return torch.cat([value, value.new_zeros(shape)], axis)


def masks_of(config: RunConfig, drawn: Mapping[str, Tensor]) -> Masks:
    """The masks of one step from its draws ``times`` (2, B, n) and ``bands`` (2, B, m), on any device."""
    return masks_from(drawn.get("times"), drawn.get("bands"), config.augment, config.features)
