"""Write models of a study as one HTML page that listens: no server, nothing to download, sound stays on the device.

The page holds the models themselves, as :mod:`cello.export.js` writes them, with each one's accuracy and interval.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

from cello import __version__
from cello.cells.arrays import Precision
from cello.compiler.text import equations_text
from cello.errors import ReportError, StoreError
from cello.export.js import JsModel, Quantise, browser_file, library_text, models_text
from cello.export.stream import StreamSettings
from cello.files import write_whole
from cello.report.metrics import BY_KEY, SAME
from cello.report.tables import count, parameters
from cello.report.visible import visible
from cello.study.pools import StoredRun, pooled
from cello.study.single import open_store
from cello.study.store import Store
from cello.trained.run import TrainedRun, read_run
from cello.training.result import NOT_EVALUATED, RunResult

LARGEST_PAGE = 1_000_000
"""Bytes of the largest page that is written."""
PAGE_FILES = ("sound.js", "timeline.js", "page.js")
MOST_WORDS = 40
"""Labels that the head of the page lists."""


def write_page(
    runs: Sequence[TrainedRun],
    path: Path,
    *,
    title: str | None = None,
    stream: StreamSettings | None = None,
    quantise: Quantise | None = None,
    precision: Precision = "float32",
) -> int:
    """Write the page of one or several finished runs, and return its bytes.

    ``quantise`` turns each matrix into int8 with a scale a row; it is used only where the page would be larger than
    ``LARGEST_PAGE`` without. All models are computed in ``precision``. ``stream`` says how decisions are made on a
    stream, the defaults where it is left out.

    Raises:
        ReportError: there is no run, the page would be too large, or it cannot be written.
        CellError: an operation that JavaScript has no row for.
    """
    models, heading = page_models(runs, stream or StreamSettings())
    text = page_text(models, title or heading, None, precision)
    if quantise is not None and len(text.encode()) > LARGEST_PAGE:
        text = page_text(models, title or heading, quantise, precision)
    data = text.encode(errors="backslashreplace")
    if len(data) > LARGEST_PAGE:
        raise ReportError(
            f"a page of {count(len(models), 'model')} would have {len(data):,} bytes, more than {LARGEST_PAGE:,}; "
            f"{'choose fewer or smaller models' if quantise else 'choose fewer models, or quantise them to int8'}"
        )
    try:
        write_whole(path, [data])
    except OSError as error:
        raise ReportError(
            f"page {str(path)!r} cannot be written: {error.strerror}; choose another file or folder"
        ) from error
    return len(data)


def page_runs(folder: Path | str, rows: Sequence[str] = (), column: str | None = None) -> list[TrainedRun]:
    """The runs of a page: of a study each row's best by validation, in the plan's order; of a single run that one.

    Raises:
        StoreError: no finished run is there, no such row or column, or its files are damaged.
    """
    store = open_store(folder)
    if store.single:
        return [read_run(folder)]
    finished = {run.row for run in store.each_result(curves=False) if column in (None, run.column)}
    wanted = rows or [row.name for row in store.study.rows if row.name in finished]
    return [read_run(folder, row, column) for row in wanted] or [read_run(folder, None, column)]


def page_models(runs: Sequence[TrainedRun], stream: StreamSettings) -> tuple[list[JsModel], str]:
    """The models of a page with the facts that stand beside them, and the page's title.

    Raises:
        ReportError: there is no run.
        StoreError: the study that a run is part of is damaged.
    """
    if not runs:
        raise ReportError("a page needs at least one finished run; give the folder of a run or a study")
    stores = {folder: open_store(folder) for folder in dict.fromkeys(map(store_of, runs))}
    finished = {folder: list(store.each_result(curves=False)) for folder, store in stores.items()}
    models = [_model(run, stores[store_of(run)], finished[store_of(run)], stream) for run in runs]
    titles = dict.fromkeys(visible(store.study.title or store.study.name) for store in stores.values())
    return models, next(iter(titles)) if len(titles) == 1 else "Speak to these models"


def store_of(run: TrainedRun) -> Path:
    """The folder of the study that a run is part of, or the run's own."""
    folder = run.folder.resolve()
    study = folder.parent.parent
    return study if folder.parent.name == "runs" and (study / "study.json").exists() else folder


