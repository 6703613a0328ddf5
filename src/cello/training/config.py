"""Define a run's identity: data, features, model, optimiser and seed, hashed to its id."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import msgspec

from cello.audio.augment import AugmentConfig
from cello.errors import ConfigError
from cello.features.config import FeatureConfig, most_empty
from cello.models.config import ModelConfig


class OptimiserConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How weights are trained, and which epoch's weights are evaluated.

    Attributes:
        name: the optimiser; sgd has momentum 0.9
        learning_rate: the largest learning rate of the schedule
        weight_decay: decoupled from the gradient in adamw, an L2 penalty in the others; 0 is off
        schedule: after the warm-up the learning rate stays constant, or falls to 0 along a cosine
        warmup: share of all steps over which the learning rate rises from 0, 0 to below 1
        clip_norm: the largest norm of the gradient, above which it is scaled down; 0 is off
        label_smoothing: probability that is spread evenly over all labels, 0 to below 1
        ema: decay of the exponential moving average of the weights that are evaluated, 0 (off) to below 1
        epochs: passes over the training clips
        batch: clips in a training step
        choose: which epoch's weights are evaluated: the last, or the best by validation accuracy

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
                legal = "finite and ≥ 0" if high == math.inf else f"≥ {low} and < {high}"
                raise ConfigError(f"optimiser.{field}={value} is invalid: it must be {legal}")
        for field, count in (("epochs", self.epochs), ("batch", self.batch)):
            if count < 1:
                raise ConfigError(f"optimiser.{field}={count} is invalid: it must be at least 1")


class CorpusRef(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which data: a name for people and the checksum that decides. Where it lies is no part of a run's identity."""

    name: str
    checksum: str


class DataConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which clips are trained on, and under which conditions the test clips are evaluated once more.

    Noise, shifts and other lost frames of the test clips change nothing in training. The clips chosen are the same for
    every seed, and more of them hold fewer.

    Attributes:
        clips_per_label: training clips of each label; all unless given
        test_snr_db: evaluate again with made noise added at each of these signal-to-noise ratios, in dB
        test_shift_ms: evaluate again with every test clip moved by each of these times in ms, later where positive
        test_lost_frames: evaluate again with each of these shares of frames lost, the same for every model and seed
        fold: the fold that tests, of a corpus with --folds; a study's own folds are run one after another
        lost_frames: share of frames lost on their way to the model, 0 to below 1; cells with value, mask and gap are
            told, others see the last frame again

    Raises:
        ConfigError: an invalid value, with the field, the value and what would be legal.
    """

    clips_per_label: int | None = None
    test_snr_db: tuple[float, ...] = ()
    test_shift_ms: tuple[float, ...] = ()
    test_lost_frames: tuple[float, ...] = ()
    fold: str = ""
    lost_frames: float = 0.0

    def __post_init__(self) -> None:
        if self.clips_per_label is not None and self.clips_per_label < 1:
            raise ConfigError(
                f"data.clips_per_label={self.clips_per_label} is invalid: it must be at least 1, or leave it out for "
                f"all clips"
            )
        for field, values in (("test_snr_db", self.test_snr_db), ("test_shift_ms", self.test_shift_ms)):
            if not all(map(math.isfinite, values)) or len(set(values)) < len(values):
                raise ConfigError(f"data.{field}={list(values)} must be finite numbers, each once; change the list")
        if not 0 <= self.lost_frames < 1:
            raise ConfigError(f"data.lost_frames={self.lost_frames} is invalid: it must be from 0 (none) to below 1")
        shares = self.test_lost_frames
        if not all(0 <= share < 1 for share in shares) or len(set(shares)) < len(shares):
            raise ConfigError(
                f"data.test_lost_frames={list(shares)} must be shares from 0 (none) to below 1, each once; change the "
                f"list"
            )


NEUTRAL: dict[str, dict[str, object]] = {
    "augment": {"warp": 0.0},
    "model": {"stack": 1, "zoneout": 0.0, "recurrent_dropout": 0.0},
    "data": {
        **{"clips_per_label": None, "fold": "", "lost_frames": 0.0},
        **{"test_snr_db": (), "test_shift_ms": (), "test_lost_frames": ()},
    },
}
"""Settings that came after runs had been stored, with the value at which nothing changes.

At that value they are no part of a run's id, nor is a section of which nothing else is left, so that what was stored
before is still the same run.
"""


class RunConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a run's result depends on; its ``id`` is a hash of all of it, defaults included (but see NEUTRAL).

    ``initial_weights`` is the checksum of the weights that training starts from; empty where they are drawn.

    Raises:
        ConfigError: a warp of the frequencies that leaves mel bands without a bin of the spectrum.
    """

    corpus: CorpusRef
    features: FeatureConfig = FeatureConfig()
    augment: AugmentConfig = AugmentConfig()
    model: ModelConfig = ModelConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    data: DataConfig = DataConfig()
    initial_weights: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        empty = most_empty(self.features, self.augment.warp) if self.augment.warp else 0
        if empty:
            raise ConfigError(
                f"augment.warp={self.augment.warp} narrows the features.n_mels={self.features.n_mels} bands until "
                f"{empty} of them hold no bin of the spectrum of window_ms={self.features.window_ms:g}; lower "
                "augment.warp or n_mels, or use a longer window"
            )

    @property
    def id(self) -> str:
        """The first 16 hexadecimal digits of SHA-256 over the whole config as sorted JSON, the corpus by its checksum.

        >>> one = RunConfig(corpus=CorpusRef(name="a folder", checksum="f" * 64))
        >>> one.id == RunConfig(corpus=CorpusRef(name="the folder renamed", checksum="f" * 64)).id
        True
        """
        return ids(self, [self.seed])[0]


def ids(config: RunConfig, seeds: Iterable[int]) -> list[str]:
    """The id of the config with each of these seeds; a study has many, and all else is read only once for them."""
    # converting once more makes 40 and 40.0 the same window
    settings = msgspec.to_builtins(msgspec.convert(msgspec.to_builtins(config), RunConfig))
    settings["corpus"] = config.corpus.checksum
    for part, fields in NEUTRAL.items():
        for field, value in fields.items():
            if settings[part][field] == value:
                del settings[part][field]
        if not settings[part]:
            del settings[part]
    if not settings["initial_weights"]:  # it came later, too
        del settings["initial_weights"]
    texts = (msgspec.json.encode({**settings, "seed": seed}, order="sorted") for seed in seeds)
    return [hashlib.sha256(text).hexdigest()[:16] for text in texts]


def flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each setting of a nested table with its dotted name.

    >>> dict(flat({"model": {"cell": "gru", "hidden": 64}, "seed": 0}))
    {'model.cell': 'gru', 'model.hidden': 64, 'seed': 0}
    """
    for key, value in table.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
