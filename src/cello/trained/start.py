"""Take a finished run as the start of another one: its weights, and the settings that belong to them. Needs torch."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from cello.errors import ConfigError
from cello.features.config import FeatureConfig
from cello.models.config import ModelConfig
from cello.trained.run import read_run, read_weights
from cello.training.start import InitialWeights

Config = TypeVar("Config", ModelConfig, FeatureConfig)
FREE = ("dropout", "zoneout", "recurrent_dropout", "backend")
"""Settings that a run may choose anew, for its weights are the same with any of them."""


class Start(NamedTuple):
    """What a run that starts from another takes over."""

    weights: InitialWeights
    model: ModelConfig
    features: FeatureConfig


def start_from(folder: Path | str, model: ModelConfig, features: FeatureConfig, stated: Collection[str] = ()) -> Start:
    """The run in a folder, of a study the best by validation; what ``model`` and ``features`` state must be its own.

    Stated is what differs from the defaults, and what ``stated`` names, as ``model.hidden``. Dropout and zoneout are
    the new run's where stated.

    Raises:
        StoreError: no finished run is there, or it is damaged.
        ConfigError: a setting is stated that is not the run's.
    """
    trained = read_run(folder)
    config = trained.result.config
    weights = InitialWeights(read_weights(trained.folder), trained.labels, trained.result.run)
    return Start(
        weights, _own("model", config.model, model, stated), _own("features", config.features, features, stated)
    )


def _own(section: str, own: Config, given: Config, stated: Collection[str]) -> Config:
    anew: dict[str, Any] = {}
    for field, default in msgspec.structs.asdict(type(given)()).items():
        value, before = getattr(given, field), getattr(own, field)
        meant = value != default or f"{section}.{field}" in stated
        if value == before or not meant or field == "equations":
            continue
        if field not in FREE:
            raise ConfigError(
                f"{section}.{field}={value} is not that of the run to start from, {before}; its weights need its own, "
                "so leave it out"
            )
        anew[field] = value
    return msgspec.structs.replace(own, **anew)
