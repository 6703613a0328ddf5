"""Decoding: what a user's files may be, and every way in which one can be broken."""

from __future__ import annotations

import os
import socket
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray

from cello.audio.decode import decode, decode_bytes
from cello.errors import ClipError, LongClipError

RATE_HZ = 16_000


def tone(samples: int = RATE_HZ, rate_hz: int = RATE_HZ, hz: float = 440.0) -> NDArray[np.float32]:
    return (0.4 * np.sin(2 * np.pi * hz * np.arange(samples) / rate_hz)).astype(np.float32)


def correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(np.corrcoef(a, b)[0, 1])


@pytest.mark.parametrize(
    ("name", "subtype", "error"),
    [
        ("clip.wav", "PCM_U8", 1e-2),
        ("clip.wav", "PCM_24", 1e-6),
        ("clip.wav", "PCM_32", 1e-6),
        ("clip.wav", "FLOAT", 0),
        ("clip.wav", "DOUBLE", 1e-7),
        ("clip.wav", "ULAW", 2e-2),
        ("clip.flac", "PCM_24", 1e-6),
        ("clip.ogg", "VORBIS", 5e-2),
    ],
)
def test_every_format_gives_the_same_sound(tmp_path: Path, name: str, subtype: str, error: float) -> None:
    soundfile.write(tmp_path / name, tone(), RATE_HZ, subtype=subtype)
    sound = decode(tmp_path / name, RATE_HZ)
    assert sound.dtype == np.float32
    assert len(sound) == RATE_HZ
    assert np.abs(sound - tone()).max() <= error


@pytest.mark.parametrize(("name", "subtype"), [("clip.mp3", "MPEG_LAYER_III"), ("clip.opus", "OPUS")])
def test_lossy_formats_sound_alike(tmp_path: Path, name: str, subtype: str) -> None:
    soundfile.write(tmp_path / name, tone(), RATE_HZ, format="MP3" if name.endswith("mp3") else "OGG", subtype=subtype)
    sound = decode(tmp_path / name, RATE_HZ)
    assert abs(len(sound) - RATE_HZ) <= 1
    assert correlation(sound[2000:14_000].astype(np.float32), tone()[2000:14_000]) > 0.99


@pytest.mark.parametrize("name", ["clip.wav", "clip.flac"])
def test_sixteen_bit_samples_are_kept_bit_for_bit(tmp_path: Path, name: str) -> None:
    samples = np.random.default_rng(0).integers(-32768, 32768, 1001).astype(np.int16)
    soundfile.write(tmp_path / name, samples, RATE_HZ, subtype="PCM_16")
    sound = decode(tmp_path / name, RATE_HZ)
    assert sound.dtype == np.int16
    assert np.array_equal(sound, samples)


def test_extensible_header_is_sixteen_bit_too(tmp_path: Path) -> None:
    samples = (tone() * 32767).astype(np.int16)
    soundfile.write(tmp_path / "clip.wav", samples, RATE_HZ, subtype="PCM_16", format="WAVEX")
    assert np.array_equal(decode(tmp_path / "clip.wav", RATE_HZ), samples)


@pytest.mark.parametrize("name", ["clip.wav", "clip.flac"])
def test_channels_are_averaged(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / name, np.stack([tone(), np.zeros(RATE_HZ)], axis=1), RATE_HZ, subtype="PCM_16")
    sound = decode(tmp_path / name, RATE_HZ)
    assert sound.dtype == np.float32
    assert np.abs(sound - tone() / 2).max() < 1e-4


