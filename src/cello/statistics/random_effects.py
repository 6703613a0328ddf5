"""Estimate accuracies with crossed random effects: seeds × speakers.

Every model is evaluated on the same audio, so seeds and speakers are crossed. The clips of one speaker are not
independent, and two runs that share a seed number share no weights if their models differ: speakers are what two models
share, and seeds are each model's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtr, stdtrit

from cello.statistics.means import CONFIDENCE

Floats = NDArray[np.float64]
_ROUNDING = 1e-12  # equal accuracies differ by less, and no two that differ do


class Estimate(NamedTuple):
    """A value with its interval, standard error and degrees of freedom; accuracies are in [0, 1]."""

    value: float
    low: float
    high: float
    error: float
    df: float


class Uncertain(Protocol):
    """A value with its variance, now or with another number of seeds a model."""

    @property
    def value(self) -> float:
        """An accuracy or the difference of two, in [−1, 1]."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """The number of seeds of each model."""

    def spread(self, seeds: int | None = None) -> tuple[float, float]:
        """Variance of the value and its degrees of freedom."""


class Components(NamedTuple):
    """An accuracy, or the difference of two, and where its variance comes from; one entry a model in each tuple.

    ``runs`` is the variance between one model's runs, ``cells`` the part of it by which one run differs from another on
    single speakers (so it shrinks with more clips), both of one run; ``seeds`` counts the runs. ``speakers`` is the
    variance of the value as the speakers alone show it (``between_speakers``), and ``effective`` their number,
    (Σ n)² / Σ n² of n clips each.
    """

    value: float
    runs: tuple[float, ...]
    cells: tuple[float, ...]
    seeds: tuple[int, ...]
    speakers: float
    effective: float

    @property
    def shared(self) -> float:
        """The variance that no number of seeds takes away: what all runs have in common on these speakers."""
        return max(self.speakers - sum(c / n for c, n in zip(self.cells, self.seeds, strict=True)), 0.0)

    def spread(self, seeds: int | None = None) -> tuple[float, float]:
        """Variance of the value and its degrees of freedom, now or as they would be with another number of seeds.

        V = Σₘ rₘ / nₘ + shared; df = V² / (Σₘ (rₘ / nₘ)² / (nₘ − 1) + P² / (effective − 1)), P the variance that the
        speakers show, left out where nothing is shared. This is the variance of a study of several readers who all see
        the same cases (Hillis 2007, doi:10.1002/sim.2532) with seeds as readers and each model's own, and
        Satterthwaite's degrees of freedom (1946, doi:10.2307/3002019), but never fewer than the part with the fewest
        has, to which the subtraction in ``shared`` could bring them where runs happen to agree. Where all runs of each
        model agree to the clip, P stands for the whole.
        """
        counts = self.seeds if seeds is None else (seeds,) * len(self.seeds)
        parts = [r / n for r, n in zip(self.runs, counts, strict=True)]
        speakers = self.shared + sum(c / n for c, n in zip(self.cells, counts, strict=True))
        if sum(parts) <= _ROUNDING * self.speakers:
            return self.speakers, self.effective - 1
        variance = sum(parts) + self.shared
        noise = sum(p * p / (n - 1) for p, n in zip(parts, counts, strict=True))
        noise += speakers**2 / (self.effective - 1) if self.shared > 0 else 0.0
        least = min(*(n - 1 for n in counts), self.effective - 1)
        return variance, max(variance**2 / noise, least)


def components(correct: Sequence[ArrayLike], speakers: ArrayLike) -> Components:
    """The variance components of one model's accuracy, or of the first model's minus the second's.

    ``correct`` holds one (R, K) array a model, true where run r is right on clip k; R may differ between models, the K
    clips are the same. ``speakers`` is (K,), equal where the speaker is.

    Raises:
        ValueError: not one or two models, clips that differ in number, fewer than two seeds or two speakers.

    >>> one = components([[[1, 1, 0, 0], [1, 0, 0, 0]]], [7, 7, 9, 9])
    >>> one.value, one.runs, one.seeds
    (0.375, (0.03125,), (2,))
    """
    _check_count(correct)
    return combined(*models(correct, speakers))


class Model(NamedTuple):
    """One model on its own: its mean correct predictions on each speaker's clips, (S,); else as ``Components``."""

    average: Floats
    runs: float
    cells: float
    seeds: int


