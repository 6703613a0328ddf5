"""Compute numbers of frames and samples in integers, for batches and streams alike."""

from __future__ import annotations


def samples_of(milliseconds: float, rate_hz: int) -> int:
    """The whole number of samples nearest to a duration.

    >>> samples_of(40.0, 16_000)
    640
    """
    return round(milliseconds * rate_hz / 1000)


def frame_count(samples: int, window: int, hop: int) -> int:
    """T, the frames that fit whole: frame t covers samples [t·hop, t·hop + window), nothing is padded.

    T = 1 + (N − window) // hop, and 0 when N < window.

    >>> [frame_count(16_000, w, w // 2) for w in (320, 640, 1280, 1920)]
    [99, 49, 24, 15]
    """
    return 0 if samples < window else 1 + (samples - window) // hop
