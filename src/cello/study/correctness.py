"""Collect per-clip correctness from the runs of a store, and measures of it. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cello.audio.corpus import Manifest
from cello.errors import StoreError
from cello.study.corpus_file import speaker_numbers
from cello.study.pools import StoredRun
from cello.study.predictions import Predictions
from cello.study.store import Store

BINS = 15


class Outcomes(NamedTuple):
    """One model's finished runs in one column: R seeds, the same K test clips in the corpus's order.

    ``targets`` is (K,) label numbers, ``correct`` (R, K) bool, ``confidence`` (R, K) the probability that each run gave
    to its own answer, in [0, 1] (kept in half precision, ± 0.0003 near 1; the other classes' are not kept).
    """

    seeds: tuple[int, ...]
    targets: NDArray[np.int64]
    correct: NDArray[np.bool_]
    confidence: NDArray[np.float64]


class Answers(NamedTuple):
    """What models answered in one column: (K,) ``targets``; for each model its seeds and which of (R, K) were right."""

    targets: NDArray[np.int64]
    seeds: dict[str, tuple[int, ...]]
    correct: dict[str, NDArray[np.bool_]]


class Tally:
    """What all runs of one column together did with each of the K test clips, added up one run at a time.

    ``best`` is the model with the highest mean validation accuracy, which is known before any run is added; ``right``
    and ``best_right`` count for each clip (K,) the runs that had it right, of ``runs`` and ``best_runs``.
    """

    def __init__(self, column: str, runs: Sequence[StoredRun]) -> None:
        scores: dict[str, list[float]] = {}
        for run in runs:
            scores.setdefault(run.row, []).append(run.result.validation.accuracy)
        means = {row: float(np.mean(own)) for row, own in scores.items()}
        self.column = column
        self.best = max(means, key=means.__getitem__, default="")
        self.validation = means.get(self.best, float("-inf"))
        self.runs = self.best_runs = 0
        self.targets = self.right = self.best_right = np.empty(0, dtype=np.int64)
        self._wrong: dict[int, int] = {}
        self._labels = 1

    def add(self, run: StoredRun, targets: NDArray[np.integer[Any]], answers: NDArray[np.integer[Any]]) -> None:
        """Count one run's answers."""
        if not self.runs:
            self.targets, self._labels = targets.astype(np.int64), len(run.result.labels)
            self.right, self.best_right = (np.zeros(len(targets), dtype=np.int64) for _ in range(2))
        right = answers == targets
        self.right += right
        self.runs += 1
        if run.row == self.best:
            self.best_right += right
            self.best_runs += 1
        wrong = np.flatnonzero(~right)
        for key in (wrong * self._labels + answers[wrong].astype(np.int64)).tolist():
            self._wrong[key] = self._wrong.get(key, 0) + 1

    def wrong(self) -> dict[int, dict[int, int]]:
        """For each clip that a run had wrong, by its place: the wrong answers, label numbers, and how often each."""
        found: dict[int, dict[int, int]] = {}
        for key, count in sorted(self._wrong.items()):
            clip, answer = divmod(key, self._labels)
            found.setdefault(clip, {})[answer] = count
        return found


def answers(
    store: Store, column: str = "", runs: Iterable[StoredRun] | None = None, tally: Tally | None = None
) -> Answers:
    """Which test clips each finished run of a column got right, in the plan's order of models, seeds ascending.

    ``runs`` are the store's results where the caller has read them already; each run's answers are told to ``tally``.

    Raises:
        StoreError: predictions are missing or cannot be read, or two runs were tested on different clips.
    """
    reader, targets = Predictions(), np.empty(0, dtype=np.int64)
    rows, found = _by_row(store, column, runs), dict[str, NDArray[np.bool_]]()
    for row, own in rows.items():
        for number, run in enumerate(own):
            arrays = store.predictions(run, ("target", "prediction"), reader)
            if not found and not number:
                targets = arrays["target"]
            elif arrays["target"] is not targets and not np.array_equal(arrays["target"], targets):
                raise StoreError(
                    f"{store.run_folder(run) / 'predictions.npz'}: other test clips than those of the study's first "
                    f"run; delete {store.run_folder(run)} and run again"
                )
            if not number:
                found[row] = np.empty((len(own), len(targets)), dtype=np.bool_)
            np.equal(arrays["prediction"], targets, out=found[row][number])
            if tally is not None:
                tally.add(run, targets, arrays["prediction"])
    seeds = {row: tuple(run.seed for run in own) for row, own in rows.items()}
    return Answers(targets.astype(np.int64), seeds, found)


def outcomes(store: Store, column: str = "", runs: Iterable[StoredRun] | None = None) -> dict[str, Outcomes]:
    """Each model's outcomes in a column, in the plan's order; models without a finished run are not in it.

    ``runs`` are the store's results where the caller has read them already.

    Raises:
        StoreError: as ``answers``.
    """
    runs, reader = list(store.tested(curves=False) if runs is None else runs), Predictions()
    targets, seeds, correct = answers(store, column, runs)
    name = "prediction_probability"
    confidence = {
        row: np.stack([store.predictions(run, [name], reader)[name].astype(np.float64) for run in own])
        for row, own in _by_row(store, column, runs).items()
    }
    return {row: Outcomes(seeds[row], targets, correct[row], confidence[row]) for row in correct}


def _by_row(store: Store, column: str, runs: Iterable[StoredRun] | None) -> dict[str, list[StoredRun]]:
    found: dict[str, list[StoredRun]] = {row.name: [] for row in store.study.rows}
    for run in store.tested(curves=False) if runs is None else runs:
        if run.column == column:
            found[run.row].append(run)
    return {row: sorted(own, key=lambda run: run.seed) for row, own in found.items() if own}


def speakers_of(store: Store, manifest: Manifest | None = None) -> NDArray[np.int64]:
    """The (K,) speakers of the test clips as numbers, from the store, else from the corpus it was made of.

    Raises:
        StoreError: the store does not hold them and no corpus is given, or one with another checksum.
    """
    if store.corpus.test_speakers:
        return np.array(store.corpus.test_speakers, dtype=np.int64)
    known = store.header.corpus
    if manifest is None:
        raise StoreError(
            f"{str(store.folder)!r} was made before stores kept who said the test clips; run its study once more with "
            f"the corpus {known.name} there (nothing is trained again), or give the corpus"
        )
    if manifest.checksum != known.checksum:
        raise StoreError(
            f"{str(store.folder)!r} was made of {known.name} with checksum {known.checksum[:12]}, not of "
            f"{manifest.corpus} with {manifest.checksum[:12]}; give the corpus that it was made of"
        )
    return np.array(speaker_numbers(manifest), dtype=np.int64)


def accuracy(correct: ArrayLike) -> NDArray[np.float64]:
    """(R,) share of the K clips that each run got right, from (R, K).

    >>> accuracy([[True, False], [True, True]]).tolist()
    [0.5, 1.0]
    """
    share: NDArray[np.float64] = np.asarray(correct, dtype=np.float64).mean(axis=-1)
    return share


def word_mean(correct: ArrayLike, targets: ArrayLike) -> NDArray[np.float64]:
    """(R,) mean over the words that occur of each word's accuracy, from (R, K) and the (K,) targets.

    >>> word_mean([[True, True, False]], [0, 0, 1]).tolist()
    [0.5]
    """
    _, place, clips = np.unique(np.asarray(targets), return_inverse=True, return_counts=True)
    return np.asarray(correct, dtype=np.float64) @ (1 / clips[place]) / len(clips)


def calibration_error(confidence: ArrayLike, correct: ArrayLike, bins: int = BINS) -> NDArray[np.float64]:
    """(R,) expected calibration error in [0, 1] (Naeini et al. 2015; with 15 bins Guo et al. 2017, arXiv:1706.04599).

    Σ_b |B_b| / K · |accuracy(B_b) − mean confidence(B_b)| over ``bins`` bins of equal width in confidence, from the
    probability of the answer given, (R, K). A perfectly calibrated run does not get 0 but up to about √(bins / K) / 3.

    Raises:
        ValueError: confidences outside [0, 1] or not finite, shapes that differ, no bin.

    >>> calibration_error([[0.9, 0.9, 0.6, 0.6]], [[True, True, True, False]]).round(3).tolist()
    [0.1]
    """
    given, right = np.atleast_2d(np.asarray(confidence, np.float64)), np.atleast_2d(np.asarray(correct, np.float64))
    if given.shape != right.shape or bins < 1:
        raise ValueError(f"{given.shape} confidences, {right.shape} answers, {bins} bins; give (R, K) twice and a bin")
    if not ((given >= 0) & (given <= 1)).all():
        raise ValueError("a confidence is a probability in [0, 1]; give softmax outputs, not scores")
    runs = len(given)
    place = np.minimum((given * bins).astype(np.int64), bins - 1) + bins * np.arange(runs)[:, None]
    gap = np.bincount(place.ravel(), (right - given).ravel(), runs * bins)
    error: NDArray[np.float64] = np.abs(gap).reshape(runs, bins).sum(axis=1) / given.shape[1]
    return error
