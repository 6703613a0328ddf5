"""Load a trained model to predict clips and streams of sound. Torch is loaded only for its module."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cello.audio.decode import as_float, decode
from cello.cells.arrays import Precision
from cello.deploy.decisions import DecisionConfig, softmax
from cello.deploy.sound import clip_of
from cello.errors import ClipError, ConfigError, ModelError
from cello.features.clip import frames_of_clip
from cello.features.config import FeatureConfig
from cello.trained.chosen import STREAM_FILE, ChosenStream, chosen_stream
from cello.trained.numpy_model import NumpyModel
from cello.trained.run import TrainedRun, read_run
from cello.trained.stream import ModelStream, ScoreStream, steps_in
from cello.training.result import RunResult

if TYPE_CHECKING:
    from cello.models.classifier import Classifier

Floats = NDArray[np.float32]
AFTER_WINDOW_S = 0.5
"""How much longer than the pooling window no second decision is made: words are said at some length."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of a clip: ``scores`` (C,) before softmax, of ``labels``; ``file`` where it was one."""

    labels: tuple[str, ...]
    scores: Floats
    file: str = ""

    @property
    def label(self) -> str:
        """The most probable label."""
        return self.labels[int(self.scores.argmax())]

    @property
    def probability(self) -> float:
        """The probability of ``label``."""
        return float(self.probabilities.max())

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """(C,) probabilities, whose sum is 1."""
        return softmax(self.scores)

    def top(self, count: int = 3) -> list[tuple[str, float]]:
        """The most probable labels with their probabilities, the most probable first."""
        order = np.argsort(-self.scores, kind="stable")[:count]
        return [(self.labels[k], float(self.probabilities[k])) for k in order]


class Model:
    """A trained model; :func:`load_model` makes it, and its streams decide as was ``measured``.

    Attributes:
        labels: the C labels, in the order of scores
        features: how sound becomes frames, ``features.rate_hz`` the sampling rate
        run: the record of its training: config, what was measured on each split
        folder: where the run lies
        precision: what it is computed in, from frames to scores; weights and scores are float32 in both
    """

    def __init__(self, trained: TrainedRun, *, measured: bool = False, precision: Precision = "float32") -> None:
        self.trained, self._measured, self.precision = trained, measured, precision
        self.labels = trained.labels
        self.features: FeatureConfig = trained.result.config.features
        self.run: RunResult = trained.result
        self.folder = trained.folder
        self._numpy = NumpyModel(trained.parts, precision)

    def __repr__(self) -> str:
        config = self.run.config
        return f"<Model {config.model.cell}, {len(self.labels)} labels, {self.features.rate_hz} Hz, run {self.run.run}>"

    @cached_property
    def module(self) -> Classifier:
        """The same model as a PyTorch module in eval mode: (B, T, D) standardised frames → (B, C) scores.

        Its parameters, and the frames that it takes, are of the model's precision.
        """
        made: Classifier = import_module("cello.trained.module").module_of(self.trained, precision=self.precision)
        return made

    def predict(self, samples: ArrayLike, rate_hz: int) -> Prediction:
        """What it says of a clip of (N,) or (N, channels) samples: floats in [−1, 1] or int16.

        Channels are averaged, and another rate than the model's is resampled, as in reading a corpus.

        Raises:
            ClipError: samples that are no sound, or fewer than one window of the features.
        """
        return self._of(clip_of(samples, rate_hz, self.features.rate_hz))

    def predict_files(self, files: Iterable[Path | str]) -> list[Prediction]:
        """What it says of each file: WAV, FLAC, OGG, Opus, MP3 and what else a corpus may hold.

        Raises:
            ClipError: one cannot be used; the error names it and says why.
        """
        found = []
        for file in files:
            try:
                found.append(self.predict_file(file))
            except ClipError as error:
                raise ClipError(f"{str(file)!r}: {error}") from error
        return found

    def predict_file(self, file: Path | str) -> Prediction:
        """What it says of one file.

        Raises:
            ClipError: it cannot be used; the text is the reason alone.
        """
        return self._of(as_float(decode(Path(file), self.features.rate_hz, silent=True)), str(file))

    def stream(self, window_s: float | None = None, **settings: Any) -> ModelStream:
        """A stream of endless sound, whose ``push`` takes samples and gives decisions.

        What is not given is what ``cello evaluate --stream --out`` chose, where it left that in the run's folder.

        Args:
            window_s: the sound in s that scores are pooled over; the median length of the training clips unless given.
            settings: those of :class:`~cello.deploy.decisions.DecisionConfig`. ``refractory_s`` is half a second more
                than the window unless given: so long a word is in sight, and would be decided for once more.

        Raises:
            StoreError: what was chosen is damaged.
            ModelError: a model that needs the end of the clip, or no window given where the run does not record one.
            FeatureError: features that need the end of the clip.
            ConfigError: an invalid setting.
        """
        where = "given" if "threshold" in settings else "default"
        if (chosen := self._chosen) is not None:
            where = where if where == "given" else STREAM_FILE
            window_s, settings = chosen.window_s if window_s is None else window_s, chosen.settings | settings
        window_s = self._window_s(window_s)
        steps = steps_in(window_s, self.features, self.trained.parts.frame_stacking)
        scores = ScoreStream(self._numpy, self.features, steps)
        settings.setdefault("refractory_s", window_s + AFTER_WINDOW_S)
        return ModelStream(scores, self.labels, window_s, DecisionConfig(**settings), where)

    @cached_property
    def _chosen(self) -> ChosenStream | None:
        return chosen_stream(self.trained) if self._measured else None

    def _window_s(self, given: float | None) -> float:
        known = self.trained.corpus.train_clip_s
        if given is None and known is None and self.trained.parts.pooling != "last":
            raise ModelError(
                f"run {self.run.run} does not record how long its training clips are, and its pooling needs it; "
                "give window_s, their median length in s"
            )
        window_s = given if given is not None else known or 1.0
        if not 0 < window_s <= 3600:
            raise ConfigError(f"window_s={window_s} is invalid: it must be above 0 and at most 3600 s")
        return window_s

    def _of(self, samples: Floats, file: str = "") -> Prediction:
        if len(samples) < self.features.window_samples:
            raise ClipError(
                f"too short: it lasts {1000 * len(samples) / self.features.rate_hz:.4g} ms, less than one window of "
                f"features.window_ms={self.features.window_ms:g}; give a longer clip"
            )
        return Prediction(self.labels, self._numpy.scores(frames_of_clip(samples, self.features)), file)


def load_model(
    run_or_folder: Path | str, row: str | None = None, column: str | None = None, precision: Precision = "float32"
) -> Model:
    """The model of a finished run, or of a study, or of a row or column of it, the one that is best by validation.

    ``precision`` is what it is computed in: "float32" as it was trained, or "float64".

    Raises:
        ConfigError: another precision.
        StoreError: no finished run is there, no such row or column, or its files are damaged.
        ModelError: its weights are not those of its config.
    """
    if precision not in get_args(Precision):
        raise ConfigError(f"precision={precision!r} is invalid: it must be float32 or float64")
    return Model(read_run(run_or_folder, row, column), measured=True, precision=precision)
