"""Measure what linear interpolation adds to a tone when a clip is played faster or slower.

    python benchmarks/speed_change.py

For each pitch: the loss in level, and the rest that is no longer the tone (images and aliases) below it, in dB, the
worst of 21 speeds from 0.9 to 1.1. A windowed-sinc resampler (soxr, its highest quality) stands beside it.
"""

from __future__ import annotations

import sys

import numpy as np
import soxr
from numpy.typing import NDArray

from cello.audio.changes import slower_or_faster

RATE_HZ, SAMPLES = 16_000, 16_000


def rest_of(sound: NDArray[np.float64], hz: float) -> tuple[float, float]:
    """The level of a tone in a sound, and of all else in it, in dB of a full tone; its ends are left out."""
    t = np.arange(len(sound))[200:-200] / RATE_HZ
    part = sound[200:-200]
    basis = np.stack([np.cos(2 * np.pi * hz * t), np.sin(2 * np.pi * hz * t)], axis=1)
    found = basis @ np.linalg.lstsq(basis, part, rcond=None)[0]
    level, rest = np.mean(found**2), np.mean((part - found) ** 2)
    return 10 * np.log10(2 * level), 10 * np.log10(rest / level + 1e-30)


def main() -> None:
    t = np.arange(SAMPLES) / RATE_HZ
    lines = ["pitch, Hz  level, dB  rest, dB  rest of soxr, dB"]
    for hz in (250, 500, 1000, 2000, 3000, 4000, 5000, 6000):
        tone = np.sin(2 * np.pi * hz * t).astype(np.float32)
        ours, theirs = [], []
        for rate in np.linspace(0.9, 1.1, 21):
            if rate != 1:
                changes = slower_or_faster(np.array([rate]), np.array([SAMPLES]))
                sound = changes.apply(tone[None], ())[0, : changes.lengths[0]].astype(np.float64)
                ours.append(rest_of(sound, rate * hz))
                theirs.append(rest_of(soxr.resample(tone.astype(np.float64), rate, 1, "VHQ"), rate * hz)[1])
        lines.append(
            f"{hz:9}  {min(level for level, _ in ours):9.2f}  {max(rest for _, rest in ours):8.1f}  {max(theirs):16.1f}"
        )
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
