"""Small made-up sounds, so that no test needs real recordings."""

from __future__ import annotations

import wave
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 16_000
WORDS = ("high", "low", "rough")


def tone(word: str, seed: int, samples: int = RATE_HZ) -> NDArray[np.int16]:
    """A clip anybody can tell apart by ear: a high tone, a low tone, or noise; (N,) int16."""
    return _tone(word, seed, samples).copy()


@lru_cache(maxsize=512)
def _tone(word: str, seed: int, samples: int) -> NDArray[np.int16]:
    """The same few hundred clips are wanted by hundreds of tests."""
    rng = np.random.default_rng(seed)
    t = np.arange(samples) / RATE_HZ
    hz = {"high": 2000.0, "low": 300.0, "rough": 0.0}[word] * rng.uniform(0.9, 1.1)
    sound = 0.3 * np.sin(2 * np.pi * hz * t) + rng.normal(0, 0.2 if word == "rough" else 0.02, samples)
    return (sound * 12_000).astype(np.int16)


def write_wav(path: Path, sound: NDArray[np.int16], rate_hz: int = RATE_HZ) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(sound.astype("<i2").tobytes())
