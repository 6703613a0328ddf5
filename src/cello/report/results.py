"""Gather a study's store into the plain record that reports are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path

import msgspec

from cello.audio.origin import Origin
from cello.cells.paper import Paper
from cello.errors import ReportError
from cello.report.clips import PerClipCorrectness, per_clip_correctness, shown_clips
from cello.report.comparisons import ColumnComparisons, compare_columns
from cello.report.surprise import Surprise
from cello.report.visible import elided, is_local, last_part, names, visible, without_paths
from cello.study.corpus_file import CorpusSummary, FoldSummary, SplitSummary
from cello.study.growth import Growth
from cello.study.own_cells import WrittenCell, written
from cello.study.pools import StoredRun
from cello.study.reference_figures import ReferenceFigures
from cello.study.single import open_store
from cello.study.space import Tuned
from cello.study.store import Store
from cello.training.config import RunConfig
from cello.training.result import RunResult

NOTEBOOK = "Results.ipynb"
LONGEST_REASON = 2_000
"""Letters of a reason or another sentence that a store holds."""


MOST_FIGURES, MOST_REFERENCE_MODELS = 10, 200
"""Columns and rows of a reference table that a report shows."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One finished run and its place in the study's table."""

    row: str
    column: str
    seed: int
    result: RunResult


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One run whose last attempt failed, and why; ``fold`` is empty where there are none."""

    row: str
    column: str
    seed: int
    reason: str
    fold: str = ""


class FoldRun(msgspec.Struct, frozen=True, kw_only=True):
    """One finished run of cross-validation: how it did on the ``clips`` of its fold, accuracies in [0, 1]."""

    row: str
    column: str
    seed: int
    fold: str
    run: str
    clips: int
    accuracy: float
    validation_accuracy: float


class StudyResults(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A whole study as reporters see it: ``planned`` holds every (row, column, seed), ``runs`` what is finished of it.

    ``match`` and ``match_to`` say what the hidden sizes were chosen by, and after which row.
    ``notebook`` is the file name of its notebook, ``reference_figures`` what stands beside its own, wherever its clips
    are what those were measured on. A study without columns has one, whose name is empty.
    ``clips`` is None where the store does not name its test clips; ``own_cells`` are those that are not the zoo's,
    ``papers`` those that they name, by the fingerprint of their equations.
    ``single``: it is one run by itself, as ``cello train`` makes it.

    With ``corpus.folds`` each of ``runs`` is that of all folds together, each clip tested once, and ``fold_runs`` are
    the finished ones of single folds. ``growth`` is what joined the plan when runs were finished already.
    """

    name: str
    title: str
    protocol: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    seeds: tuple[int, ...]
    planned: tuple[tuple[str, str, int], ...]
    corpus: CorpusSummary
    runs: tuple[Run, ...]
    failures: tuple[Failure, ...] = ()
    comparisons: tuple[ColumnComparisons, ...] = ()
    match: str = "width"
    match_to: str = ""
    tuned: Tuned | None = None
    clips: PerClipCorrectness | None = None
    own_cells: tuple[WrittenCell, ...] = ()
    papers: dict[str, Paper] = {}
    single: bool = False
    notebook: str = NOTEBOOK
    reference_figures: ReferenceFigures | None = None
    fold_runs: tuple[FoldRun, ...] = ()
    growth: tuple[Growth, ...] = ()

    def cell(self, row: str, column: str) -> tuple[RunResult, ...]:
        """The finished runs of one table cell, in the order of their seeds."""
        return self._cells.get((row, column), ())

    def planned_seeds(self, row: str, column: str) -> int:
        """How many seeds the plan has for one table cell; 0 where the plan leaves it out."""
        return self._planned_seeds[row, column]

    def cells(self) -> dict[tuple[str, str], tuple[RunResult, ...]]:
        """Every (row, column) with at least one finished run, columns outermost, in the plan's order."""
        found = {(row, column): self.cell(row, column) for column in self.columns for row in self.rows}
        return {place: runs for place, runs in found.items() if runs}

    @cached_property
    def _cells(self) -> dict[tuple[str, str], tuple[RunResult, ...]]:
        groups: dict[tuple[str, str], list[Run]] = {}
        for run in self.runs:
            groups.setdefault((run.row, run.column), []).append(run)
        return {
            place: tuple(run.result for run in sorted(runs, key=lambda run: run.seed)) for place, runs in groups.items()
        }

    @cached_property
    def _planned_seeds(self) -> Counter[tuple[str, str]]:
        return Counter((row, column) for row, column, _ in self.planned)

    @cached_property
    def column_title(self) -> str:
        """What the columns are: windows where each column's runs share one window and no two columns do."""
        windows: dict[str, set[float]] = {column: set() for column in self.columns}
        for (_, column), runs in self.cells().items():
            windows[column] |= {run.config.features.window_ms for run in runs}
        seen = [w for w in windows.values() if w]
        distinct = {w for ws in seen for w in ws}
        return "Window" if all(len(w) == 1 for w in seen) and len(distinct) == len(seen) else "Column"


