"""Use an exported folder where a run's model is used: to predict files, to be evaluated. Needs no torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cello.audio.corpus import Corpus
from cello.audio.decode import as_float, decode
from cello.cells.arrays import Precision
from cello.deploy.manifest import MANIFEST
from cello.deploy.package import Package, load
from cello.errors import ConfigError
from cello.trained.model import Model, Prediction, load_model


class ExportedModel:
    """A model that ``cello export`` wrote, computed by ``cello.deploy``.

    Attributes:
        labels: the C labels, in the order of scores
        rate_hz: the sampling rate that it takes
        run: the id of the run that it was exported from
        learned_from: the checksum of the corpus of its training
    """

    def __init__(self, package: Package) -> None:
        self.package = package
        self.labels, self.rate_hz, self.run = package.labels, package.rate_hz, package.manifest.run
        self.learned_from = package.manifest.corpus.checksum

    def predict_file(self, file: Path | str) -> Prediction:
        """What it says of one file.

        Raises:
            ClipError: it cannot be used; the text is the reason alone.
            DeployError: the folder has no model of clips.
        """
        sound = as_float(decode(Path(file), self.rate_hz, silent=True))
        return Prediction(self.labels, self.package.scores(sound), str(file))

    def scores(self, corpus: Corpus, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        """(K, C) scores of these clips of a corpus, which was read at the model's rate.

        Raises:
            ClipError: a clip shorter than one window of the features.
            DeployError: the folder has no model of clips.
        """
        found = np.empty((len(chosen), len(self.labels)), np.float32)
        for place, clip in enumerate(chosen):
            samples, lengths = corpus.audio(np.array([clip]))
            found[place] = self.package.scores(samples[0, : lengths[0]])
        return found


def is_exported(folder: Path | str) -> bool:
    """Whether a folder is an exported one, not that of a run or a study."""
    place = Path(folder)
    return (place / MANIFEST).exists() and not any((place / name).exists() for name in ("study.json", "config.json"))


def load_either(
    folder: Path | str, row: str | None = None, column: str | None = None, precision: Precision | None = None
) -> Model | ExportedModel:
    """The model of an exported folder, or else of a run, or of a study's best run by validation.

    A run is computed in float32 unless a precision is given, an exported folder in the one that it was exported with.

    Raises:
        ConfigError: a row or column of an exported folder, or another precision than its own.
        DeployError: the exported folder is damaged.
        StoreError, ModelError: as ``load_model``.
    """
    if not is_exported(folder):
        return load_model(folder, row, column, precision or "float32")
    for name, value in (("--row", row), ("--column", column)):
        if value is not None:
            raise ConfigError(
                f"{str(folder)!r} is one exported model, without rows and columns; leave out {name} {value}"
            )
    package = load(folder)
    if precision not in (None, own := package.manifest.precision.name):
        raise ConfigError(
            f"{str(folder)!r} is an exported model that computes in {own}; leave out --precision {precision}, or "
            "export the run again with it"
        )
    return ExportedModel(package)
