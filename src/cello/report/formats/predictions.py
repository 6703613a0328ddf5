"""Write every prediction of a study as CSV: one row a test clip of a run, with its file name and speaker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cello.errors import ReportError
from cello.files import write_whole
from cello.report.spreadsheet import written
from cello.study.folder import naming
from cello.study.pools import StoredRun
from cello.study.predictions import Predictions
from cello.study.single import open_store
from cello.study.store import Store

NAMES = ("target", "prediction", "target_probability", "prediction_probability")
HEADS = ("row", "column", "seed", "run", "clip", "speaker", "label", "predicted", "label_probability", "probability")


def write_predictions(folder: Path | str, out: Path | str) -> Path:
    """Write ``predictions.csv`` into ``out``: the runs in the plan's order, each one's test clips in the corpus's.

    ``clip`` and ``speaker`` are empty where the store does not name them.

    Raises:
        StoreError: no study there, or predictions that are missing; ``out`` cannot be written.
        ReportError: no run is finished yet.
    """
    store, path = open_store(folder), Path(out) / "predictions.csv"
    runs = list(store.each_result(curves=False))
    if not runs:
        raise ReportError(f"{str(folder)!r}: no run is finished, so there are no predictions; run the study first")
    with naming(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, _parts(store, runs))
    return path


def _parts(store: Store, runs: list[StoredRun]) -> Iterator[bytes]:
    reader = Predictions()
    yield written(HEADS, []).encode("utf-8-sig")
    for run in runs:
        yield written(HEADS, _rows(store, run, reader)).partition("\n")[2].encode()


def _rows(store: Store, run: StoredRun, reader: Predictions) -> Iterator[tuple[object, ...]]:
    corpus, found = store.corpus, store.predictions(run, NAMES, reader)
    own = corpus.tested_by(run.planned.fold, len(found["target"])).tolist()
    people = corpus.speaker_names
    for place, target, predicted, *sure in zip(own, *(found[name].tolist() for name in NAMES), strict=True):
        clip = corpus.test_names[place] if corpus.test_names else ""
        speaker = people[corpus.test_speakers[place]] if people else ""
        labels = corpus.labels[target], corpus.labels[predicted]
        yield run.row, run.column, run.seed, run.result.run, clip, speaker, *labels, *(f"{p:.4g}" for p in sure)
