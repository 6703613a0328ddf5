"""Build the study's tables as plain records of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from cello.audio.corpus import SPLITS
from cello.report import settings_differences, speakers
from cello.report.metrics import ACCURACY, BY_KEY, COST, LOSS, SAME, SAME_NOTE, UNRECORDED, WHOLE, Metric
from cello.report.results import StudyResults
from cello.report.settings_differences import names_of
from cello.report.vocabulary import title as title_of
from cello.statistics.means import FEW_SEEDS
from cello.study.corpus_file import SplitSummary
from cello.study.settings import shown_name
from cello.training.config import flat
from cello.training.result import RunResult

MOST_FOLDS = 12
"""Above so many folds a table has not a column for each."""
ABSENT = UNRECORDED
TITLE = "All results"
ON_GPU = ", of runs on a GPU the wall time with features and augmentation"
FEW = "†"
CHOSEN = "*"
LISTED = 1_000  # clips that were left out, in a table


class Heading(NamedTuple):
    """A column's title, and the group that neighbouring columns share."""

    title: str
    group: str = ""


class Table(NamedTuple):
    """Rows of finished text. The first ``words`` columns are words, the others figures.

    ``grouped``: the first column names a group of consecutive rows. ``strong`` holds (row, column) of cells to stress.
    """

    key: str
    title: str
    note: str
    headings: tuple[Heading, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1
    grouped: bool = False
    strong: frozenset[tuple[int, int]] = frozenset()


def best_cell(results: StudyResults) -> tuple[str, str]:
    """The (row, column) with the highest mean validation accuracy; the test clips take no part in the choice."""
    cells = results.cells()
    return max(cells, key=lambda place: BY_KEY["validation_accuracy"].over(cells[place]).mean)


def best_column(results: StudyResults, row: str) -> str:
    """The column in which a model's mean validation accuracy is highest."""
    cells = {place: runs for place, runs in results.cells().items() if place[0] == row}
    return max(cells, key=lambda place: BY_KEY["validation_accuracy"].over(cells[place]).mean)[1]


def interval_note(results: StudyResults) -> str:
    """How to read ± in this study, for captions."""
    counts = {len(runs) for runs in results.cells().values()}
    parts = []
    if max(counts) > 1:
        parts.append("± is half the 95 % t-interval over seeds.")
    if any(1 < n < FEW_SEEDS for n in counts):
        parts.append(f"{FEW} marks fewer than {FEW_SEEDS} seeds: the interval is indicative only.")
    if 1 in counts:
        parts.append("A figure without ± comes from a single seed.")
    return " ".join(parts)


def same_note(rows: Sequence[Sequence[str]]) -> str:
    """What the mark of runs that agree means; empty where a table's rows have none."""
    return SAME_NOTE if any(SAME in cell for row in rows for cell in row) else ""


def cut(results: StudyResults) -> bool:
    """Whether an accuracy's interval would leave 0 to 100 %."""
    return any(metric.cut(runs) for runs in results.cells().values() for metric in ACCURACY)


def seeds_text(results: StudyResults, row: str, column: str) -> str:
    """How many seeds stand behind a cell: ``3 †``, ``2 of 5 †``, ``5``."""
    n, planned = len(results.cell(row, column)), results.planned_seeds(row, column)
    return (f"{n}" if n == planned else f"{n} of {planned}") + (f" {FEW}" if 1 < n < FEW_SEEDS else "")


def overview(results: StudyResults, metric: Metric) -> Table:
    """Models × windows, one figure in each cell."""
    cells, best, stressed = results.cells(), best_cell(results), metric.key == "test_accuracy"
    rows = []
    for row in results.rows:
        shown = [row]
        for column in results.columns:
            runs = cells.get((row, column), ())
            planned = results.planned_seeds(row, column)
            short = f" ({len(runs)} of {planned})" if 0 < len(runs) < planned else ""
            chosen = f" {CHOSEN}" if stressed and (row, column) == best else ""
            shown.append(metric.text(runs) + short + chosen if runs else ABSENT)
        rows.append(tuple(shown))
    seeds = f"{len(results.seeds)} seeds" if len(results.seeds) != 1 else "1 seed"
    chosen_by = f" {CHOSEN} marks the model that has the highest mean validation accuracy." if stressed else ""
    indicative = f" With fewer than {FEW_SEEDS} seeds the intervals are indicative only." * (
        1 < len(results.seeds) < FEW_SEEDS
    )
    spread = "; ± is half the 95 % t-interval over seeds" if len(results.seeds) > 1 else ""
    return Table(
        key=f"overview_{metric.key}",
        title=f"{metric.name.capitalize()}, by model and {results.column_title.lower()}",
        note=f"Mean over {seeds}{spread}.{same_note(rows)}{indicative}{chosen_by}",
        headings=(Heading("Model"), *(Heading(c, results.column_title) for c in results.columns)),
        rows=tuple(rows),
    )


def by_column(
    results: StudyResults,
    *,
    key: str,
    title: str,
    note: str,
    headings: Sequence[Heading],
    rows: Sequence[Sequence[str]],
) -> Table:
    """A table whose rows begin with a column's name and stand in groups; a study without columns has neither."""
    named = results.columns != ("",)
    return Table(
        key=key,
        title=title,
        note=note,
        headings=(*((Heading(results.column_title),) if named else ()), *headings),
        rows=tuple(tuple(row if named else row[1:]) for row in rows),
        words=2 if named else 1,
        grouped=named,
    )


def details(results: StudyResults, metrics: Sequence[Metric] = ACCURACY + LOSS + COST, title: str = TITLE) -> Table:
    """Every cell with its parameters, seeds and ``metrics``, grouped by column; train, validation and test apart."""
    note = (
        "Train, validation and test figures are measured after training, in eval mode, on all clips of the split, "
        f"without augmentation. {interval_note(results)}"
    )
    return _every_cell(results, "details", title, note.strip(), metrics)


def times(results: StudyResults) -> Table:
    """Every cell with seconds per epoch and clips per second, of its training steps and of the whole epoch."""
    lacking = any(run.result.epoch_cpu_seconds is None for run in results.runs)
    on_gpu = any(run.result.device != "cpu" for run in results.runs)
    note = (
        f"Training: CPU time of the training steps{ON_GPU * on_gpu}. "
        "Whole epoch: augmentation, features, training steps and validation, "
        "as wall time (of clips per second too) and as CPU time of all threads. "
        f"{f'{UNRECORDED} is not recorded. ' * lacking}{interval_note(results)}"
    )
    return _every_cell(results, "times", "Time per epoch", note.strip(), COST + WHOLE)


def _every_cell(results: StudyResults, key: str, title: str, note: str, metrics: Sequence[Metric]) -> Table:
    rows = []
    for row, column in dict.fromkeys((row, column) for column in results.columns for row in results.rows):
        runs = results.cell(row, column)
        if runs or results.planned_seeds(row, column):
            figures = [metric.text(runs) if runs else ABSENT for metric in metrics]
            count = parameters(runs) if runs else ABSENT
            rows.append((column, row, count, seeds_text(results, row, column), *figures))
    first = (Heading("Model"), Heading("Parameters"), Heading("Seeds"))
    headings = (*first, *(Heading(title_of(m, results), m.group) for m in metrics))
    return by_column(results, key=key, title=title, note=note + same_note(rows), headings=headings, rows=rows)


def parameters(runs: Sequence[RunResult]) -> str:
    """The parameter count of a cell; all its seeds share one, or both ends of the range are shown."""
    counts = sorted({r.parameters for r in runs})
    return f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,}–{counts[-1]:,}"


