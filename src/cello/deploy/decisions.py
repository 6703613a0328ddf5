"""Turn the scores of a stream into decisions: smoothed, above a threshold, not twice at once. Needs numpy alone.

docs/export.md states the rule in words. C99 (``export/c``) and the page (``export/browser``) have it in their own
language, and a test holds them to this one.
"""

from __future__ import annotations

import math
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

    def smoothed_steps(self, rate_hz: int, step_samples: int) -> int:
        """The steps of so many samples that probabilities are averaged over: the nearest whole number, at least one."""
        return max(1, round(self.smooth_s * rate_hz / step_samples))

    def refractory_samples(self, rate_hz: int) -> int:
        """The refractory time in whole samples, so that no sum of times in s decides whether it has passed."""
        return round(self.refractory_s * rate_hz)


class Decider:
    """Decides step by step from scores (C,) before softmax; a step is ``step_samples`` of sound at ``rate_hz``.

    >>> config = DecisionConfig(threshold=0.9, smooth_s=0.04)
    >>> decider = Decider(("no", "yes"), config, rate_hz=16_000, step_samples=320)
    >>> decider.push([1.0, 1.02, 1.04], np.array([[9.0, 0.0], [0.0, 9.0], [0.0, 9.0]]))
    [Decision(time_s=1.0, label='no', score=0.999...)]
    >>> decider.push([2.6], np.array([[0.0, 9.0]]))
    [Decision(time_s=2.6, label='yes', score=0.999...)]
    """

    def __init__(self, labels: Sequence[str], config: DecisionConfig, *, rate_hz: int, step_samples: int) -> None:
        self.labels, self.config, self.rate_hz = tuple(labels), config, rate_hz
        self.smoothed_steps = config.smoothed_steps(rate_hz, step_samples)
        self._refractory = config.refractory_samples(rate_hz)
        self._recent = np.zeros((0, len(self.labels)))  # the newest steps' probabilities, and place for some more
        self._kept = 0
        self.highest: Decision | None = None
        """The step with the highest smoothed probability of a label that may be decided for, whether it was or not."""
        self._last: int | None = None  # the sample at which the sound of the last decision's step ended

    def push(self, times_s: Sequence[float], scores: NDArray[np.floating]) -> list[Decision]:
        """The decisions of some more steps, whose sound ended at these times: scores (n, C)."""
        found = []
        rows = (_softmax_of_step(scores[0]),) if len(scores) == 1 else softmax(scores)
        for time_s, probabilities in zip(times_s, rows, strict=True):
            decision = self._decided(time_s, self._smoothed(probabilities))
            if decision is not None:
                found.append(decision)
        return found

    def _smoothed(self, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """The mean (C,) over the newest steps with this one, added up from the oldest."""
        if self._kept == len(self._recent):
            kept = self._recent[self._kept - min(self._kept, self.smoothed_steps - 1) :]
            self._recent = np.concatenate([kept, np.zeros((max(16, len(kept)), len(self.labels)))])
            self._kept = len(kept)
        self._recent[self._kept] = probabilities
        self._kept += 1
        newest = self._recent[max(0, self._kept - self.smoothed_steps) : self._kept]
        return np.asarray(np.add.reduce(newest) / len(newest))

    def _decided(self, time_s: float, smoothed: NDArray[np.float64]) -> Decision | None:
        best = int(smoothed.argmax())
        label, score = self.labels[best], float(smoothed[best])
        if label in self.config.background:
            return None
        if self.highest is None or score > self.highest.score:
            self.highest = Decision(time_s, label, score)
        if not score >= self.config.threshold:  # NaN reaches none
            return None
        end = round(time_s * self.rate_hz)
        if self._last is not None and end - self._last < self._refractory:
            return None
        self._last = end
        return Decision(time_s, label, score)


def smoothed(probabilities: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """(T, C) → the mean over the last ``steps`` rows of each, to the bit as a ``Decider`` takes it.

    >>> smoothed(np.array([[1.0], [0.0], [0.5]]), 2).tolist()
    [[1.0], [0.5], [0.25]]
    """
    sums = np.zeros_like(probabilities)
    for back in reversed(range(min(steps, len(sums)))):  # the oldest first: a running sum would drift over hours
        sums[back:] += probabilities[: len(sums) - back]
    return np.asarray(sums / np.minimum(np.arange(1, len(sums) + 1), steps)[:, None])


def softmax(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities (…, C) of scores, in double precision; NaN where scores are NaN or infinite.

    >>> softmax(np.zeros((1, 4))).tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """
    wide = np.asarray(scores, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        away = np.exp(wide - wide.max(axis=-1, keepdims=True))
    return np.asarray(away / away.sum(axis=-1, keepdims=True))


def _softmax_of_step(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """``softmax`` of one step (C,), to the bit, in two thirds of its time: a stream asks for one at a time."""
    highest = max(scores.tolist())
    if not math.isfinite(highest):
        return softmax(scores)
    away = np.exp(scores.astype(np.float64) - highest)
    return np.asarray(away / np.add.reduce(away))