@pytest.mark.parametrize("rate_hz", [8000, 11_025, 22_050, 44_100, 48_000])
def test_other_rates_are_resampled(tmp_path: Path, rate_hz: int) -> None:
    soundfile.write(tmp_path / "clip.wav", tone(rate_hz // 2, rate_hz), rate_hz, subtype="PCM_16")
    sound = decode(tmp_path / "clip.wav", RATE_HZ)
    assert abs(len(sound) - RATE_HZ // 2) <= 1
    middle = slice(1000, 7000)
    assert np.abs(sound[middle] - tone(len(sound))[middle]).max() < 1e-3


def test_resampling_lets_nothing_fold_over(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "clip.wav", tone(48_000, 48_000, hz=10_000.0), 48_000, subtype="PCM_16")
    assert np.abs(decode(tmp_path / "clip.wav", RATE_HZ)[1000:-1000]).max() < 1e-3


def test_a_wav_of_unknown_length_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "piped.wav"
    soundfile.write(path, (tone() * 32767).astype(np.int16), RATE_HZ, subtype="PCM_16")
    whole = bytearray(path.read_bytes())
    place = whole.index(b"data") + 4
    whole[place : place + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(whole)
    assert len(decode(path, RATE_HZ)) == RATE_HZ


def test_chunks_before_and_after_the_samples_are_no_sound(tmp_path: Path) -> None:
    path = tmp_path / "tagged.wav"
    samples = (tone() * 32767).astype(np.int16)
    soundfile.write(path, samples, RATE_HZ, subtype="PCM_16")
    plain = path.read_bytes()
    odd = b"junk\x03\x00\x00\x00abc\x00"  # an odd chunk is padded to an even length
    path.write_bytes(plain[:12] + odd + plain[12:] + b"LIST\x04\x00\x00\x00abcd")
    assert np.array_equal(decode(path, RATE_HZ), samples)


def test_an_mp3_whose_length_would_be_guessed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.mp3"
    soundfile.write(path, tone(), RATE_HZ)
    whole = path.read_bytes()
    tag = b"ID3\x03\x00\x00\x00\x00\x10\x00" + bytes(2048)
    path.write_bytes(tag + whole)
    assert len(decode(path, RATE_HZ)) == RATE_HZ
    path.write_bytes(tag + whole[whole.index(whole[:2], 10) :])  # its first frame, which tells the length, left out
    with pytest.raises(ClipError, match=r"of unknown length: an MP3 without .* convert it to FLAC or WAV"):
        decode(path, RATE_HZ)


def test_a_flac_header_that_promises_a_year_is_truncated(tmp_path: Path) -> None:
    path = tmp_path / "long.flac"
    soundfile.write(path, (tone() * 32767).astype(np.int16), RATE_HZ, subtype="PCM_16")
    whole = bytearray(path.read_bytes())
    whole[21] |= 0x0F
    path.write_bytes(whole)
    with pytest.raises(ClipError, match=r"^truncated"):
        decode(path, RATE_HZ)


def test_truncation_says_how_much_is_missing(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(100), RATE_HZ, subtype="PCM_16")
    whole = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(whole[:-50])
    with pytest.raises(ClipError, match="declares 200 bytes of samples, the file holds 150"):
        decode(tmp_path / "a.wav", RATE_HZ)


def test_a_wav_cut_within_its_header_is_truncated(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(100), RATE_HZ, subtype="PCM_16")
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:30])
    with pytest.raises(ClipError, match="truncated: a WAV header without samples"):
        decode(tmp_path / "a.wav", RATE_HZ)


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.raw", "a.txt", "a"])
def test_text_is_not_audio(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("these are words, not sound\n" * 50)
    with pytest.raises(ClipError, match=r"^not audio"):
        decode(tmp_path / name, RATE_HZ)


def test_a_header_of_zero_channels_is_not_audio(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(100), RATE_HZ, subtype="PCM_16")
    whole = bytearray((tmp_path / "a.wav").read_bytes())
    whole[22:24] = b"\x00\x00"
    (tmp_path / "a.wav").write_bytes(whole)
    with pytest.raises(ClipError, match="not audio: the header says 0 channels at 16000 Hz"):
        decode(tmp_path / "a.wav", RATE_HZ)


def test_an_empty_file_and_an_empty_recording_are_empty(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    with pytest.raises(ClipError, match="empty: a file of 0 bytes"):
        decode(tmp_path / "a.wav", RATE_HZ)
    with wave.open(str(tmp_path / "b.wav"), "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
    with pytest.raises(ClipError, match="empty: it holds no samples"):
        decode(tmp_path / "b.wav", RATE_HZ)


def test_what_is_no_file_is_named_and_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # a socket's path may have no more than about 100 letters
        server.bind("socket.wav")
    (tmp_path / "folder").mkdir()
    (tmp_path / "more").symlink_to("folder")
    (tmp_path / "lost.wav").symlink_to("nowhere.wav")
    (tmp_path / "annexed.wav").symlink_to("../.git/annex/objects/0f/MD5-s1--0f/MD5-s1--0f")
    (tmp_path / "round.wav").symlink_to("round.wav")
    for name, reason in [
        ("pipe.wav", "^not audio: not a regular file$"),
        ("socket.wav", "^not audio: not a regular file$"),
        ("folder", "^not audio: a folder, not a regular file$"),
        ("more", "^not audio: a link to a folder, which is not followed$"),
        ("gone.wav", r"^cannot be opened \(No such file or directory\)$"),
        ("lost.wav", r"^cannot be opened \(No such file or directory\)$"),
        ("annexed.wav", "^a git-annex link without its content: run git annex get$"),
        ("round.wav", r"^cannot be opened \(Too many levels of symbolic links\)$"),
        ("gone.wav/a.wav", "^cannot be opened"),
    ]:
        with pytest.raises(ClipError, match=reason):
            decode(tmp_path / name, RATE_HZ)


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, ZeroDivisionError, TypeError, OSError, MemoryError])
@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_whatever_goes_wrong_is_that_clips_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception], name: str
) -> None:
    soundfile.write(tmp_path / name, tone(8000, 8000), 8000)

    def fails(*_: object, **__: object) -> None:
        raise kind("two\nlines")

    monkeypatch.setattr("cello.audio.decode.soxr.resample", fails)
    reason = r"^(cannot be (read|decoded) .*|too large: decoding it needs more memory than is available)$"
    with pytest.raises(ClipError, match=reason):
        decode(tmp_path / name, RATE_HZ)


def test_ctrl_c_is_no_reason_of_a_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.wav", tone(8000, 8000), 8000)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cello.audio.decode.soxr.resample", interrupted)
    with pytest.raises(KeyboardInterrupt):
        decode(tmp_path / "a.wav", RATE_HZ)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_file_that_one_system_call_does_not_hold_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int
) -> None:
    frames = np.random.default_rng(0).integers(-9000, 9000, (5000, channels)).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", frames, RATE_HZ)
    expected = decode(tmp_path / "a.wav", RATE_HZ)
    preadv = os.preadv
    monkeypatch.setattr(
        os, "preadv", lambda fd, views, offset: preadv(fd, [views[0][:999]], offset)
    )  # 2 GiB, in little
    assert len(expected) == 5000
    assert np.array_equal(decode(tmp_path / "a.wav", RATE_HZ), expected)