def models(correct: Sequence[ArrayLike], speakers: ArrayLike) -> tuple[list[Model], Floats]:
    """Each of (R, K) predictions alone, and the (S,) clips of each speaker: what ``combined`` makes components of.

    Raises:
        ValueError: as ``components``, but for the number of models.
    """
    sums, sizes = _sums(correct, speakers)
    clips, found = sizes.sum(), []
    for table in sums:
        means = table.sum(axis=1) / clips
        average = table.mean(axis=0)
        own = table - np.outer(means, sizes) - average + means.mean() * sizes
        cells = float(between_speakers(own, sizes).sum()) / (len(table) - 1)
        found.append(Model(average, float(means.var(ddof=1)), cells, len(table)))
    return found, sizes


def combined(parts: Sequence[Model], sizes: Floats) -> Components:
    """The components of one model's accuracy, or of the first model's minus the second's."""
    clips = sizes.sum()
    total = np.zeros(len(sizes))
    for sign, part in zip((1.0, -1.0), parts, strict=False):
        total += sign * part.average
    value = float(total.sum() / clips)
    seen = float(between_speakers(total - value * sizes, sizes))
    runs, cells = tuple(part.runs for part in parts), tuple(part.cells for part in parts)
    seeds, effective = tuple(part.seeds for part in parts), float(clips**2 / (sizes**2).sum())
    return Components(value, runs, cells, seeds, seen, effective)


def between_speakers(residuals: Floats, sizes: Floats) -> Floats:
    """Variance of a mean over clips, Σ (eₛ/N)² / (1 − 2hₛ + Σh²), of residuals eₛ = Tₛ − hₛ Σ T, (…, S) a speaker.

    h = n/N is a speaker's share of the clips. Unbiased where speakers' rates Tₛ/nₛ vary alike, whatever the shares:
    E eₛ² = τ²N²hₛ²(1 − 2hₛ + Σh²). It corrects each residual for its own share, as the cluster-robust variances of Bell
    & McCaffrey do (2002, Survey Methodology 28:169), for speakers whose clips vary together. With equal shares it is
    the familiar S/(S − 1) Σ (eₛ/N)², which with 3 unequal speakers is 0.7 of the truth.

    >>> sizes = np.array([1.0, 1.0, 2.0])
    >>> round(float(between_speakers(np.array([0.5, -0.5, 0.0]), sizes)), 4)
    0.0357
    """
    share = sizes / sizes.sum()
    weight = 1 - 2 * share + (share**2).sum()
    return np.asarray(((residuals / sizes.sum()) ** 2 / weight).sum(axis=-1), dtype=np.float64)


def by_speaker(correct: Sequence[ArrayLike], speakers: ArrayLike) -> tuple[list[Floats], Floats]:
    """Correct predictions of each run on each speaker's clips, (R, S) a model, and the (S,) clips of each speaker.

    Raises:
        ValueError: as ``components``.
    """
    _check_count(correct)
    return _sums(correct, speakers)


def _check_count(correct: Sequence[ArrayLike]) -> None:
    if len(correct) not in (1, 2):
        raise ValueError(f"a value is of one model or of two, not of {len(correct)}; give one or two arrays (R, K)")


def _sums(correct: Sequence[ArrayLike], speakers: ArrayLike) -> tuple[list[Floats], Floats]:
    names, place = np.unique(np.asarray(speakers), return_inverse=True)
    tables: list[NDArray[Any]] = [np.asarray(table) for table in correct]
    shapes = [table.shape for table in tables]
    if any(len(shape) != 2 or shape[1] != len(place) for shape in shapes):
        raise ValueError(
            f"arrays of shapes {shapes} do not fit {len(place)} speakers; give (R, K) arrays and K speakers"
        )
    if min(shape[0] for shape in shapes) < 2:
        raise ValueError(
            f"arrays of shapes {shapes}: one run says nothing of the variability of training; run more seeds"
        )
    if len(names) < 2:
        raise ValueError(f"{len(names)} speaker: one says nothing of other speakers; test on clips of several")
    sizes = np.bincount(place).astype(np.float64)
    order, first = np.argsort(place, kind="stable"), np.cumsum(sizes).astype(np.int64) - sizes.astype(np.int64)
    return [np.add.reduceat(table[:, order].astype(np.float64), first, axis=1) for table in tables], sizes