def place_name(row: str, column: str, seed: int | None = None) -> str:
    """How sentences name a place of the table.

    >>> place_name("GRU", "40 ms", 0)
    'GRU, 40 ms, seed 0'
    """
    return ", ".join(part for part in (row, column, "" if seed is None else f"seed {seed}") if part)


def load_results(folder: str | Path, curves: bool = True) -> StudyResults:
    """The results of the study in an output folder, finished or not, or of the single run in one.

    Without ``curves`` histories, most of what a large study takes in memory, are left out.

    Raises:
        StoreError: the folder holds no study, or one that cannot be read.
        ReportError: no run of the study is finished yet.
    """
    return gather(open_store(folder), curves)


def gather(store: Store, curves: bool = True) -> StudyResults:
    """Everything that reports say of a store; without ``curves`` the histories are left out.

    Raises:
        ReportError: no run is finished yet.
    """
    study = store.study
    stored = store.tested(curves=curves)
    runs = tuple(Run(row=r.row, column=r.column, seed=r.seed, result=r.result) for r in stored)
    failures = store.failures(None if store.corpus.folds else stored)
    if not runs:
        if store.corpus.folds and (done := len(store.runs) - len(store.pending())):
            raise ReportError(
                f"{str(store.folder)!r}: {done} of {len(store.runs)} runs are finished, but no model with one seed on "
                f"all {len(store.corpus.folds)} folds yet; resume the study first (cello study … --out {store.folder})"
            )
        why = f" ({failures[0].planned}: {failures[0].reason})" if failures else ""
        raise ReportError(
            f"{str(store.folder)!r}: none of the {len(store.runs)} planned runs of study {study.name!r} is finished"
            f"{why}, so there is nothing to report; run or resume the study first (cello study … --out {store.folder})"
        )
    rows, columns = tuple(row.name for row in study.rows), tuple(column.name for column in study.columns) or ("",)
    compared = compare_columns(store, columns, stored)
    found = StudyResults(
        name=study.name,
        title=study.title or study.name,
        protocol=study.protocol,
        rows=rows,
        columns=columns,
        seeds=study.seeds,
        planned=tuple(dict.fromkeys((run.row, run.column, run.seed) for run in store.runs)),
        corpus=store.corpus,
        runs=runs,
        failures=tuple(
            Failure(
                row=f.planned.row,
                column=f.planned.column,
                seed=f.planned.seed,
                reason=f.reason,
                fold=f.planned.fold if store.corpus.folds else "",
            )
            for f in failures
        ),
        match=study.match,
        match_to=study.reference,
        comparisons=tuple(column.found for column in compared),
        tuned=study.tuned,
        clips=per_clip_correctness(store.corpus, (column.tally for column in compared)),
        own_cells=written(store.header.cells),
        papers={equations: cell.paper for equations, cell in store.header.cells.items() if cell.paper},
        single=store.single,
        notebook=study.notebook or NOTEBOOK,
        reference_figures=study.reference_figures,
        fold_runs=tuple(_fold_run(part) for run in stored for part in run.parts),
        growth=store.header.growth,
    )
    return shown(found)


