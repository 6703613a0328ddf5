"""Rank and compare the models of each column from a store's predictions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from cello.errors import StoreError
from cello.report import parallel
from cello.report.surprise import Surprise, surprise
from cello.statistics.comparisons import Comparison, pairwise
from cello.statistics.cross_validation import fold_components, validated_ratio
from cello.statistics.means import FEW_SEEDS
from cello.statistics.random_effects import Estimate, components, interval_estimate
from cello.statistics.ranks import letters
from cello.study.correctness import Tally, answers, speakers_of
from cello.study.pools import StoredRun
from cello.study.store import Store

NO_SPEAKERS = (
    "This study was made before Cello kept who said each test clip, so its differences cannot be tested; run the same "
    "command once more with the corpus there (nothing is trained again)."
)
ONE_SPEAKER = "All test clips are one speaker’s, which says nothing of other speakers; no difference can be tested."
ONE_CLIP = "There is one test clip, which says nothing of others; no difference can be tested."
TOO_FEW = "A comparison needs two models with at least two finished seeds each; run more of them."


TOO_FEW_FOLDS = "A comparison needs two models with at least one seed finished on all folds; run more of them."


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A model's place: its test accuracy in [0, 1] as it would be with new seeds and new speakers, and its letters.

    Two models of a column share a letter if and only if they do not differ significantly (compact letter display).
    """

    row: str
    accuracy: Estimate
    letters: str
    seeds: int
    folds: int = 0

    @property
    def indicative(self) -> bool:
        """Fewer than five seeds stand behind it, and no folds."""
        return not self.folds and self.seeds < FEW_SEEDS


class ColumnComparisons(msgspec.Struct, frozen=True, kw_only=True):
    """One column's models, best test accuracy first, and every pair of them; ``note`` says what could not be compared.

    The order is that of the test clips, which is what the tests are about; it chooses no model. ``surprise`` is set
    where a larger difference is not significant and a smaller one is.
    """

    column: str
    standings: tuple[Standing, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    note: str = ""
    surprise: Surprise | None = None


class ComparedColumn(NamedTuple):
    """What a column's predictions say: of its models, and of each test clip, if the store names those."""

    found: ColumnComparisons
    tally: Tally | None = None


def compare_columns(store: Store, columns: Sequence[str], runs: Sequence[StoredRun]) -> tuple[ComparedColumn, ...]:
    """What each column that has a finished run says; a process holds one column's predictions at a time."""
    own = {column: [run for run in runs if run.column == column] for column in columns}
    begun = [column for column in columns if own[column]]
    worth = len(runs) >= parallel.MANY_RUNS
    return tuple(parallel.on_all_cores(lambda column: _of_column(store, column, own[column]), begun, worth))


def compare_folds(column: str, correct: Mapping[str, ArrayLike], folds: ArrayLike) -> ColumnComparisons:
    """Rank and compare models by cross-validation: (R, K) right or wrong a model, out of fold, (K,) folds, from 0.

    >>> rng = np.random.default_rng(0)
    >>> right = {"RNN": rng.random((1, 2000)) < 0.85, "GRU": rng.random((1, 2000)) < 0.95}
    >>> [(model.row, model.letters) for model in compare_folds("", right, np.arange(2000) // 400).standings]
    [('GRU', 'a'), ('RNN', 'b')]
    """
    tables = {row: np.asarray(table) for row, table in correct.items()}
    ranked = sorted(tables, key=lambda row: -tables[row].mean())
    if len(ranked) < 2:
        return ColumnComparisons(column=column, note=TOO_FEW_FOLDS)
    ratio = validated_ratio(np.bincount(np.asarray(folds)))
    comparisons = pairwise({row: tables[row] for row in ranked}, (), folds=folds, ratio=ratio)
    marks = letters(ranked, [(c.first, c.second) for c in comparisons if c.differs])
    standings = tuple(
        Standing(
            row=row,
            accuracy=interval_estimate(fold_components([tables[row]], folds, ratio)),
            letters=marks[row],
            seeds=len(tables[row]),
            folds=comparisons[0].folds,
        )
        for row in ranked
    )
    return ColumnComparisons(column=column, standings=standings, comparisons=comparisons)


def compare_models(column: str, correct: Mapping[str, ArrayLike], speakers: ArrayLike) -> ColumnComparisons:
    """Rank and compare models that were tested on the same clips: (R, K) right or wrong a model, (K,) speakers.

    >>> rng = np.random.default_rng(0)
    >>> right = {"RNN": rng.random((5, 2000)) < 0.85, "GRU": rng.random((5, 2000)) < 0.95}
    >>> [(model.row, model.letters) for model in compare_models("", right, np.arange(2000) // 8).standings]
    [('GRU', 'a'), ('RNN', 'b')]
    """
    tables = {row: np.asarray(table) for row, table in correct.items()}
    if len(np.unique(np.asarray(speakers))) < 2:
        return ColumnComparisons(column=column, note=ONE_SPEAKER if np.size(speakers) > 1 else ONE_CLIP)
    ranked = sorted((row for row in tables if len(tables[row]) > 1), key=lambda row: -tables[row].mean())
    single = [row for row in tables if row not in ranked]
    if len(ranked) < 2:
        return ColumnComparisons(column=column, note=TOO_FEW)
    comparisons = pairwise({row: tables[row] for row in ranked}, speakers)
    marks = letters(ranked, [(c.first, c.second) for c in comparisons if c.differs])
    standings = (
        Standing(
            row=row,
            accuracy=interval_estimate(components([tables[row]], speakers)),
            letters=marks[row],
            seeds=len(tables[row]),
        )
        for row in ranked
    )
    note = f"Left out, with one finished seed each: {', '.join(single)}." if single else ""
    return ColumnComparisons(
        column=column,
        standings=tuple(standings),
        comparisons=comparisons,
        note=note,
        surprise=surprise(comparisons, tables, speakers),
    )


def _of_column(store: Store, column: str, runs: Sequence[StoredRun]) -> ComparedColumn:
    if not store.corpus.test_speakers:
        return ComparedColumn(ColumnComparisons(column=column, note=NO_SPEAKERS))
    tally = Tally(column, runs) if store.corpus.test_names else None
    try:
        found = answers(store, column, runs, tally)
    except StoreError as error:
        # a report travels, the folder it was made in does not
        inside = re.sub(rf"(?<![\w./-]){re.escape(str(store.folder))}/", "", str(error))
        return ComparedColumn(ColumnComparisons(column=column, note=f"Not compared: {inside}."))
    speakers = speakers_of(store)
    if len(found.targets) != len(speakers):
        note = (
            f"Not compared: predictions are of {len(found.targets)} test clips, corpus.json names the speakers of "
            f"{len(speakers)}; restore corpus.json from the study’s own run."
        )
        return ComparedColumn(ColumnComparisons(column=column, note=note))
    if store.corpus.folds:
        return ComparedColumn(compare_folds(column, found.correct, store.corpus.test_folds), tally)
    return ComparedColumn(compare_models(column, found.correct, speakers), tally)