def page_text(
    models: Sequence[JsModel], title: str, quantise: Quantise | None = None, precision: Precision = "float32"
) -> str:
    """The whole page. Its security policy allows its own script and style, known by their hashes, and no connection."""
    style = browser_file("page.css")
    script = "\n".join([library_text(models, precision), models_text(models, quantise), *map(browser_file, PAGE_FILES)])
    filled = {
        "script_hash": _hash(script),
        "style_hash": _hash(style),
        "title": escape(title),
        "lead": escape(_lead(models)),
        "words": "".join(f"<li>{escape(word)}</li>" for word in _words(models)),
        "version": escape(__version__),
        "style": style,
        "script": script,
    }
    return re.sub(r"\{(\w+)\}", lambda mark: filled[mark[1]], browser_file("page.html"))


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _lead(models: Sequence[JsModel]) -> str:
    if len(models) == 1:
        return "Speak to it: the model runs in this page."
    return f"Speak to your study: {len(models)} models side by side, all in this page."


def _words(models: Sequence[JsModel]) -> list[str]:
    background = models[0].stream.decide.background
    words = list(dict.fromkeys(label for model in models for label in model.labels if label not in background))
    more = len(words) - MOST_WORDS
    return words if more <= 0 else [*words[:MOST_WORDS], f"and {more} more"]


def _model(run: TrainedRun, store: Store, finished: Sequence[StoredRun], stream: StreamSettings) -> JsModel:
    own = next((each for each in finished if each.id == run.result.run), None)
    if own is None:
        raise StoreError(f"run {run.result.run} is not among the finished runs of {str(store.folder)!r}; read it again")
    beside = [each for each in finished if (each.row, each.column) == (own.row, own.column)]
    whole = pooled(beside, store.corpus) if store.corpus.folds else beside
    accuracy, seeds = _accuracy(run.result, [each.result for each in whole])
    cell = run.parts.layers[0][0].cell
    config = run.result.config
    name = own.row if own.column == "" or len(store.study.columns) == 1 else f"{own.row}, {own.column}"
    layers = count(config.model.layers, "layer")
    direction = " in both directions" if config.model.bidirectional else ""
    facts = {
        "title": visible(cell.title),
        "size": f"{layers} of {config.model.hidden} units{direction}, {parameters([run.result])} parameters",
        "accuracy": accuracy,
        "seeds": seeds,
        "equations": visible_lines(equations_text(cell)),
    }
    labels = tuple(visible(label) for label in run.labels)
    background = tuple(visible(label) for label in stream.decide.background)
    settings = StreamSettings(stream.window_s, replace(stream.decide, background=background))
    return JsModel(visible(name), run.parts, config.features, labels, settings, facts)


def _accuracy(run: RunResult, seeds: Sequence[RunResult]) -> tuple[str, str]:
    """The test accuracy over the seeds beside a run, and what its interval is of; of folds only if all are finished."""
    tested = [result for result in seeds or [run] if result.test != NOT_EVALUATED]
    if not tested:
        return "Not evaluated on test clips", ""
    metric = BY_KEY["test_accuracy"]
    figure = metric.told(tested, "%").replace(" ", "\N{NO-BREAK SPACE}")
    shown = len(tested) > 1 and SAME not in metric.text(tested)
    over = f"{len(tested)} seeds" if len(tested) > 1 else "one seed"
    interval = f"95\N{NO-BREAK SPACE}% interval over {over}" if shown else f"{over}, no interval"
    return f"Test accuracy {figure}", f"{interval}; this is seed {run.config.seed}"


def visible_lines(text: str) -> str:
    """Text of several lines, each made visible."""
    return "\n".join(visible(line) for line in text.splitlines())
