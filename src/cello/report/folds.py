"""Describe cross-validation and how far its tests and intervals can be trusted."""

from __future__ import annotations

from statistics import fmean

from cello.report import speakers
from cello.report.results import StudyResults
from cello.report.tables import ABSENT, MOST_FOLDS, Heading, Table, by_column, count
from cello.statistics.false_alarms import caution

SOURCE = "Nadeau & Bengio 2003, doi:10.1023/A:1024068626366"


def summary(results: StudyResults) -> str:
    """That it is cross-validation, over which folds, and what is counted; else that folds lie unused, or empty."""
    corpus = results.corpus
    if not corpus.folds:
        if corpus.origin.split != "hold-out":
            return ""
        return (
            "One fold of the corpus is tested here. Official protocols such as those of ESC-50 and UrbanSound8K train "
            "and test on each fold in turn: cello study … --folds column."
        )
    return (
        f"Cross-validation: {speakers.rule(results)}. {_turns(len(corpus.folds))}, so that each of the "
        f"{corpus.splits['test'].clips:,} clips is tested exactly once; a figure is over all of them."
    )


def data(results: StudyResults, bad: str) -> str:
    """The same for a methods paragraph, with what the corpus is."""
    corpus, known = results.corpus, speakers.known(results)
    people = f" of {count(corpus.splits['test'].speakers, 'speaker')}" if known else ""
    apart = " (no speaker is in two of them)" if known and not speakers.shared(results) else ""
    return (
        f"The corpus, {corpus.name} (SHA-256 {corpus.checksum[:16]}), has {len(corpus.labels)} labels and "
        f"{count(corpus.splits['test'].clips, 'clip')}{people}{bad}. Models were cross-validated over "
        f"{speakers.rule(results)}{apart}: {_turns(len(corpus.folds)).lower()}, so that every clip was tested exactly "
        f"once, by a run not trained on its fold; predictions of all folds were pooled."
    )


def tests(results: StudyResults, pairs: str) -> str:
    """How pairs were compared, for a methods paragraph."""
    folds = len(results.corpus.folds)
    return (
        f"{pairs} were compared on the pooled predictions by the corrected resampled t-test ({SOURCE}) over the "
        f"{folds} folds, whose variance (1/k + n_test/n_train) s² allows for the overlap of the training sets, with "
        f"{folds - 1} degrees of freedom"
    )


def cautions(results: StudyResults) -> str:
    """What simulations found of tests and intervals with so few speakers, seeds or folds; empty where they hold."""
    standings = [model for found in results.comparisons if found.comparisons for model in found.standings]
    if not standings:
        return ""
    corpus = results.corpus
    seeds, unit = min(model.seeds for model in standings), "speakers" if speakers.known(results) else "clips"
    return caution(corpus.splits["test"].speakers, seeds, len(corpus.folds) or None, unit)


def table(results: StudyResults) -> Table | None:
    """Accuracy by fold and pooled; None without folds."""
    folds = results.corpus.folds
    if not folds or not results.fold_runs:
        return None
    many = len(folds) > MOST_FOLDS
    rows = []
    for row, column in ((row, column) for column in results.columns for row in results.rows):
        if not (runs := results.cell(row, column)):
            continue
        own = [_accuracy(results, row, column, fold.name) for fold in folds]
        shown = [min(own), fmean(own), max(own)] if many else own
        pooled = fmean(run.test.accuracy for run in runs)
        rows.append((column, row, *(f"{100 * value:.2f}" for value in (*shown, pooled))))
    names = ["lowest", "mean", "highest"] if many else [fold.name or ABSENT for fold in folds]
    listed = f" Of {len(folds)} folds the lowest, mean and highest stand here, all in report.json." if many else ""
    return by_column(
        results,
        key="folds",
        title="Test accuracy by fold",
        note=f"In per cent, mean over seeds: {speakers.rule(results)}. Pooled is over all clips, larger folds counting "
        f"more.{listed}",
        headings=[Heading("Model"), *(Heading(name, "Fold") for name in names), Heading("pooled")],
        rows=rows,
    )


def _accuracy(results: StudyResults, row: str, column: str, fold: str) -> float:
    found = [run.accuracy for run in results.fold_runs if (run.row, run.column, run.fold) == (row, column, fold)]
    return fmean(found)


def _turns(folds: int) -> str:
    train = f"the other {folds - 2} train" if folds > 3 else "the third trains"
    return f"Each fold tests in turn while the one before it validates and {train}"
