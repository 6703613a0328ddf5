"""Find the Pareto front of test accuracy against cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np

from cello.report.metrics import BY_KEY, interval
from cello.report.results import StudyResults, place_name
from cello.training.result import RunResult

FRONT = (
    "No other cell of the table is better in one and not worse in the other than a cell on the front. Differences no "
    "larger than the ± of either cell, which is over seeds, count as none; other differences may still not be "
    "significant."
)
LISTED = 12
MATCHED = "Parameters are no axis here: the models were matched by them, and what still differs is a remainder."


class Cost(NamedTuple):
    """What a run costs: a name for the axis, and the value."""

    axis: str
    value: Callable[[RunResult], float]


SECONDS = Cost("seconds per epoch", lambda run: run.seconds_per_epoch)
PARAMETERS = Cost("parameters", lambda run: float(run.parameters))


class Point(NamedTuple):
    """One cell of the table: mean cost and mean test accuracy (%) over its seeds, and half of each one's interval."""

    row: str
    column: str
    cost: float
    accuracy: float
    cost_half: float = 0.0
    accuracy_half: float = 0.0


def costs(results: StudyResults) -> tuple[Cost, ...]:
    """The costs that models are compared by; what they were matched by is none."""
    return (SECONDS,) if results.match == "parameters" else (SECONDS, PARAMETERS)


def points(results: StudyResults, cost: Cost) -> list[Point]:
    """Every cell with a finished run, in the table's order."""
    found = []
    for (row, column), runs in results.cells().items():
        both = interval(map(cost.value, runs)), BY_KEY["test_accuracy"].over(runs)
        found.append(Point(row, column, *(one.mean for one in both), *(one.half or 0.0 for one in both)))
    return found


def front(found: Sequence[Point]) -> list[Point]:
    """The Pareto front, cheapest first: the points that no other beats in one axis and equals or beats in the other.

    Two points are equal in an axis if they differ by no more than the larger of their halves. Should, of points with
    very unequal halves, each be beaten by another, the front is that of the means.

    >>> found = [Point("a", "", 1.0, 90.0), Point("b", "", 2.0, 89.0), Point("c", "", 3.0, 95.0)]
    >>> [point.row for point in front(found)]
    ['a', 'c']
    >>> [point.row for point in front([Point("a", "", 1.0, 90.0, 0.1), Point("b", "", 1.05, 92.0, 0.1)])]
    ['b']
    """
    finite = [point for point in found if math.isfinite(point.cost) and math.isfinite(point.accuracy)]
    if not finite:
        return []
    costs, accuracies, cost_halves, accuracy_halves = np.array([point[2:] for point in finite]).T
    halves = ((costs, np.nan_to_num(cost_halves), -1), (accuracies, np.nan_to_num(accuracy_halves), 1))

    def unbeaten(k: int, exact: bool) -> bool:
        better, worse = np.zeros(len(finite), dtype=bool), np.zeros(len(finite), dtype=bool)
        for values, spread, sign in halves:
            gain, within = sign * (values - values[k]), 0.0 if exact else np.maximum(spread, spread[k])
            better, worse = better | (gain > within), worse | (-gain > within)
        return not np.any(better & ~worse)

    kept = [point for k, point in enumerate(finite) if unbeaten(k, exact=False)]
    kept = kept or [point for k, point in enumerate(finite) if unbeaten(k, exact=True)]
    return sorted(kept, key=lambda point: (point.cost, -point.accuracy))


def sentences(results: StudyResults) -> list[str]:
    """The front of each cost, named; empty for a single cell, which has nothing to be compared with."""
    if len(results.cells()) < 2:
        return []
    texts = []
    wide = len(results.columns) > 1
    for cost in costs(results):
        named = [
            f"{place_name(p.row, p.column if wide else '')} ({_figure(p.cost)} {cost.axis}, {p.accuracy:.2f} %)"
            for p in front(points(results, cost))
        ]
        more = f"; and {len(named) - LISTED} more" if len(named) > LISTED else ""
        first = "; ".join(named[:LISTED])
        texts.append(f"Pareto front of test accuracy against {cost.axis}, cheapest first: {first}{more}.")
    texts += [FRONT] if PARAMETERS in costs(results) else [FRONT, MATCHED]
    return [*texts, *whole_epochs(results)]


def whole_epochs(results: StudyResults) -> list[str]:
    """How long whole epochs take, and how much of that the training steps are; empty where no run recorded it."""
    known = [[run for run in runs if run.epoch_seconds] for runs in results.cells().values()]
    seconds = [fmean(run.epoch_seconds for run in runs) for runs in known if runs]
    shares = [fmean(run.wall_seconds_per_epoch / run.epoch_seconds for run in runs) for runs in known if runs]
    if not seconds or not all(map(math.isfinite, (*seconds, *shares))):
        return []
    return [
        f"A whole epoch, with augmentation, features and validation, takes {_range(seconds, '.2f')} s; its training "
        f"steps are {_range([100 * share for share in shares], '.0f')} % of that (wall times)."
    ]


def _range(values: Sequence[float], form: str) -> str:
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