def _fold_run(part: StoredRun) -> FoldRun:
    result = part.result
    return FoldRun(
        row=part.row,
        column=part.column,
        seed=part.seed,
        fold=part.planned.fold,
        run=part.id,
        clips=result.test.clips,
        accuracy=result.test.accuracy,
        validation_accuracy=result.validation.accuracy,
    )


def shown(results: StudyResults) -> StudyResults:
    """The results with every text of the store as a report may show it: see ``visible``."""
    rows, columns = (_names(name for name in found) for found in (results.rows, results.columns))
    labels, folds = _names(results.corpus.labels), _names(results.corpus.fold_names)
    texts = {name: _name(getattr(results, name)) for name in ("name", "title", "protocol")}
    return msgspec.structs.replace(
        results,
        **texts,
        rows=tuple(rows.values()),
        columns=tuple(columns.values()),
        planned=tuple((rows.get(r, r), columns.get(c, c), seed) for r, c, seed in results.planned),
        corpus=_corpus(results.corpus, labels, folds),
        runs=_runs(results.runs, rows, columns, labels),
        failures=tuple(
            msgspec.structs.replace(
                f,
                row=rows.get(f.row, f.row),
                column=columns.get(f.column, f.column),
                reason=_sentence(f.reason),
                fold=folds.get(f.fold, f.fold),
            )
            for f in results.failures
        ),
        fold_runs=tuple(
            msgspec.structs.replace(
                run,
                row=rows.get(run.row, run.row),
                column=columns.get(run.column, run.column),
                fold=folds.get(run.fold, run.fold),
            )
            for run in results.fold_runs
        ),
        growth=tuple(
            msgspec.structs.replace(
                part,
                rows=tuple(rows.get(row, row) for row in part.rows),
                columns=tuple(columns.get(column, column) for column in part.columns),
            )
            for part in results.growth
        ),
        comparisons=tuple(_comparisons(found, rows, columns) for found in results.comparisons),
        match_to=rows.get(results.match_to, _name(results.match_to)),
        reference_figures=results.reference_figures and _reference_figures(results.reference_figures),
        clips=shown_clips(results.clips, _name, labels, (rows, columns)) if results.clips else None,
    )


def _name(text: str) -> str:
    return elided(visible(text))


def _names(found: Iterable[str]) -> dict[str, str]:
    return names(found, _name)


def _sentence(text: str) -> str:
    return elided(visible(without_paths(text)), LONGEST_REASON)


def _origin(found: Origin) -> Origin:
    """Where the clips are from, without the way to their folder."""
    kind, colon, path = found.spec.partition(":")
    if not colon or is_local(kind) or len(kind) == 1:
        kind, colon, path = "", "", found.spec
    spec = f"{kind}{colon}{last_part(path) if is_local(path) else path}"
    texts = {"spec": spec, "task": found.task, "rule": found.rule}
    return msgspec.structs.replace(found, **{name: _sentence(text) for name, text in texts.items()})


def _reference_figures(found: ReferenceFigures) -> ReferenceFigures:
    texts = {name: _name(getattr(found, name)) for name in ("name", "heading", "title", "model_heading", "group")}
    return msgspec.structs.replace(
        found,
        **texts,
        caption=_sentence(found.caption),
        sentences=tuple(map(_sentence, found.sentences)),
        figures=tuple(
            msgspec.structs.replace(figure, measured=_name(figure.measured)) for figure in found.figures[:MOST_FIGURES]
        ),
        models=tuple(
            msgspec.structs.replace(model, name=_name(model.name)) for model in found.models[:MOST_REFERENCE_MODELS]
        ),
    )


