"""Samples that no model should learn from: silence, cancelled channels, numbers far beyond full scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from cello.audio.decode import decode
from cello.errors import ClipError

RATE_HZ = 16_000
BLOCK = 1 << 20


def noise(samples: int = 8000, channels: int = 1) -> NDArray[np.float64]:
    return np.random.default_rng(0).normal(0, 0.1, (samples, channels))


def written(path: Path, frames: NDArray[np.float64], subtype: str = "PCM_16") -> Path:
    soundfile.write(path, frames, RATE_HZ, subtype=subtype)
    return path


@pytest.mark.parametrize(
    ("name", "subtype"), [("a.wav", "PCM_16"), ("a.wav", "PCM_24"), ("a.wav", "FLOAT"), ("a.flac", "PCM_16")]
)
def test_channels_that_cancel_are_named_and_not_called_silent(tmp_path: Path, name: str, subtype: str) -> None:
    one = np.round(noise() * 32767) / 32768
    path = written(tmp_path / name, np.hstack([one, -one]), subtype)
    with pytest.raises(ClipError, match=r"^its channels cancel each other out: their mean is zero; keep one of them$"):
        decode(path, RATE_HZ)


@pytest.mark.parametrize(("name", "subtype"), [("a.wav", "PCM_U8"), ("a.wav", "ULAW"), ("a.mp3", "MPEG_LAYER_III")])
def test_channels_that_cancel_but_for_rounding_are_named(tmp_path: Path, name: str, subtype: str) -> None:
    one = noise(16_000)
    path = written(tmp_path / name, np.hstack([one, -one]), subtype)
    with pytest.raises(ClipError, match="its channels cancel each other out: their mean is"):
        decode(path, RATE_HZ)


def test_bitwise_inverted_channels_cancel_to_a_constant(tmp_path: Path) -> None:
    one = (noise() * 32767).astype(np.int16)
    path = written(tmp_path / "a.wav", np.hstack([one, ~one]))
    with pytest.raises(ClipError, match="its channels cancel each other out"):
        decode(path, RATE_HZ)


@pytest.mark.parametrize("channels", [2, 3, 8, 64])
def test_unrelated_quiet_or_one_sided_channels_do_not_cancel(tmp_path: Path, channels: int) -> None:
    frames = noise(channels=channels)
    assert len(decode(written(tmp_path / "a.wav", frames), RATE_HZ)) == 8000
    frames[:, 1:] = 0
    assert len(decode(written(tmp_path / "b.wav", frames), RATE_HZ)) == 8000
    assert len(decode(written(tmp_path / "c.wav", noise(channels=channels) * 1e-3 + 0.5, "FLOAT"), RATE_HZ)) == 8000


@pytest.mark.parametrize("channels", [1, 2])
def test_silence_in_every_channel_is_silence(tmp_path: Path, channels: int) -> None:
    with pytest.raises(ClipError, match="all silence: every sample is zero"):
        decode(written(tmp_path / "a.wav", np.zeros((8000, channels))), RATE_HZ)


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize(
    ("scale", "reason"),
    [
        (32768, r"\(\d\.\d+e\+04\): perhaps 16-bit integers in a float file; divide them by 32768$"),
        (2**23, r"\(\d\.\d+e\+06\): perhaps 24-bit integers in a float file; divide them by 8388608$"),
        (1e18, r"\(\d\.\d+e\+1[78]\): perhaps another byte order$"),
        (1e30, r"\(\d\.\d+e\+\d\d\): perhaps another byte order$"),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_float_samples_far_beyond_full_scale_are_named(
    tmp_path: Path, subtype: str, scale: float, reason: str, channels: int
) -> None:
    path = written(tmp_path / "a.wav", noise(channels=channels) * scale, subtype)
    for rate_hz in (RATE_HZ, 8000):
        with pytest.raises(ClipError, match=r"^its samples go far beyond full scale " + reason):
            decode(path, rate_hz)


def test_samples_a_little_beyond_full_scale_are_kept(tmp_path: Path) -> None:
    frames = noise() * 40
    assert 2 < np.abs(frames).max() < 16.1
    sound = decode(written(tmp_path / "a.wav", np.clip(frames, -16, 16), "FLOAT"), RATE_HZ)
    assert np.abs(sound).max() == np.float32(np.abs(np.clip(frames, -16, 16)).max())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_sample_of_one_channel_that_is_no_number_spoils_a_clip(tmp_path: Path, value: float) -> None:
    frames = noise(channels=2)
    frames[7, 1] = value
    with pytest.raises(ClipError, match="not finite: it holds NaN or infinite samples"):
        decode(written(tmp_path / "a.wav", frames, "FLOAT"), RATE_HZ)


@pytest.mark.parametrize(("name", "subtype"), [("a.wav", "PCM_16"), ("a.wav", "FLOAT"), ("a.flac", "PCM_24")])
def test_averaging_in_blocks_is_averaging_all_at_once(tmp_path: Path, name: str, subtype: str) -> None:
    path = written(tmp_path / name, noise(BLOCK // 3 + 1000, 5), subtype)
    frames = soundfile.read(path, dtype="int16" if subtype == "PCM_16" else "float32", always_2d=True)[0]
    expected = (frames * np.float32(1 / 32768) if subtype == "PCM_16" else frames).mean(axis=1)
    assert np.array_equal(decode(path, RATE_HZ), expected)
