"""Turn the scores of a stream into decisions: smoothed, above a threshold, not twice at once. Needs numpy alone."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cello.errors import ConfigError

BACKGROUND = ("silence", "unknown", "_silence_", "_unknown_")
"""Labels that are no decision unless a config says otherwise."""


class Decision(NamedTuple):
    """A label that was decided for: ``time_s`` is the end of the sound that its step had seen, ``score`` in [0, 1]."""

    time_s: float
    label: str
    score: float


@dataclass(frozen=True, kw_only=True)
class DecisionConfig:
    """When a stream decides for a label.

    Attributes:
        threshold: the least smoothed probability of a decision, 0 to 1
        smooth_s: time in s over which probabilities are averaged
        refractory_s: time in s after a decision in which there is no other one: longer than a window of scores, for so
            long a word is in sight
        background: labels that are never decided for

    Raises:
        ConfigError: a value that is invalid, with the field, the value and what would be legal.
    """

    threshold: float = 0.8
    smooth_s: float = 0.2
    refractory_s: float = 1.5
    background: tuple[str, ...] = BACKGROUND

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ConfigError(f"threshold={self.threshold} is invalid: it must be a probability, from 0 to 1")
        for field in ("smooth_s", "refractory_s"):
            value = getattr(self, field)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{field}={value} is invalid: it must be finite and at least 0 s")


class Decider:
    """Decides step by step from scores (C,) before softmax; a step is ``step_s`` of sound.

    >>> decider = Decider(("no", "yes"), 0.02, DecisionConfig(threshold=0.9, smooth_s=0.04))
    >>> decider.push([1.0, 1.02, 1.04], np.array([[9.0, 0.0], [0.0, 9.0], [0.0, 9.0]]))
    [Decision(time_s=1.0, label='no', score=0.999...)]
    >>> decider.push([2.6], np.array([[0.0, 9.0]]))
    [Decision(time_s=2.6, label='yes', score=0.999...)]
    """

    def __init__(self, labels: Sequence[str], step_s: float, config: DecisionConfig) -> None:
        self.labels, self.config = tuple(labels), config
        self.smooth_steps = max(1, round(config.smooth_s / step_s))
        self._recent: deque[NDArray[np.float64]] = deque(maxlen=self.smooth_steps)
        self._last_s = -math.inf

    def push(self, times_s: Sequence[float], scores: NDArray[np.floating]) -> list[Decision]:
        """The decisions of some more steps, whose sound ended at these times: scores (n, C)."""
        found = []
        for time_s, probabilities in zip(times_s, softmax(scores), strict=True):
            self._recent.append(probabilities)
            decision = self._decided(time_s, np.add.reduce(list(self._recent)) / len(self._recent))
            if decision is not None:
                self._last_s = time_s
                found.append(decision)
        return found

    def _decided(self, time_s: float, smoothed: NDArray[np.float64]) -> Decision | None:
        best = int(smoothed.argmax())
        label, score = self.labels[best], float(smoothed[best])
        if score < self.config.threshold or label in self.config.background:
            return None
        # half a microsecond: times are sums of steps, and 0.3 s may be 0.1 + 0.2
        return Decision(time_s, label, score) if time_s - self._last_s >= self.config.refractory_s - 5e-7 else None


def softmax(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities (…, C) of scores, in double precision.

    >>> softmax(np.zeros((1, 4))).tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """
    wide = np.asarray(scores, dtype=np.float64)  # methods, as a step of a stream is so small that np.max costs more
    away = np.exp(wide - wide.max(axis=-1, keepdims=True))
    return np.asarray(away / away.sum(axis=-1, keepdims=True))
