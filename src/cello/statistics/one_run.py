"""Say how well one run does on some clips: accuracy with its interval over speakers, reliability of probabilities."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from cello.statistics.means import CONFIDENCE
from cello.statistics.random_effects import between_speakers


class Share(NamedTuple):
    """A share of K clips in [0, 1] with its interval; ``groups`` are the speakers, or clips, that it is over."""

    value: float
    low: float
    high: float
    groups: int


class Bin(NamedTuple):
    """Clips whose answer had a probability of ``low`` to ``high``: how many, their mean probability, their accuracy."""

    low: float
    high: float
    clips: int
    confidence: float
    accuracy: float


def share_over(correct: ArrayLike, groups: ArrayLike, confidence: float = CONFIDENCE) -> Share:
    """The accuracy of one run, (K,) correct or not, with an interval for new speakers, (K,) equal where the speaker is.

    Wilson's interval (1927) with Student's t for as many independent clips as have the variance that the speakers show
    (Korn & Graubard 1998): p (1 − p) / V, at most K; where no variance shows, as at 100 %, (Σ n)² / Σ n² of n clips
    each. It never leaves [0, 1]. It says nothing of other runs: one run has no variability of training.

    Raises:
        ValueError: no clip, fewer than two groups, or arrays that differ in length.

    >>> share_over([1, 1, 1, 0], [1, 2, 3, 4])
    Share(value=0.75, low=0.130..., high=0.983..., groups=4)
    """
    right, place = np.asarray(correct, dtype=np.float64), np.unique(np.asarray(groups), return_inverse=True)[1]
    if right.shape != place.shape or right.ndim != 1 or len(right) == 0:
        raise ValueError(f"{right.shape} clips and {place.shape} groups; give one group for each of at least one clip")
    sizes = np.bincount(place).astype(np.float64)
    if len(sizes) < 2:
        raise ValueError("one group says nothing of other groups; give clips of several")
    value, clips = float(right.mean()), len(right)
    variance = float(between_speakers(np.bincount(place, right) - value * sizes, sizes))
    effective = clips**2 / float((sizes**2).sum())
    n = min(value * (1 - value) / variance, clips) if variance > 0 else effective
    z = float(stdtrit(effective - 1, 0.5 + confidence / 2))
    middle, half = value + z * z / (2 * n), z * math.sqrt(value * (1 - value) / n + z * z / (4 * n * n))
    low, high = ((middle + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    return Share(value, max(0.0, low), min(1.0, high), len(sizes))


def reliability(probability: ArrayLike, correct: ArrayLike, bins: int) -> list[Bin]:
    """Bins of equal width that hold clips, from the (K,) probability of each answer and whether it was correct.

    >>> reliability([0.9, 0.95, 0.3], [True, False, True], 2)
    [Bin(low=0.0, high=0.5, clips=1, confidence=0.3, accuracy=1.0), Bin(low=0.5, high=1.0, clips=2, ...accuracy=0.5)]
    """
    given, right = np.asarray(probability, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    place = np.minimum((given * bins).astype(np.int64), bins - 1)
    return [
        Bin(k / bins, (k + 1) / bins, int(own.sum()), float(given[own].mean()), float(right[own].mean()))
        for k in range(bins)
        if (own := place == k).any()
    ]
