"""Compare models pair by pair on the same clips: difference, p-value, correction, power."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaincinv, ndtr, stdtrit

from cello.statistics.cross_validation import fold_components
from cello.statistics.means import CONFIDENCE, FEW_SEEDS
from cello.statistics.random_effects import Estimate, Uncertain, combined, interval_estimate, models, p_value

POWER = 0.8
MOST_SEEDS = 1000
_NODES, _HALVES = np.polynomial.legendre.leggauss(64)
_PLACES, _WEIGHTS = (_NODES + 1) / 2, _HALVES / 2


class Comparison(NamedTuple):
    """``first`` minus ``second`` in test accuracy ([−1, 1]); see ``pairwise`` for how each figure is made.

    ``superiority`` is the effect size: the probability that one run of ``first`` beats one of ``second``, ties half.
    ``seeds_needed`` is how many seeds a model would show a true difference as large as the one seen, None if more than
    ``MOST_SEEDS``; ``detectable`` is the smallest difference that the seeds at hand show; both with power 0.8 after the
    correction. ``folds`` is their number in cross-validation, 0 elsewhere.
    """

    first: str
    second: str
    difference: Estimate
    p: float
    p_holm: float
    superiority: float
    seeds: tuple[int, int]
    seeds_needed: int | None
    detectable: float
    pairs: int
    confidence: float = CONFIDENCE
    folds: int = 0

    @property
    def differs(self) -> bool:
        """The difference is significant, corrected for the number of pairs."""
        return self.p_holm < 1 - self.confidence

    @property
    def indicative(self) -> bool:
        """Fewer than five seeds stand behind a model; in cross-validation it is not seeds that the test rests on."""
        return not self.folds and min(self.seeds) < FEW_SEEDS

    @property
    def verdict(self) -> str:
        """The comparison in one plain sentence; points are percentage points of accuracy."""
        # no two accuracies differ by more than 100 points, which t-intervals from few seeds do not know
        low, high = (min(max(value, -1.0), 1.0) for value in (self.difference.low, self.difference.high))
        better, worse = self.first, self.second
        if self.difference.value < 0:
            better, worse, low, high = worse, better, -high, -low
        points, limits = in_points(abs(self.difference.value)), f"{in_points(low)} to {in_points(high)}"
        size = f"{points} points ({100 * self.confidence:g} % {limits})"
        caveat = f"; indicative only, from {min(self.seeds)} seeds" if self.indicative else ""
        if self.difference.error == 0 and self.difference.value:
            alike = "in every fold" if self.folds else "in every run and for every speaker"
            return (
                f"{better} is better than {worse} by {points} points {alike} alike, so its "
                f"variability cannot be estimated; test on more clips{caveat}."
            )
        if self.differs:
            return f"{better} is better than {worse} by {size}{caveat}."
        if low > 0:
            doubt = f"but the difference is not significant among {self.pairs} comparisons"
            return f"{better} may be better than {worse} by {size}, {doubt}; {self._need}{caveat}."
        return f"No significant difference between {better} and {worse}: {size}; {self._need}{caveat}."

    @property
    def _need(self) -> str:
        if self.difference.value == 0:
            return f"these seeds would show one of {100 * self.detectable:.2f} points"
        if self.folds and min(self.seeds) < 2:
            return f"one seed a fold does not tell how many would, these show one of {100 * self.detectable:.2f} points"
        if self.seeds_needed is None:
            return f"even {MOST_SEEDS:,} seeds would not show it on these test clips"
        return f"you would need about {self.seeds_needed:,} seeds"


def pairwise(
    correct: Mapping[str, ArrayLike],
    speakers: ArrayLike,
    confidence: float = CONFIDENCE,
    folds: ArrayLike | None = None,
    ratio: float | None = None,
) -> tuple[Comparison, ...]:
    """Every pair of models, in the mapping's order, corrected for their number by Holm.

    ``correct`` maps a model's name to (R, K): true where run r is right on clip k; ``speakers`` is (K,). The test is
    t = difference / √V with V and degrees of freedom of ``Components.spread``: seeds and speakers are random effects.
    Sign flips of five seeds cannot give p < 0.0625, McNemar's test on clips knows no seeds, and the t-test over seeds
    no speakers. The effect size is the probability of superiority, U / (R₁ R₂) (Mann & Whitney 1947; advised for
    learning algorithms by Bouthillier et al. 2021, arXiv:2103.03098).

    ``folds``, (K,), is given where run r of a clip is one that did not train on the clip's fold: then the training sets
    overlap and are a random effect too, and the test is that of ``FoldComponents.spread``, which needs no speakers;
    ``ratio`` is as for ``fold_components``.

    Raises:
        ValueError: fewer than two models; as ``components`` or ``fold_components`` else.

    >>> rng = np.random.default_rng(0)
    >>> right = {"GRU": rng.random((5, 2000)) < 0.95, "RNN": rng.random((5, 2000)) < 0.85}
    >>> pairwise(right, np.arange(2000) // 8)[0].verdict
    'GRU is better than RNN by 9.78 points (95 % 8.96 to 10.60).'
    """
    if len(correct) < 2:
        raise ValueError(f"a comparison needs two models, not {len(correct)} ({', '.join(correct)}); add another")
    pairs = list(combinations(correct, 2))
    means = {name: np.asarray(table, dtype=np.float64).mean(axis=1) for name, table in correct.items()}
    found = _differences(correct, pairs, speakers, folds, ratio)
    raw = [p_value(parts) for parts in found]
    corrected = 1 - (1 - confidence) / len(pairs)
    count = 0 if folds is None else len(np.unique(np.asarray(folds)))
    return tuple(
        Comparison(
            first=a,
            second=b,
            difference=interval_estimate(parts, confidence),
            p=p,
            p_holm=adjusted,
            superiority=superiority(means[a], means[b]),
            seeds=(parts.seeds[0], parts.seeds[1]),
            seeds_needed=seeds_needed(parts, parts.value, corrected),
            detectable=detectable(parts, corrected),
            pairs=len(pairs),
            confidence=confidence,
            folds=count,
        )
        for (a, b), parts, p, adjusted in zip(pairs, found, raw, holm(raw), strict=True)
    )


def _differences(
    correct: Mapping[str, ArrayLike],
    pairs: Sequence[tuple[str, str]],
    speakers: ArrayLike,
    folds: ArrayLike | None,
    ratio: float | None,
) -> Sequence[Uncertain]:
    if folds is not None:
        return [fold_components([correct[a], correct[b]], folds, ratio) for a, b in pairs]
    singles, sizes = models(list(correct.values()), speakers)
    own = dict(zip(correct, singles, strict=True))
    return [combined([own[a], own[b]], sizes) for a, b in pairs]


def in_points(share: float, signed: bool = False) -> str:
    """A difference of accuracies in percentage points; 0 and what rounds to it carry no sign.

    >>> in_points(-0.0123), in_points(0.0123, signed=True), in_points(-0.00001, signed=True)
    ('−1.23', '+1.23', '0.00')
    """
    text = f"{100 * share:{'+' if signed else ''}.2f}"
    return (text if float(text) else text.lstrip("+-")).replace("-", "−")


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values, step by step down (Holm 1979, Scand. J. Statist. 6:65).

    The i-th smallest of m becomes the maximum over j ≤ i of (m − j + 1) p₍ⱼ₎, and at most 1.

    Raises:
        ValueError: a value outside [0, 1].

    >>> holm([0.01, 0.04, 0.03])
    (0.03, 0.06, 0.06)
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"p-values lie between 0 and 1, not {list(p_values)}")
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for step, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - step) * p_values[i]))
        adjusted[i] = largest
    return tuple(adjusted)


def superiority(first: ArrayLike, second: ArrayLike) -> float:
    """P(a value of the first beats one of the second), ties half: ½ says nothing, 1 that all are above all.

    >>> superiority([0.95, 0.94], [0.94, 0.90])
    0.875
    """
    difference = np.subtract.outer(np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64))
    return float((difference > 0).mean() + (difference == 0).mean() / 2)


def power(found: Uncertain, difference: float, seeds: int | None = None, confidence: float = CONFIDENCE) -> float:
    """The share of studies like this one that would call a true ``difference`` one, with so many seeds a model.

    E[Φ(λ − t w) + Φ(−λ − t w)], the noncentral t distribution's tails: w² is χ²(df) / df, t = t(1 − α/2, df),
    λ = |difference| / √V; V and df from its ``broadcast`` with that number of seeds (the present one unless said).

    >>> from cello.statistics.random_effects import Components
    >>> parts = Components(0.0, (1.6e-5, 1.6e-5), (1.2e-5, 1.2e-5), (5, 5), 4.8e-6, 150.0)
    >>> [round(power(parts, 0.005, n), 2) for n in (3, 5, 10, 20)]
    [0.22, 0.41, 0.75, 0.97]
    """
    variance, df = found.spread(seeds)
    if variance == 0:
        return 1.0 if difference else 0.0
    return _tails(abs(difference) / math.sqrt(variance), _reach(float(stdtrit(df, 0.5 + confidence / 2)), df))


def _reach(t: float, df: float) -> NDArray[np.float64]:
    """t w at the quantiles of w that ``_tails`` sums over."""
    return np.asarray(t * np.sqrt(2 * gammaincinv(df / 2, _PLACES) / df))


def _tails(shift: float, wide: NDArray[np.float64]) -> float:
    """scipy's noncentral t is nan far out, and slow; a sum over quantiles of w is neither."""
    return float(_WEIGHTS @ (ndtr(shift - wide) + ndtr(-shift - wide)))


def seeds_needed(
    found: Uncertain, difference: float, confidence: float = CONFIDENCE, target: float = POWER
) -> int | None:
    """The fewest seeds a model with which ``power`` of this difference reaches the target; None above ``MOST_SEEDS``.

    Only the variance between runs shrinks with seeds. Where what the runs share on these speakers is too large, no
    number suffices: more clips of more speakers would.

    >>> from cello.statistics.random_effects import Components
    >>> parts = Components(0.0, (1.6e-5, 1.6e-5), (1.2e-5, 1.2e-5), (5, 5), 4.8e-6, 150.0)
    >>> seeds_needed(parts, 0.005)
    12
    """
    if power(found, difference, MOST_SEEDS, confidence) < target:
        return None
    low, high = 1, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        if power(found, difference, middle, confidence) < target:
            low = middle
        else:
            high = middle
    return high


def detectable(found: Uncertain, confidence: float = CONFIDENCE, target: float = POWER) -> float:
    """The smallest true difference that ``power`` calls one with the target's probability, with the seeds at hand.

    >>> from cello.statistics.random_effects import Components
    >>> parts = Components(0.0, (1.6e-5, 1.6e-5), (1.2e-5, 1.2e-5), (5, 5), 4.8e-6, 150.0)
    >>> round(detectable(parts), 4)
    0.0081
    """
    from scipy.optimize import brentq  # takes a quarter of a second to import

    variance, df = found.spread()
    if variance == 0:
        return 0.0
    t = float(stdtrit(df, 0.5 + confidence / 2))
    wide = _reach(t, df)
    return math.sqrt(variance) * float(brentq(lambda shift: _tails(shift, wide) - target, 0.0, 4 * t + 10))
