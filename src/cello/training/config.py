"""One run's whole identity: what is trained, on what, how, from which seed."""

from __future__ import annotations

import hashlib
import math
from typing import Literal

import msgspec

from cello.audio.augment import AugmentConfig
from cello.errors import ConfigError
from cello.features.config import FeatureConfig
from cello.models.config import ModelConfig


class OptimiserConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How weights move; ``warmup`` is a share of all steps, ``clip_norm=0`` and ``ema=0`` switch those off.

    ``choose``: which weights are tested, ``"last"`` epoch's, the ``"best"`` validation epoch's; with ``ema`` > 0 they
    are the exponential moving average of the weights at that epoch.

    Raises:
        ConfigError: a value no optimiser can have, with the field, the value and what would be legal.
    """

    name: Literal["adamw", "adam", "rmsprop", "sgd"] = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup: float = 0.1
    clip_norm: float = 0.0
    label_smoothing: float = 0.0
    ema: float = 0.0
    epochs: int = 30
    batch: int = 64
    choose: Literal["best", "last"] = "last"

    def __post_init__(self) -> None:
        for field, value, low, high in (
            ("learning_rate", self.learning_rate, 0, math.inf),
            ("weight_decay", self.weight_decay, 0, math.inf),
            ("warmup", self.warmup, 0, 1),
            ("clip_norm", self.clip_norm, 0, math.inf),
            ("label_smoothing", self.label_smoothing, 0, 1),
            ("ema", self.ema, 0, 1),
        ):
            if not low <= value < high:
                legal = "0 or a positive number, no infinity" if high == math.inf else f"{low} to below {high}"
                raise ConfigError(f"optimiser.{field}={value} cannot be; give {legal}")
        for field, count in (("epochs", self.epochs), ("batch", self.batch)):
            if count < 1:
                raise ConfigError(f"optimiser.{field}={count} trains nothing; give at least 1")


class CorpusRef(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which data: a name for people and the checksum that decides. Where it lies is no part of a run's identity."""

    name: str
    checksum: str


NEUTRAL: dict[str, dict[str, object]] = {"model": {"zoneout": 0.0, "recurrent_dropout": 0.0}}
"""Settings that came after runs had been stored, with the value at which nothing changes.

At that value they are no part of a run's id, so that what was stored before is still the same run.
"""


class RunConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a run's result depends on; its ``id`` is a hash of all of it, defaults included (but see NEUTRAL)."""

    corpus: CorpusRef
    features: FeatureConfig = FeatureConfig()
    augment: AugmentConfig = AugmentConfig()
    model: ModelConfig = ModelConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    seed: int = 0

    @property
    def id(self) -> str:
        """The first 16 hexadecimal digits of SHA-256 over the whole config as sorted JSON, the corpus by its checksum.

        >>> one = RunConfig(corpus=CorpusRef(name="a folder", checksum="f" * 64))
        >>> one.id == RunConfig(corpus=CorpusRef(name="the folder renamed", checksum="f" * 64)).id
        True
        """
        # converting once more makes 40 and 40.0 the same window
        settings = msgspec.to_builtins(msgspec.convert(msgspec.to_builtins(self), RunConfig))
        settings["corpus"] = self.corpus.checksum
        for part, fields in NEUTRAL.items():
            for field, value in fields.items():
                if settings[part][field] == value:
                    del settings[part][field]
        return hashlib.sha256(msgspec.json.encode(settings, order="sorted")).hexdigest()[:16]
