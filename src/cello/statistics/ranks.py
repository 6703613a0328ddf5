"""Rank models over several blocks (Friedman, Nemenyi) and make compact letter displays."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc, fdtrc

from cello.statistics.means import CONFIDENCE


class Ranking(NamedTuple):
    """Friedman's test over N blocks, and what a critical-difference diagram shows.

    ``ranks`` maps each model to its mean rank, best (1) first; two models whose ranks differ by less than
    ``critical_difference`` do not differ significantly. ``groups`` are the diagram's bars: the largest sets of at least
    two models without a difference inside; ``letters`` are the same groups as letters. ``chi2``, with ``p_chi2``, is
    Friedman's statistic corrected for ties; ``p`` is Iman and Davenport's, the better one for few blocks.
    """

    ranks: dict[str, float]
    blocks: int
    chi2: float
    p_chi2: float
    p: float
    critical_difference: float
    groups: tuple[tuple[str, ...], ...]
    letters: dict[str, str]


def friedman(scores: Mapping[str, ArrayLike], confidence: float = CONFIDENCE) -> Ranking:
    """Whether models keep their order over blocks (windows, corpora); ``scores`` maps a model to (N,), more is better.

    χ² = Σⱼ (Rⱼ − N(k + 1)/2)² · (k − 1) / Σᵢⱼ (rᵢⱼ − (k + 1)/2)² with rank sums Rⱼ (Friedman 1937), F = (N − 1) χ² /
    (N(k − 1) − χ²) with k − 1 and (k − 1)(N − 1) degrees of freedom (Iman & Davenport 1980). Pairs after Nemenyi, as
    Demšar (2006, JMLR 7:1) advises. Where all blocks have the same order F is infinite, and p is that of so many equal
    orders. Blocks are taken as independent: windows over one corpus's clips are not quite.

    Raises:
        ValueError: fewer than two models or blocks, models with different numbers of blocks, or a value not finite.

    >>> found = friedman({"gru": [95, 94, 93], "lstm": [94, 93, 92], "rnn": [90, 91, 85]})
    >>> found.ranks, round(found.critical_difference, 2), found.letters
    ({'gru': 1.0, 'lstm': 2.0, 'rnn': 3.0}, 1.91, {'gru': 'a', 'lstm': 'ab', 'rnn': 'b'})
    """
    from scipy.stats import rankdata  # takes half a second to import

    lengths = {name: np.size(values) for name, values in scores.items()}
    if len(scores) < 2 or len(set(lengths.values())) != 1 or min(lengths.values()) < 2:
        raise ValueError(f"ranks need at least two models with the same two blocks or more, not {lengths}")
    table = np.array([np.ravel(values) for values in scores.values()], dtype=np.float64).T
    if not np.isfinite(table).all():
        raise ValueError("ranks need finite scores; leave out the blocks in which a model has none")
    ranked = rankdata(-table, axis=1)
    blocks, models = ranked.shape
    spread = float(((ranked - (models + 1) / 2) ** 2).sum())
    between = float(((ranked.sum(axis=0) - blocks * (models + 1) / 2) ** 2).sum())
    chi2 = (models - 1) * between / spread if spread else 0.0
    room = blocks * (models - 1) - chi2
    f = (blocks - 1) * chi2 / room if room > 1e-9 else math.inf
    p = _alike(ranked) if f == math.inf else float(fdtrc(models - 1, (models - 1) * (blocks - 1), f))
    mean = ranked.mean(axis=0)
    ranks = {name: float(rank) for rank, name in sorted(zip(mean, scores, strict=True), key=lambda pair: pair[0])}
    least = critical_difference(models, blocks, confidence)
    different = [(a, b) for a, b in combinations(ranks, 2) if ranks[b] - ranks[a] >= least]
    return Ranking(
        ranks=ranks,
        blocks=blocks,
        chi2=chi2,
        p_chi2=float(chdtrc(models - 1, chi2)),
        p=p,
        critical_difference=least,
        groups=tuple(group for group in groups(tuple(ranks), different) if len(group) > 1),
        letters=letters(tuple(ranks), different),
    )


def _alike(ranked: NDArray[np.float64]) -> float:
    """The probability that all blocks have the same order, the most extreme one, if none is likelier: F knows none.

    >>> _alike(np.array([[1.0, 2.0]] * 3))
    0.25
    """
    _, ties = np.unique(ranked[0], return_counts=True)
    orders = math.factorial(ranked.shape[1]) // math.prod(map(math.factorial, ties.tolist()))
    return float(orders) ** (1 - len(ranked))


def critical_difference(models: int, blocks: int, confidence: float = CONFIDENCE) -> float:
    """Nemenyi's: q √(k (k + 1) / (6 N)) in ranks, q the studentised range's quantile (k, ∞) over √2.

    >>> round(critical_difference(4, 14), 2)
    1.25
    """
    from scipy.stats import studentized_range

    quantile = float(studentized_range.ppf(confidence, models, np.inf)) / math.sqrt(2)
    return quantile * math.sqrt(models * (models + 1) / (6 * blocks))


def groups(names: Sequence[str], different: Iterable[tuple[str, str]]) -> tuple[tuple[str, ...], ...]:
    """The largest sets of models no two of which differ, by insertion and absorption (Piepho 2004,
    doi:10.1198/1061860043515); members and sets in the order of ``names``.

    >>> groups(("a", "b", "c"), [("a", "c")])
    (('a', 'b'), ('b', 'c'))
    """
    place = {name: index for index, name in enumerate(names)}
    sets = [frozenset(names)]
    for pair in different:
        both = frozenset(pair)
        halves = [whole - {name} for whole in sets if both <= whole for name in pair]
        sets = list(dict.fromkeys([whole for whole in sets if not both <= whole] + halves))
        sets = [one for one in sets if not any(one < other for other in sets)]
    members = [tuple(sorted(one, key=place.__getitem__)) for one in sets]
    return tuple(sorted(members, key=lambda group: [place[name] for name in group]))


def letters(names: Sequence[str], different: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Compact letters: two models share a letter if and only if they do not differ.

    >>> letters(("gru", "lstm", "rnn"), [("gru", "rnn")])
    {'gru': 'a', 'lstm': 'ab', 'rnn': 'b'}
    """
    found = groups(names, different)
    return {name: "".join(_letter(i) for i, group in enumerate(found) if name in group) for name in names}


def _letter(index: int) -> str:
    """a … z, then a′ … z′, and so on: one sign a group, so that a word of them can be read."""
    return chr(ord("a") + index % 26) + "′" * (index // 26)
