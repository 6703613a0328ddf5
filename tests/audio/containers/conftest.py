"""Sound files of every accepted container, as bytes, and a way to decode bytes."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from cello.audio.decode import decode

RATE_HZ = 16_000
SAMPLES = 8_000

# name → format, subtype and byte order as soundfile calls them
CONTAINERS = {
    "wav-16": ("WAV", "PCM_16", "FILE"),
    "wav-24": ("WAV", "PCM_24", "FILE"),
    "wav-float": ("WAV", "FLOAT", "FILE"),
    "wav-ulaw": ("WAV", "ULAW", "FILE"),
    "wav-adpcm": ("WAV", "MS_ADPCM", "FILE"),
    "rifx-16": ("WAV", "PCM_16", "BIG"),
    "rifx-float": ("WAV", "FLOAT", "BIG"),
    "wavex-16": ("WAVEX", "PCM_16", "FILE"),
    "wavex-float": ("WAVEX", "FLOAT", "FILE"),
    "rf64-16": ("RF64", "PCM_16", "FILE"),
    "rf64-24": ("RF64", "PCM_24", "FILE"),
    "aiff-16": ("AIFF", "PCM_16", "FILE"),
    "aifc-float": ("AIFF", "FLOAT", "FILE"),
    "aifc-adpcm": ("AIFF", "IMA_ADPCM", "FILE"),
    "au-16": ("AU", "PCM_16", "FILE"),
    "au-little": ("AU", "FLOAT", "LITTLE"),
    "w64-16": ("W64", "PCM_16", "FILE"),
    "w64-gsm": ("W64", "GSM610", "FILE"),
    "caf-16": ("CAF", "PCM_16", "FILE"),
    "caf-alac": ("CAF", "ALAC_16", "FILE"),
    "sphere-16": ("NIST", "PCM_16", "FILE"),
    "voc-16": ("VOC", "PCM_16", "FILE"),
    "voc-8": ("VOC", "PCM_U8", "FILE"),
    "htk": ("HTK", "PCM_16", "FILE"),
    "flac-16": ("FLAC", "PCM_16", "FILE"),
    "flac-24": ("FLAC", "PCM_24", "FILE"),
    "vorbis": ("OGG", "VORBIS", "FILE"),
    "opus": ("OGG", "OPUS", "FILE"),
    "mp3": ("MP3", "MPEG_LAYER_III", "FILE"),
}

Decoder = Callable[[bytes], NDArray[np.float32]]


def noise(samples: int = SAMPLES, channels: int = 1) -> NDArray[np.float64]:
    sound = np.random.default_rng(0).normal(0, 0.1, (samples, channels))
    return sound[:, 0] if channels == 1 else sound


def encoded(name: str, sound: NDArray[np.float64] | None = None) -> bytes:
    kind, subtype, order = CONTAINERS[name]
    file = io.BytesIO()
    samples = noise() if sound is None else sound
    soundfile.write(file, samples, RATE_HZ, format=kind, subtype=subtype, endian=order)
    return file.getvalue()


@pytest.fixture(scope="session")
def whole() -> dict[str, bytes]:
    return {name: encoded(name) for name in CONTAINERS}


@pytest.fixture
def decoded(tmp_path: Path) -> Decoder:
    """Decode bytes that lie in a file without a telling name."""

    def run(content: bytes) -> NDArray[np.float32]:
        path = tmp_path / "clip.sound"
        path.write_bytes(content)
        return decode(path, RATE_HZ)  # type: ignore[return-value]

    return run


def replaced(content: bytes, offset: int, by: bytes) -> bytes:
    return content[:offset] + by + content[offset + len(by) :]
