"""Compare what a form of an exported folder decides of the made sounds with what the trained model decides of them.

Decisions follow from scores, but a form has labels, a threshold and a rule of its own to go wrong. Each stream is also
decided at threshold 0, since made sounds seldom reach the folder's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cello.deploy.decisions import Decider, DecisionConfig, smoothed, softmax
from cello.deploy.manifest import Manifest

Scores = NDArray[np.floating]
Said = tuple[float, str]
"""The time in s and the label of a decision."""


class Decided(NamedTuple):
    """What a form decides: its labels in the order of scores, and for each threshold the decisions of each sound."""

    labels: tuple[str, ...]
    decisions: dict[float, list[list[Said]]]


class Rule:
    """The rule of decisions with a manifest's settings."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest, self.labels = manifest, manifest.labels
        front_end = manifest.front_end
        stacking = int(manifest.model.get("frame_stacking", 1))
        self.rate_hz, self._window, self._hop = front_end.rate_hz, front_end.window_samples, front_end.hop_samples
        self._stacking, self._step_samples = stacking, front_end.hop_samples * stacking

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Those that streams are decided at: the manifest's, and 0."""
        stream = self.manifest.stream
        return () if stream is None else tuple(dict.fromkeys((stream.threshold, 0.0)))

    def config(self, threshold: float) -> DecisionConfig:
        """The manifest's settings with another threshold."""
        stream = self.manifest.stream
        if stream is None:
            raise ValueError("the model cannot stream")
        return stream.config(threshold=threshold)

    def of_scores(self, times_s: Sequence[Sequence[float]], scores: Sequence[Scores], labels: Sequence[str]) -> Decided:
        """The decisions of streams with these scores (T, C), which end at these times; none if they do not fit."""
        fitting = all(len(ends) == len(each) for ends, each in zip(times_s, scores, strict=True))
        if not fitting or len(labels) != len(self.labels):
            return Decided(tuple(labels), {})
        return Decided(
            tuple(labels),
            {
                threshold: [
                    [(time_s, label) for time_s, label, _ in self._decider(threshold, labels).push(ends, each)]
                    for ends, each in zip(times_s, scores, strict=True)
                ]
                for threshold in self.thresholds
            },
        )

    def hangs_on_rounding(self, scores: Scores, threshold: float, tolerance: float) -> bool:
        """Whether scores that are off by the tolerance may bring other decisions.

        Probabilities, and so their averages, are then off by no more than half of it.
        """
        steps = self.config(threshold).smoothed_steps(self.rate_hz, self._step_samples)
        averages = np.sort(smoothed(softmax(scores), steps), axis=1)
        highest, second = averages[:, -1], averages[:, -2] if averages.shape[1] > 1 else 0.0
        near = np.abs(highest - threshold) <= tolerance
        equal = (highest - second <= tolerance) & (highest >= threshold)
        return bool((near | equal).any())

    def _decider(self, threshold: float, labels: Sequence[str]) -> Decider:
        config = self.config(threshold)
        return Decider(labels, config, rate_hz=self.rate_hz, step_samples=self._step_samples)

    def times_s(self, steps: int, samples: int) -> list[float]:
        """When so many steps of a stream of so many samples end."""
        frames = 1 + (samples - self._window) // self._hop
        last = [min((step + 1) * self._stacking, frames) - 1 for step in range(steps)]
        return [(frame * self._hop + self._window) / self.rate_hz for frame in last]


def label_difference(labels: Sequence[str], wanted: Sequence[str]) -> str:
    """The first label that a form has in another place; empty where there is none."""
    for number, (found, own) in enumerate(zip_longest(labels, wanted)):
        if found != own:
            return f"its label {number} is {_named(found)}, and that of the trained model {_named(own)}"
    return ""


def clip_difference(name: str, scores: Scores, wanted: Scores, labels: Sequence[str], tolerance: float) -> str:
    """How a form names a clip otherwise, where rounding does not excuse it; empty where it does not."""
    found, best = int(np.argmax(scores)), int(np.argmax(wanted))
    if found == best or wanted[best] - wanted[found] <= 2 * tolerance:
        return ""
    return f"it names the made clip {name!r} {labels[found]!r}, and the trained model {labels[best]!r}"


def stream_difference(name: str, threshold: float, found: Sequence[Said], wanted: Sequence[Said]) -> str:
    """The first decision that a form makes otherwise; empty where it makes none."""
    for one, other in zip_longest(found, wanted):
        if one is None or other is None or one[1] != other[1] or abs(one[0] - other[0]) > 1e-6:
            return (
                f"of the made clip {name!r} it decides {_said(one)} at threshold {threshold:g}, and the trained model "
                f"{_said(other)}"
            )
    return ""


def _named(label: str | None) -> str:
    return "missing" if label is None else repr(label)


def _said(decision: Said | None) -> str:
    return "nothing more" if decision is None else f"{decision[1]!r} at {decision[0]:.2f} s"
