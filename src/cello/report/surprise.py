"""Explain a larger difference that is not significant beside a smaller one that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
from numpy.typing import ArrayLike

from cello.statistics.comparisons import Comparison
from cello.statistics.random_effects import Components, components

Reason = Literal["seeds", "speakers", "few", "constant"]


class Surprise(msgspec.Struct, frozen=True, kw_only=True):
    """The larger pair, better model first, whose difference is not significant, and the smaller one, which is.

    Differences and errors are in [0, 1]. ``reason`` says what makes the larger one unsure: it varies more between
    ``seeds`` (most the runs of ``varying``) or ``speakers``, its variance rests on too ``few`` of them, or nothing of
    it varies (``constant``). ``errors`` are that part's standard errors, the larger pair's first.
    """

    larger: tuple[str, str]
    smaller: tuple[str, str]
    differences: tuple[float, float]
    reason: Reason
    errors: tuple[float, float]
    varying: str = ""


def surprise(pairs: Sequence[Comparison], correct: Mapping[str, ArrayLike], speakers: ArrayLike) -> Surprise | None:
    """The largest difference that is not significant beside the smallest that is; None where that is smaller."""
    unsure = max((pair for pair in pairs if not pair.differs), key=_size, default=None)
    sure = min((pair for pair in pairs if pair.differs), key=_size, default=None)
    if unsure is None or sure is None or _size(unsure) <= _size(sure):
        return None
    larger, smaller = _named(unsure), _named(sure)
    one, other = (components([correct[name] for name in names], speakers) for names in (larger, smaller))
    reason, errors = _reason(one, other)
    own = dict(zip(larger, _by_seed(one), strict=True))
    return Surprise(
        larger=larger,
        smaller=smaller,
        differences=(one.value, other.value),
        reason=reason,
        errors=errors,
        varying=max(own, key=own.__getitem__) if reason == "seeds" else "",
    )


def _reason(larger: Components, smaller: Components) -> tuple[Reason, tuple[float, float]]:
    """Which part of the larger difference's variance exceeds the smaller's most, and both standard errors of it."""
    variance, other = larger.spread()[0], smaller.spread()[0]
    if variance == 0:
        return "constant", (0.0, other**0.5)
    if variance <= other:
        return "few", (variance**0.5, other**0.5)
    seeds = sum(_by_seed(larger)), sum(_by_seed(smaller))
    shared = variance - seeds[0], other - seeds[1]
    if seeds[0] - seeds[1] >= shared[0] - shared[1]:
        return "seeds", (seeds[0] ** 0.5, seeds[1] ** 0.5)
    return "speakers", (max(shared[0], 0.0) ** 0.5, max(shared[1], 0.0) ** 0.5)


def _by_seed(found: Components) -> list[float]:
    return [variance / n for variance, n in zip(found.runs, found.seeds, strict=True)]


def _size(pair: Comparison) -> float:
    return abs(pair.difference.value)


def _named(pair: Comparison) -> tuple[str, str]:
    """The pair, the better model first."""
    return (pair.first, pair.second) if pair.difference.value >= 0 else (pair.second, pair.first)
