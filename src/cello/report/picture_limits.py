"""Bound what pictures show, and choose scales that fit."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from cello.report.metrics import BY_KEY, Interval
from cello.report.results import StudyResults
from cello.report.visible import elided, names

MOST_ROWS, MOST_COLUMNS, MOST_EPOCHS, MOST_SQUARES, MOST_PIXELS = 60, 60, 500, 250, 12_000_000
"""What is drawn at most, so that pictures of any study fit into memory and can be read; tables have the rest."""
NAME, LABEL, TITLE = 40, 24, 120  # letters; longer ones lose their middle
TICKS, TICK_LETTERS = 40, 60
USUAL = 26  # letters of a name that need no wider picture
NAME_GAP = 0.058  # of a picture's usual height


def drawn(results: StudyResults) -> tuple[StudyResults, str]:
    """The part of a study that its pictures can show, and what a title says of it; of most studies, all and nothing."""
    rows, columns = results.rows, results.columns
    if len(rows) > MOST_ROWS:
        validation = BY_KEY["validation_accuracy"]
        cells = results.cells().items()
        best = {
            row: max((validation.over(runs).mean for (r, _), runs in cells if r == row), default=0.0) for row in rows
        }
        kept = set(sorted(rows, key=lambda row: -best[row])[:MOST_ROWS])
        rows = tuple(row for row in rows if row in kept)
    columns = tuple(column for column in columns if any(column == c for _, c in results.cells()))[:MOST_COLUMNS]
    if len(rows) == len(results.rows) and len(results.columns) <= MOST_COLUMNS:
        return results, ""
    models = f"the best {len(rows)} of {len(results.rows):,} by validation accuracy" * (len(rows) < len(results.rows))
    first = f"the first {MOST_COLUMNS} of {len(results.columns):,} columns" * (len(results.columns) > MOST_COLUMNS)
    part = f" ({', '.join(text for text in (models, first) if text)})"
    return msgspec.structs.replace(results, rows=rows, columns=columns), part


def tall(results: StudyResults, height: float) -> float:
    """The height at which the names of all models have room, one below the other."""
    return height * max(1.0, len(results.rows) * NAME_GAP)


def wide(results: StudyResults) -> float:
    """The width at which the longest name of a model stands beside a picture."""
    longest = max(map(len, called_rows(results).values()))
    return 4.9 + 0.06 * max(0, longest - USUAL)


def called_rows(results: StudyResults) -> dict[str, str]:
    """What pictures call each model: its name, without its middle where it is very long."""
    return names(results.rows, lambda name: elided(name, NAME))


def spread(targets: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Ascending heights at least ``gap`` apart and as near their targets as that allows (pooled neighbours).

    >>> spread([1.0, 1.0, 5.0], 1.0, 0.0, 6.0)
    [0.5, 1.5, 5.0]
    """
    pools: list[list[float]] = []
    for index, target in enumerate(targets):
        pools.append([target - index * gap])
        while len(pools) > 1 and np.mean(pools[-2]) >= np.mean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    flat = [float(np.mean(pool)) for pool in pools for _ in pool]
    top = high - gap * (len(flat) - 1)
    return [max(low, min(top, base)) + index * gap for index, base in enumerate(flat)]


def bars(shown: Sequence[Interval]) -> tuple[list[float], list[float]]:
    """How far error bars reach below and above means in per cent; none beyond 0 or 100.

    >>> bars([Interval(98.0, 5.0, 3), Interval(50.0, 1.5, 3), Interval(50.0, None, 1)])
    ([5.0, 1.5, 0.0], [2.0, 1.5, 0.0])
    """
    halves = [v.half if v.half is not None and math.isfinite(v.half) else 0.0 for v in shown]
    below = [min(half, max(v.mean, 0.0)) for half, v in zip(halves, shown, strict=True)]
    return below, [min(half, max(100 - v.mean, 0.0)) for half, v in zip(halves, shown, strict=True)]


def limits(shown: Sequence[Interval]) -> tuple[float, float]:
    """An axis that holds all means, and of intervals as much as leaves the means apart."""
    means = [v.mean for v in shown if math.isfinite(v.mean)]
    if not means:
        return 0.0, 100.0
    room = max(max(means) - min(means), 2.0)
    below, above = bars([v for v in shown if math.isfinite(v.mean)])
    lowest = min(m - h for m, h in zip(means, below, strict=True))
    highest = max(m + h for m, h in zip(means, above, strict=True))
    low, high = max(lowest, min(means) - 0.5 * room), min(highest, max(means) + 0.5 * room)
    return max(0.0, low - 0.06 * room), min(100.0 + 0.03 * room, high + 0.06 * room)