def p_value(found: Uncertain) -> float:
    """Two-sided p = 2 F_t(−|value| / √V; df): how rare so large a value is where the truth is zero.

    1 where nothing varies at all: then the variability is unknown.

    >>> p_value(Components(0.0, (1e-5, 1e-5), (0.0, 0.0), (5, 5), 1e-5, 150.0))
    1.0
    """
    variance, df = found.spread()
    if variance <= _ROUNDING**2:
        return 1.0
    return 2 * float(stdtr(df, -abs(found.value) / math.sqrt(variance)))


def interval_estimate(found: Uncertain, confidence: float = CONFIDENCE) -> Estimate:
    """value ± t(1 − α/2, df) · √V, V and df as its ``broadcast`` says: it holds for new seeds and new speakers.

    >>> estimate = interval_estimate(Components(0.01, (1e-5, 1e-5), (0.0, 0.0), (5, 5), 0.0, 150.0))
    >>> round(estimate.df), round(estimate.low, 4), round(estimate.high, 4)
    (8, 0.0054, 0.0146)
    """
    variance, df = found.spread()
    error = math.sqrt(variance)
    half = float(stdtrit(df, 0.5 + confidence / 2)) * error
    return Estimate(found.value, found.value - half, found.value + half, error, df)


def hierarchical_draws(
    correct: Sequence[ArrayLike], speakers: ArrayLike, rng: np.random.Generator, resamples: int = 2000
) -> Floats:
    """(resamples,) values with speakers and each model's seeds drawn anew, independently, with replacement (Owen 2007,
    doi:10.1214/07-AOAS122: the pigeonhole bootstrap).

    Raises:
        ValueError: as ``components``.
    """
    sums, sizes = by_speaker(correct, speakers)
    persons = len(sizes)
    weight = rng.multinomial(persons, np.full(persons, 1 / persons), size=resamples).astype(np.float64)
    value = np.zeros(resamples)
    for sign, table in zip((1.0, -1.0), sums, strict=False):
        n = len(table)
        seeds = rng.multinomial(n, np.full(n, 1 / n), size=resamples) / n
        value += sign * ((weight @ table.T) * seeds).sum(axis=1)
    return np.asarray(value / (weight @ sizes), dtype=np.float64)


def hierarchical_bootstrap(
    correct: Sequence[ArrayLike],
    speakers: ArrayLike,
    rng: np.random.Generator,
    resamples: int = 2000,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """The hierarchical bootstrap's interval, over seeds and speakers, widened to what few seeds deserve.

    value + (q± − mean of draws) · √V · t(1 − α/2, df) / (s · z(1 − α/2)): the draws' quantiles q± and deviation s give
    the shape, which is skewed near 100 %, ``Components.spread`` gives V and df. Plain quantiles are wrong both ways:
    n drawn seeds vary by (n − 1) / n of what they should and know no t, and the runs' differences on single speakers
    are counted three times. Two models: the difference first − second.

    Raises:
        ValueError: as ``components``.

    >>> right = np.random.default_rng(0).random((5, 400)) < 0.9
    >>> found = hierarchical_bootstrap([right], np.arange(400) // 4, np.random.default_rng(0))
    >>> round(found.low, 3), round(found.high, 3)
    (0.869, 0.932)
    """
    found = components(correct, speakers)
    plain = interval_estimate(found, confidence)
    draws = hierarchical_draws(correct, speakers, rng, resamples)
    deviation = float(draws.std(ddof=1))
    if deviation == 0:
        return plain
    stretch = (plain.high - plain.value) / (deviation * float(ndtri(0.5 + confidence / 2)))
    tails = np.quantile(draws - draws.mean(), [0.5 - confidence / 2, 0.5 + confidence / 2]) * stretch
    least = 0.0 if len(found.seeds) == 1 else -1.0
    low, high = np.clip(found.value + tails, least, 1.0)
    return plain._replace(low=float(low), high=float(high))