def corpus_clips(results: StudyResults) -> Table:
    """Usable clips of each label in each split, and how many speakers said them."""
    corpus = results.corpus
    parts: list[tuple[str, SplitSummary]] = [(split, corpus.splits[split]) for split in SPLITS]
    if corpus.folds:
        every = [(fold.name, fold.test) for fold in corpus.folds] if len(corpus.folds) <= MOST_FOLDS else []
        parts = [*every, ("all", corpus.splits["test"])]
    splits = [own for _, own in parts]
    rows = [(label, *(f"{split.clips_by_label.get(label, 0):,}" for split in splits)) for label in corpus.labels]
    rows.append(("all", *(f"{split.clips:,}" for split in splits)))
    said = speakers.known(results)
    rows.append(("speakers", *(f"{split.speakers:,}" if said else "not known" for split in splits)))
    return Table(
        key="corpus",
        title=f"Clips of {corpus.name}",
        note=(
            f"{len(corpus.labels)} labels, {corpus.rate_hz:,} Hz, from {corpus.source}. "
            f"{speakers.sharing(results)} "
            f"Checksum of names, labels, splits, speakers and samples: {corpus.checksum[:16]}."
        ),
        headings=(Heading("Label"), *(Heading(name, "Clips") for name, _ in parts)),
        rows=tuple(rows),
    )


def bad_clips(results: StudyResults) -> Table | None:
    """Clips that were left out and why; None where there are none."""
    bad = results.corpus.bad
    if not bad:
        return None
    rest = f" The first {LISTED:,} stand here, all in the study’s corpus.json." if len(bad) > LISTED else ""
    return Table(
        key="bad_clips",
        title="Clips left out",
        note=f"{len(bad)} clips of {results.corpus.name} could not be used; no figure counts them.{rest}",
        headings=(Heading("Clip"), Heading("Reason")),
        rows=tuple((clip.name, clip.reason) for clip in bad[:LISTED]),
        words=2,
    )


def settings(results: StudyResults) -> Table:
    """Every setting of the runs: its one value, or each with who has it. Corpus and seed stand elsewhere."""
    found = settings_differences.settings(results)
    by_config = {kind.config: dict(flat(msgspec.to_builtins(kind.config))) for kind in found.kinds}
    names = dict.fromkeys(name for own in by_config.values() for name in own)
    shown = [name for name in names if not name.startswith("corpus.") and name != "seed"]

    def told(name: str) -> str:
        groups = found.groups(lambda config: _in_words(by_config[config].get(name)))
        if len(groups) > 1 and not groups[0].names:
            return f"{', '.join(group.text for group in groups)} (by {groups[0].decides})"
        most = max(groups, key=lambda group: len(group.names))
        named = [f"{group.text} ({names_of(group, group is most)})" for group in groups]
        return "; ".join(named) if len(groups) > 1 else groups[0].text

    return Table(
        key="settings",
        title="Settings of the runs",
        note="A setting that differs between rows or columns shows each value with the rows or columns that have it.",
        headings=(Heading("Setting"), Heading("Value")),
        rows=tuple((shown_name(name), told(name)) for name in shown),
        words=2,
    )


def _in_words(value: object) -> str:
    """A setting's value as the table has it.

    >>> _in_words(None), _in_words(()), _in_words([10, -5.0]), _in_words(True)
    ('none', 'none', '10, -5.0', 'yes')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value) or "none"


def count(n: int, thing: str) -> str:
    """A number with its noun.

    >>> count(1, "seed"), count(1_200, "run")
    ('1 seed', '1,200 runs')
    """
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"
