"""List the phases of a stream, how many frames are there and how many are not read yet, as tables a graph looks up.

Counting with operators would take a dozen of them a hop. There are few phases: once all frames are there that deltas
take, a stream stays in one. Entry 2·p of a table is for a hop of sound in phase p, entry 2·p + 1 for a call without.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cello.export.onnx_front_end import delta_table
from cello.features.config import FeatureConfig


class PhaseTables(NamedTuple):
    """What a call does in each of P phases.

    Attributes:
        following: (2P,) the first entry of the next phase
        known: (2P,) whether a frame is read, its deltas known
        weights: (2P, 1 + orders, width) what takes the recent frames to that frame, zero where none is read
    """

    following: NDArray[np.int64]
    known: NDArray[np.bool_]
    weights: NDArray[np.float64]


class _Phase(NamedTuple):
    """The frames so far, at most ``width`` of them and negative before the first, and how many are not read yet."""

    received: int
    waiting: int


def first_hops(features: FeatureConfig) -> int:
    """The hops that the first frame takes."""
    return -(-features.window_samples // features.hop_samples)


def phase_tables(features: FeatureConfig) -> PhaseTables:
    """The tables of all phases that a stream can be in; it begins in the first.

    >>> tables = phase_tables(FeatureConfig(deltas=0))
    >>> tables.following.tolist(), tables.known.tolist()
    ([2, 0, 4, 2, 4, 4], [False, False, True, False, True, False])
    """
    width = features.delta_frames if features.deltas else 1
    recent = recent_weights(features) if features.deltas else np.zeros((2, 1, 1))
    found = [_Phase(1 - first_hops(features), 0)]
    following, known, weights = list[int](), list[bool](), list[NDArray[np.float64]]()
    for phase in found:  # those that follow are appended to it
        for drain in (False, True):
            there = _with_a_frame(phase, width) if not drain else phase
            reads = there.waiting > 0 and (drain or there.received == width)
            after = there._replace(waiting=there.waiting - reads)
            found += [] if after in found else [after]
            following.append(2 * found.index(after))
            known.append(reads)
            weights.append(recent[there.received * width - there.waiting] * reads)
    return PhaseTables(np.array(following), np.array(known), np.array(weights))


def _with_a_frame(phase: _Phase, width: int) -> _Phase:
    """The phase after a hop of sound, before a frame is read."""
    return _Phase(min(phase.received + 1, width), phase.waiting + (phase.received >= 0))


def recent_weights(features: FeatureConfig) -> NDArray[np.float64]:
    """Weights (n, 1 + orders, width) that take the recent frames to the one that is read, its deltas after it.

    Entry count · width − behind is for a stream of ``count`` frames, at most ``width``, of which the last ``behind``
    are not read yet; a negative index counts from the end. As long as fewer than ``width`` frames are there, the
    stream ended early, and its deltas are narrower. Other entries are for calls whose result is not ready.
    """
    table, width = delta_table(features), features.delta_frames
    weights = np.zeros(((width + 1) * width + 1, 1 + features.deltas, width))
    for count in range(1, width + 1):
        half = (count - 1) // 2
        for t in range(count):
            first = min(max(t - half, 0), count - 1 - 2 * half)
            entry = weights[count * width + t - count]
            entry[0, width - count + t] = 1
            entry[1:] = np.roll(table[half], width - count + first, axis=1)
    return weights
