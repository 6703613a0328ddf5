"""Draw the spectrogram of a clip as a small PNG, with numpy and zlib only."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 240, 96

_WINDOW_S = 0.025
_RANGE_DB = 70.0
_COLOURS = ((0, 0, 4), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164))


def spectrogram(sound: NDArray[np.float32], rate_hz: int) -> bytes:
    """The PNG of a clip's (N,) samples: time to the right, 0 Hz to half the rate upwards, 70 dB below the loudest."""
    window = max(2 * HEIGHT, round(_WINDOW_S * rate_hz))
    padded = np.pad(sound, (window // 2, window // 2 + max(0, window - len(sound))))
    starts = np.linspace(0, len(padded) - window, WIDTH).astype(np.int64)
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[starts]
    power = np.abs(np.fft.rfft(frames * np.hanning(window), axis=1)) ** 2
    edges = np.linspace(0, power.shape[1], HEIGHT + 1).astype(np.int64)
    bands = np.add.reduceat(power, edges[:-1], axis=1) / np.diff(edges)
    level = 10 * np.log10(bands + 1e-12)
    shown = np.clip((level - level.max()) / _RANGE_DB + 1, 0, 1) if bands.any() else np.zeros_like(level)
    return png(np.rint(255 * shown.T[::-1]).astype(np.uint8))


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A (height, width) picture of palette indices as PNG, dark to bright."""
    height, width = pixels.shape
    places = np.linspace(0, 255, len(_COLOURS))
    palette = np.stack([np.interp(np.arange(256), places, channel) for channel in zip(*_COLOURS, strict=True)], axis=1)
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels], axis=1)  # each row begins with its filter, none
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", np.rint(palette).astype(np.uint8).tobytes()),
            _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
