"""Count misses and false alarms of a stream's decisions, and choose a threshold by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from cello.statistics.means import CONFIDENCE
from cello.statistics.one_run import share_over

Kind = Literal["hit", "repeat", "confusion", "other", "noise"]
"""What a decision is: of a word in the stream the first with its label, a later one with its label, or one with another
label; in a clip of another word or of silence; in the noise between."""


class Event(NamedTuple):
    """A clip in a stream: from ``start_s`` to ``end_s``, its label and who says it.

    ``label`` is empty where no decision is right: another word, or silence. ``word_end_s`` is where the word itself
    ends, the clip's end unless given.
    """

    start_s: float
    end_s: float
    label: str
    speaker: str = ""
    word_end_s: float | None = None


class Counted(NamedTuple):
    """Which of K words were hit, (K,); how long after its word's end each hit came, in s; the kind of each decision."""

    hits: NDArray[np.bool_]
    latencies_s: NDArray[np.float64]
    kinds: tuple[Kind, ...]

    def count(self, kind: Kind) -> int:
        return self.kinds.count(kind)

    @property
    def false_alarms(self) -> int:
        """Decisions where no word of the model's was said: in other words, and in noise."""
        return self.count("other") + self.count("noise")


class Point(NamedTuple):
    """A point of the DET curve: false alarms an hour and the share of words missed at one threshold."""

    threshold: float
    false_alarms_an_hour: float
    miss_rate: float


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What a threshold brings.

    ``miss_rate`` is the share of words without a decision for them, with an interval over speakers where several are
    known, else over words. ``false_alarms`` are the decisions ``in_noise`` and ``in_other_words``, an hour of the sound
    without the model's words, with the exact Poisson interval. ``confusion_rate`` and ``repeat_rate`` are decisions at
    words, for another one or once more, over words. Latencies run from the end of the word to the decision.
    """

    threshold: float
    miss_rate: float
    miss_interval: tuple[float, float] | None
    false_alarms: int
    in_noise: int
    in_other_words: int
    false_alarms_an_hour: float
    false_alarms_interval: tuple[float, float]
    confusion_rate: float
    repeat_rate: float
    latency_s: float | None
    latency_95_s: float | None

    @property
    def point(self) -> Point:
        return Point(self.threshold, self.false_alarms_an_hour, self.miss_rate)


def rates(threshold: float, found: Counted, groups: Sequence[str], hours: float, delay_s: float = 0.0) -> Rates:
    """The rates of counted decisions; ``groups`` are the words' speakers, ``hours`` the sound without those words.

    ``delay_s`` is added to latencies.
    """
    words = len(found.hits)
    share = share_over(~found.hits, groups) if len(set(groups)) > 1 else None
    late = found.latencies_s + delay_s
    return Rates(
        threshold=threshold,
        miss_rate=float(1 - found.hits.mean()),
        miss_interval=None if share is None else (share.low, share.high),
        false_alarms=found.false_alarms,
        in_noise=found.count("noise"),
        in_other_words=found.count("other"),
        false_alarms_an_hour=found.false_alarms / hours,
        false_alarms_interval=rate_interval(found.false_alarms, hours),
        confusion_rate=found.count("confusion") / words,
        repeat_rate=found.count("repeat") / words,
        latency_s=float(np.median(late)) if len(late) else None,
        latency_95_s=float(np.quantile(late, 0.95)) if len(late) else None,
    )


def counted(events: Sequence[Event], decisions: Sequence[tuple[float, str]], tolerance_s: float) -> Counted:
    """Match decisions (time in s, label), in their order, with events, which do not overlap.

    A decision is of an event that has begun and ended at most ``tolerance_s`` before: of two such, of the one with its
    label that nothing has hit yet, else with its label, else of the later one.

    >>> counted([Event(1.0, 2.0, "yes")], [(1.5, "no"), (2.2, "yes"), (2.4, "yes"), (9.0, "no")], 0.5).kinds
    ('confusion', 'hit', 'repeat', 'noise')
    """
    words = [event for event in events if event.label]
    place = {id(event): k for k, event in enumerate(words)}
    hits, late = np.zeros(len(words), dtype=bool), []
    starts = np.array([event.start_s for event in events])
    kinds: list[Kind] = []
    for time_s, label in decisions:
        near = _near(events, starts, time_s, tolerance_s)
        own = [event for event in near if event.label == label]
        new = [event for event in own if not hits[place[id(event)]]]
        if new:
            hits[place[id(new[0])]] = True
            end_s = new[0].end_s if new[0].word_end_s is None else new[0].word_end_s
            late.append(time_s - end_s)
        kinds.append("hit" if new else "repeat" if own else _strange(near))
    return Counted(hits, np.array(late), tuple(kinds))


def _near(events: Sequence[Event], starts: NDArray[np.float64], time_s: float, tolerance_s: float) -> list[Event]:
    """The events that a decision may be of, in their order."""
    found: list[Event] = []
    for k in range(int(np.searchsorted(starts, time_s, side="right")) - 1, -1, -1):
        if events[k].end_s + tolerance_s < time_s:
            break
        found.insert(0, events[k])
    return found


def _strange(near: Sequence[Event]) -> Kind:
    """The kind of a decision whose label no event near has."""
    if not near:
        return "noise"
    return "confusion" if near[-1].label else "other"


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