def _corpus(corpus: CorpusSummary, labels: dict[str, str], folds: dict[str, str]) -> CorpusSummary:
    def split(own: SplitSummary) -> SplitSummary:
        counts = {labels.get(label, label): n for label, n in own.clips_by_label.items()}
        return msgspec.structs.replace(own, clips_by_label=counts)

    splits = {name: split(own) for name, own in corpus.splits.items()}
    origin = _origin(corpus.origin)
    return msgspec.structs.replace(
        corpus,
        name=_name(corpus.name),
        source=_sentence(str(origin)),
        origin=origin,
        checksum=_name(corpus.checksum),
        labels=tuple(labels.values()),
        splits=splits,
        test_names=tuple(map(_name, corpus.test_names)),
        speaker_names=tuple(map(_name, corpus.speaker_names)),
        folds=tuple(FoldSummary(name=folds[fold.name], test=split(fold.test)) for fold in corpus.folds),
        columns={},  # what they say stands in ``clips``
        bad=tuple(
            msgspec.structs.replace(clip, name=_name(clip.name), reason=_sentence(clip.reason)) for clip in corpus.bad
        ),
    )


def _runs(
    runs: Iterable[Run], rows: dict[str, str], columns: dict[str, str], labels: dict[str, str]
) -> tuple[Run, ...]:
    """Each run as it may be shown; what stays as it is, is still held once for all runs that share it."""
    texts: dict[str, str] = {}

    def name(text: str) -> str:
        return texts.setdefault(text, _name(text))

    def result(found: RunResult) -> RunResult:
        changed = {
            "labels": tuple(labels.get(label, label) for label in found.labels),
            "backend": name(found.backend),
            "hardware": _facts(found.hardware),
            "versions": _facts(found.versions),
            "config": _config(found.config, name),
        }
        changed = {field: value for field, value in changed.items() if value != getattr(found, field)}
        return msgspec.structs.replace(found, **changed) if changed else found

    return tuple(
        Run(
            row=rows.get(run.row, run.row),
            column=columns.get(run.column, run.column),
            seed=run.seed,
            result=result(run.result),
        )
        for run in runs
    )


def _facts(given: dict[str, str]) -> dict[str, str]:
    keys = _names(given)
    return {keys[name]: _sentence(value) for name, value in given.items()}


def _config(given: RunConfig, name: Callable[[str], str]) -> RunConfig:
    """The settings, a cell of somebody's own without the way to its file."""
    file, dot, cell = given.model.cell.rpartition(".py:")
    cell, equations = name(f"{last_part(file)}{dot}{cell}"), name(given.model.equations)
    corpus = {field: name(getattr(given.corpus, field)) for field in ("name", "checksum")}
    if (cell, equations, *corpus.values()) == (
        given.model.cell,
        given.model.equations,
        *msgspec.structs.astuple(given.corpus),
    ):
        return given
    model = msgspec.structs.replace(given.model, cell=cell, equations=equations)
    return msgspec.structs.replace(given, model=model, corpus=msgspec.structs.replace(given.corpus, **corpus))


def _comparisons(found: ColumnComparisons, rows: dict[str, str], columns: dict[str, str]) -> ColumnComparisons:
    return msgspec.structs.replace(
        found,
        column=columns.get(found.column, found.column),
        standings=tuple(msgspec.structs.replace(one, row=rows.get(one.row, one.row)) for one in found.standings),
        comparisons=tuple(
            pair._replace(first=rows.get(pair.first, pair.first), second=rows.get(pair.second, pair.second))
            for pair in found.comparisons
        ),
        note=_sentence(found.note),
        surprise=found.surprise and _surprise(found.surprise, rows),
    )


def _surprise(found: Surprise, rows: dict[str, str]) -> Surprise:
    larger, smaller = (tuple(rows.get(name, name) for name in pair) for pair in (found.larger, found.smaller))
    varying = rows.get(found.varying, found.varying)
    return msgspec.structs.replace(found, larger=larger, smaller=smaller, varying=varying)
