"""Warn about sampling rates that differ from the one trained at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import soundfile

from cello.audio.c_output import hidden_c_output

LOOKED_AT = 200
"""Files whose headers are read, evenly among all: enough to say what is usual."""


def rates(paths: Sequence[Path]) -> Counter[int]:
    """Count files by sampling rate in Hz; unreadable files are left out."""
    found: Counter[int] = Counter()
    with hidden_c_output():
        for path in paths[:: len(paths) // LOOKED_AT + 1]:
            with suppress(soundfile.LibsndfileError, OSError, RuntimeError, ValueError):
                if path.is_file():
                    found[int(soundfile.info(path).samplerate)] += 1
    return found


def rate_doubts(found: Counter[int], rate_hz: int) -> Iterator[str]:
    """Warn how resampling to ``rate_hz`` changes the audio, if most files have another rate.

    >>> list(rate_doubts(Counter({8000: 9}), 16_000))[0].split("; ")[1]
    'give features.rate_hz=8000'
    >>> list(rate_doubts(Counter({16_000: 9}), 16_000))
    []
    """
    own, count = found.most_common(1)[0] if found else (rate_hz, 0)
    if own == rate_hz:
        return
    share = "the files are" if count == sum(found.values()) else "most files are"
    if own < rate_hz:
        effect = f"there is no signal above {own // 2:,} Hz, and mel bands there are empty"
    else:
        effect = f"content above {rate_hz // 2:,} Hz is lost"
    yield f"{share} recorded at {own:,} Hz and are resampled to {rate_hz:,} Hz: {effect}; give features.rate_hz={own}"