def test_a_small_file_does_not_unfold_without_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cello.audio.decode._MOST_SAMPLES", 100_000)
    hour = np.zeros(3600 * 1000, dtype=np.int16)
    hour[0] = 1
    soundfile.write(tmp_path / "a.flac", hour, RATE_HZ)
    with pytest.raises(ClipError, match=r"^too large: \d+ bytes that decode to more than \d+ samples; split it$"):
        decode(tmp_path / "a.flac", RATE_HZ)


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        *(
            ("WAV", subtype)
            for subtype in ("PCM_16", "PCM_24", "PCM_32", "PCM_U8", "FLOAT", "DOUBLE", "ULAW", "IMA_ADPCM")
        ),
        *(("WAVEX", subtype) for subtype in ("PCM_16", "FLOAT")),
        *(("FLAC", subtype) for subtype in ("PCM_16", "PCM_24", "PCM_S8")),
        *((kind, "PCM_16") for kind in ("RF64", "AIFF", "AU", "W64", "CAF", "NIST", "VOC")),
        *(("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("from_hz", [RATE_HZ, 48_000])
def test_samples_are_bit_for_bit_what_the_libraries_give(
    tmp_path: Path, kind: str, subtype: str, channels: int, from_hz: int
) -> None:
    path = tmp_path / "clip"
    frames = np.random.default_rng(0).normal(0, 0.1, (7001, channels))
    try:
        soundfile.write(path, frames, from_hz, format=kind, subtype=subtype)
    except soundfile.LibsndfileError:
        assert (kind, channels) == ("VOC", 2)
        return
    with soundfile.SoundFile(path) as file:  # soundfile.read seeks first, after which libmpg123 rounds otherwise
        read = file.read(dtype="int16" if subtype == "PCM_16" else "float32", always_2d=True)
    expected = read[:, 0]
    if channels > 1 or from_hz != RATE_HZ:
        expected = (read * np.float32(1 / 32768) if read.dtype == np.int16 else read).mean(axis=1)
    if from_hz != RATE_HZ:
        expected = soxr.resample(expected, from_hz, RATE_HZ, quality="HQ")
    sound = decode(path, RATE_HZ)
    assert sound.dtype == expected.dtype
    assert np.array_equal(sound, expected)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_a_file_in_memory_decodes_as_on_disk_and_is_stopped_where_it_is_too_long(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"x.{kind.lower()}"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, (22_050, 2)), 44_100, format=kind)
    content = path.read_bytes()
    assert np.array_equal(decode_bytes(content, 16_000, longest_s=0.6), decode(path, 16_000))
    with pytest.raises(LongClipError, match=r"^too long: more than 0\.4 s; split it$"):
        decode_bytes(content, 16_000, longest_s=0.4)
    with pytest.raises(ClipError, match=r"truncated|damaged"):
        decode_bytes(content[:-300], 16_000, longest_s=0.6)
    with pytest.raises(ClipError, match="empty"):
        decode_bytes(b"", 16_000, longest_s=0.6)
