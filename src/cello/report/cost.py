"""Find the Pareto front of test accuracy against cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import NamedTuple

from cello.report.metrics import BY_KEY
from cello.report.results import StudyResults, place_name
from cello.training.result import RunResult

FRONT = "No other cell of the table is at least as good as one on the front in both."


class Cost(NamedTuple):
    """What a run costs: a name for the axis, and the value."""

    axis: str
    value: Callable[[RunResult], float]


COSTS = (
    Cost("seconds per epoch", lambda run: run.seconds_per_epoch),
    Cost("parameters", lambda run: float(run.parameters)),
)


class Point(NamedTuple):
    """One cell of the table: mean cost and mean test accuracy (%) over its seeds."""

    row: str
    column: str
    cost: float
    accuracy: float


def points(results: StudyResults, cost: Cost) -> list[Point]:
    """Every cell with a finished run, in the table's order."""
    accuracy = BY_KEY["test_accuracy"]
    return [
        Point(row, column, sum(map(cost.value, runs)) / len(runs), accuracy.over(runs).mean)
        for (row, column), runs in results.cells().items()
    ]


def front(found: Sequence[Point]) -> list[Point]:
    """The Pareto front, cheapest first: the points that no other equals in both and beats in one.

    >>> found = [Point("a", "", 1.0, 90.0), Point("b", "", 2.0, 89.0), Point("c", "", 3.0, 95.0)]
    >>> [point.row for point in front(found)]
    ['a', 'c']
    """
    kept: list[Point] = []
    for point in sorted(found, key=lambda p: (p.cost, -p.accuracy)):
        if not math.isfinite(point.cost) or not math.isfinite(point.accuracy):
            continue
        if not kept or point.accuracy > kept[-1].accuracy or point[2:] == kept[-1][2:]:
            kept.append(point)
    return kept


def sentences(results: StudyResults) -> list[str]:
    """The front of each cost, named; empty for a single cell, which has nothing to be compared with."""
    if len(results.cells()) < 2:
        return []
    texts = []
    wide = len(results.columns) > 1
    for cost in COSTS:
        named = (
            f"{place_name(p.row, p.column if wide else '')} ({_figure(p.cost)} {cost.axis}, {p.accuracy:.2f} %)"
            for p in front(points(results, cost))
        )
        texts.append(f"Pareto front of test accuracy against {cost.axis}, cheapest first: {'; '.join(named)}.")
    texts.append(f"{FRONT} These are means over seeds: neighbours on it may not differ significantly.")
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
