"""Count misses and false alarms of a stream's decisions, and choose a threshold by them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from cello.statistics.means import CONFIDENCE


class Event(NamedTuple):
    """A word in a stream: from ``start_s`` to ``end_s``, its label and who says it."""

    start_s: float
    end_s: float
    label: str
    speaker: str = ""


class Counted(NamedTuple):
    """Which of K events were hit, (K,), how long after an event's end each hit came, in s, and the false alarms."""

    hits: NDArray[np.bool_]
    latencies_s: NDArray[np.float64]
    false_alarms: int


class Point(NamedTuple):
    """A point of the DET curve: rates at one threshold, false alarms an hour and the share of events missed."""

    threshold: float
    false_alarms_an_hour: float
    miss_rate: float


def counted(events: Sequence[Event], decisions: Sequence[tuple[float, str]], tolerance_s: float) -> Counted:
    """Match decisions (time in s, label), in their order, with events, which do not overlap.

    A decision hits an event of its label that has begun and ended at most ``tolerance_s`` before, if nothing has hit it
    yet; any other decision is a false alarm: a wrong label, a word counted twice, a word where none is.

    >>> counted([Event(1.0, 2.0, "yes")], [(1.5, "no"), (2.2, "yes"), (2.4, "yes")], 0.5).false_alarms
    2
    """
    hits, late, alarms = np.zeros(len(events), dtype=bool), [], 0
    starts = np.array([event.start_s for event in events])
    for time_s, label in decisions:
        begun = int(np.searchsorted(starts, time_s, side="right"))
        found = None
        for k in range(begun - 1, -1, -1):
            if events[k].end_s + tolerance_s < time_s:
                break
            if events[k].label == label and not hits[k]:
                found = k
        if found is None:
            alarms += 1
        else:
            hits[found] = True
            late.append(time_s - events[found].end_s)
    return Counted(hits, np.array(late), alarms)


def rate_interval(count: int, hours: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The exact interval of a Poisson rate an hour (Garwood 1936).

    >>> [round(end, 2) for end in rate_interval(0, 2.0)], [round(end, 2) for end in rate_interval(10, 1.0)]
    ([0.0, 1.84], [4.8, 18.39])
    """
    tail = (1 - confidence) / 2
    low = float(gammaincinv(count, tail)) if count else 0.0
    return low / hours, float(gammaincinv(count + 1, 1 - tail)) / hours


def chosen(points: Sequence[Point], most_an_hour: float) -> Point | None:
    """The lowest threshold from which on false alarms stay at or below so many an hour; None if none does.

    >>> chosen([Point(0.5, 9.0, 0.1), Point(0.7, 1.0, 0.2), Point(0.9, 0.0, 0.4)], 1.0)
    Point(threshold=0.7, false_alarms_an_hour=1.0, miss_rate=0.2)
    """
    found = None
    for point in sorted(points, reverse=True):
        if point.false_alarms_an_hour > most_an_hour:
            break
        found = point
    return found
