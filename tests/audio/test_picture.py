"""What hurts: a picture that no browser shows, or one that stands on its head."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray

from cello.audio.picture import HEIGHT, WIDTH, png, spectrogram


def pixels(content: bytes) -> NDArray[np.uint8]:
    """What the one IDAT chunk of a PNG holds, each chunk's CRC-32 checked."""
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    at, chunks = 8, {}
    while at < len(content):
        (size,) = struct.unpack_from(">I", content, at)
        kind, body = content[at + 4 : at + 8], content[at + 8 : at + 8 + size]
        assert struct.unpack_from(">I", content, at + 8 + size) == (zlib.crc32(kind + body),)
        chunks[kind], at = body, at + 12 + size
    assert list(chunks) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not rows[:, 0].any()
    return rows[:, 1:]


def test_pixels_come_back() -> None:
    picture = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert np.array_equal(pixels(png(picture)), picture)


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 44_100])
def test_a_high_tone_at_the_end_is_bright_at_the_top_right(rate_hz: int) -> None:
    t = np.arange(rate_hz) / rate_hz
    sound = np.where(t > 0.5, np.sin(2 * np.pi * 0.45 * rate_hz * t), 0).astype(np.float32)
    picture = pixels(spectrogram(sound, rate_hz))
    assert picture.shape == (HEIGHT, WIDTH)
    row, column = np.unravel_index(picture.argmax(), picture.shape)
    assert row == pytest.approx(0.1 * HEIGHT, abs=3)
    assert column > WIDTH / 2
    assert picture[HEIGHT // 2 :, : WIDTH // 3].max() == 0


@pytest.mark.parametrize("samples", [1, 50, 500])
def test_short_and_silent_clips_are_drawn(samples: int) -> None:
    assert pixels(spectrogram(np.zeros(samples, np.float32), 16_000)).max() == 0
    assert pixels(spectrogram(np.full(samples, 0.5, np.float32), 16_000)).max() == 255
