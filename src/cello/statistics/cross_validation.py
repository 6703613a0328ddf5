"""Estimate cross-validated accuracies with Nadeau and Bengio's corrected variance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cello.statistics.random_effects import Floats, between_speakers


class FoldComponents(NamedTuple):
    """An accuracy, or the difference of two, by cross-validation, and its variance; see ``fold_components``.

    ``folds`` is the variance of the value that independent folds would show, ``cells`` the part of it that is due to
    the seeds, of one run and one entry a model (0 from a single seed, which cannot tell). ``inflation`` is what the
    overlap of the training sets makes of it, ``effective`` the number of folds, (Σ n)² / Σ n² of n clips each.
    """

    value: float
    folds: float
    cells: tuple[float, ...]
    seeds: tuple[int, ...]
    inflation: float
    effective: float

    def spread(self, seeds: int | None = None) -> tuple[float, float]:
        """Variance of the value and its degrees of freedom, now or as they would be with another number of seeds.

        With k equal folds V = (1/k + n_test/n_train) s², s² the variance between the folds, and df = k − 1 (Nadeau &
        Bengio 2003, doi:10.1023/A:1024068626366): folds cannot be read as k independent studies.
        """
        now = sum(c / n for c, n in zip(self.cells, self.seeds, strict=True))
        then = now if seeds is None else sum(self.cells) / seeds
        shown = max(self.folds + then - now, min(self.folds, then))
        return self.inflation * shown, self.effective - 1


def fold_components(correct: Sequence[ArrayLike], folds: ArrayLike, ratio: float | None = None) -> FoldComponents:
    """The variance of one model's accuracy in cross-validation, or of the first model's minus the second's.

    ``correct`` holds one (R, K) array a model, true where seed r is right on clip k, predicted by the run that did not
    train on the clip's fold; ``folds`` is (K,). Seeds of one fold are averaged: they are no repeats with new folds, of
    which each would count (Bouckaert & Frank 2004, doi:10.1007/978-3-540-24775-3_3). ``ratio`` is n_test/n_train, by
    default as if every clip of the other folds were trained on: 1/(k − 1). The value is over all clips, so larger folds
    count more, as ``between_speakers`` has it.

    Raises:
        ValueError: not one or two models, clips that differ in number, no run, fewer than two folds.

    >>> one = fold_components([[[1, 1, 0, 1, 1, 0]]], [1, 1, 2, 2, 3, 3])
    >>> round(one.value, 3), one.spread()[1], round(one.spread()[0] / (0.25 / 3), 3)  # s² is 0.25 / 3
    (0.667, 2.0, 0.833)
    """
    tables = [np.asarray(table, dtype=np.float64) for table in correct]
    names, place = np.unique(np.asarray(folds), return_inverse=True)
    _check([table.shape for table in tables], len(names), len(place))
    sizes = np.bincount(place).astype(np.float64)
    share = sizes / sizes.sum()
    sums = [np.stack([np.bincount(place, run, len(sizes)) for run in table]).astype(np.float64) for table in tables]
    total = sums[0].mean(axis=0) - (sums[1].mean(axis=0) if len(sums) == 2 else 0)
    value = float(total.sum() / sizes.sum())
    overlap = float((share**2 / (1 - share)).sum()) if ratio is None else ratio
    return FoldComponents(
        value=value,
        folds=float(between_speakers(total - value * sizes, sizes)),
        cells=tuple(_cells(table, sizes) for table in sums),
        seeds=tuple(len(table) for table in sums),
        inflation=1 + overlap / float((share**2).sum()),
        effective=1 / float((share**2).sum()),
    )


def validated_ratio(sizes: ArrayLike) -> float:
    """n_test/n_train where the fold before the tested one validates, mean over the clips, of folds of these sizes.

    >>> validated_ratio([10, 10, 10, 10, 10])
    0.3333333333333333
    """
    clips = np.asarray(sizes, dtype=np.float64)
    trained = clips.sum() - clips - np.roll(clips, 1)
    return float((clips / clips.sum() * clips / trained).sum())


def _cells(sums: Floats, sizes: Floats) -> float:
    """Each fold's seeds train runs of their own, so their variances add up."""
    if len(sums) < 2:
        return 0.0
    rates: NDArray[np.float64] = sums.var(axis=0, ddof=1) / float(sizes.sum()) ** 2
    return float(rates.sum())


def _check(shapes: Sequence[tuple[int, ...]], folds: int, clips: int) -> None:
    if len(shapes) not in (1, 2):
        raise ValueError(f"a value is of one model or of two, not of {len(shapes)}; give one or two arrays (R, K)")
    if any(len(shape) != 2 or shape[1] != clips or shape[0] < 1 for shape in shapes):
        raise ValueError(f"arrays of shapes {list(shapes)} do not fit the folds of {clips} clips; give (R, K) and (K,)")
    if folds < 2:
        raise ValueError(f"{folds} fold: one says nothing of other training sets; use at least two")
