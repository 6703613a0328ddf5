"""Read a finished run's record and model, or the best run of a study. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import safetensors.numpy
from safetensors import SafetensorError

from cello.errors import StoreError, unknown
from cello.files import DamagedFileError, naming_damage, read_stored
from cello.models.parts import Array, ModelParts, parts_of
from cello.study.corpus_file import CorpusSummary
from cello.study.pools import StoredRun
from cello.study.single import located_source, open_store
from cello.study.store import OPENER, CorpusSource, Store
from cello.training.folder import bring_cell
from cello.training.result import RunResult

LARGEST_MODEL = 1 << 32
"""Bytes of the largest file of weights that is read."""


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A finished run: where it lies, what was measured of it, the corpus it learned from, its model as arrays.

    ``source`` is how that corpus was opened, ``place`` the same corpus by an absolute path, empty where nobody kept it.
    """

    folder: Path
    result: RunResult
    corpus: CorpusSummary
    parts: ModelParts
    source: CorpusSource
    place: str = ""

    @property
    def specs(self) -> tuple[str, ...]:
        """By what its corpus may be opened: where it lay at its training, then as seen from the current folder.

        None where another function opened it: what a run's folder names besides is not called.
        """
        known = (self.place, self.source.spec) if self.source.opener == OPENER else ()
        return tuple(dict.fromkeys(filter(None, known)))

    @property
    def labels(self) -> tuple[str, ...]:
        """The C labels in the order of the scores."""
        return self.result.labels


def read_run(folder: Path | str, row: str | None = None, column: str | None = None) -> TrainedRun:
    """The run in a folder; of a study, or of a row or column of it, the one with the highest validation accuracy.

    Of runs with the same accuracy the one with the lower validation loss counts, then the earlier seed.

    Raises:
        StoreError: no finished run is there, no such row or column, or its files are damaged.
        ModelError: its weights are not those of its config.
    """
    store = open_store(folder)
    run = best(store, row, column)
    place = store.run_folder(run)
    config = run.result.config.model
    bring_cell(place, config)
    located = located_source(store.folder)
    return TrainedRun(
        folder=place,
        result=run.result,
        corpus=store.corpus,
        parts=parts_of(config, read_weights(place)),
        source=store.header.source,
        place="" if located is None or located.spec != store.header.source.spec else located.place,
    )


def read_weights(folder: Path) -> dict[str, Array]:
    """The weights in a run's folder, by their names.

    Raises:
        StoreError: they are not there, or damaged.
    """
    path = folder / "model.safetensors"
    with naming_damage(path, StoreError, "train the run again into another folder"):
        try:
            return safetensors.numpy.load(read_stored(path, LARGEST_MODEL))
        except SafetensorError as error:
            raise DamagedFileError(str(error)) from error
        except FileNotFoundError as error:
            raise StoreError(
                f"{str(folder)!r} holds no model.safetensors, so its model cannot be used; copy that file there too, "
                "or train the run again"
            ) from error


def best(store: Store, row: str | None = None, column: str | None = None) -> StoredRun:
    """Of a study's finished runs the one with the highest validation accuracy; the test clips decide nothing.

    Raises:
        StoreError: none is finished, or none has this row or column.
    """
    runs = list(store.each_result(curves=False))
    if not runs:
        raise StoreError(f"no run in {str(store.folder)!r} is finished; give the study's command again to go on")
    for kind, asked in (("row", row), ("column", column)):
        known = dict.fromkeys(getattr(run, kind) for run in runs)
        if asked is not None and asked not in known:
            raise StoreError(unknown(f"{kind} of the finished runs", asked, known))
    some = [run for run in runs if row in (None, run.row) and column in (None, run.column)]
    if not some:
        raise StoreError(f"no run of row {row!r} and column {column!r} in {str(store.folder)!r} is finished")
    return min(some, key=lambda run: (-run.result.validation.accuracy, run.result.validation.loss, run.seed))
