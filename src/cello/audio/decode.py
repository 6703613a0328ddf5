"""One sound file as samples at the wanted rate: whole and sound, or a reason why not."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from cello.errors import ClipError

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3"})

Sound = NDArray[np.int16] | NDArray[np.float32]

_UNKNOWN_LENGTH = 0xFFFFFFFF  # what a WAV written to a pipe says
_OGG_PAGE_BYTES = 65_307  # the largest possible
_OGG_LAST_PAGE = 4
_NO_LENGTH = 1 << 62  # what libsndfile says of a FLAC stream whose header leaves its length out
_MPEG_FRAME_BYTES = 1441  # the longest there is
_BLOCK_FRAMES = 1 << 20


class _Wav(NamedTuple):
    """The part of a WAV header that decides how it is read; ``size`` is what the header promises."""

    format: int
    channels: int
    rate_hz: int
    bits: int
    offset: int
    size: int


def decode(path: Path, rate_hz: int) -> Sound:
    """The (N,) samples of a sound file, channels averaged, resampled to ``rate_hz`` (soxr HQ).

    int16, bit for bit, when the file is 16-bit PCM, mono and already at ``rate_hz``; float32 otherwise, full scale
    being ±1.

    Raises:
        ClipError: the file is missing, empty, not audio, truncated, not finite or all zero; the text is the reason.
    """
    if path.exists() and not path.is_file():  # opening a pipe would wait for its other end
        raise ClipError("not audio: not a regular file")
    try:
        with path.open("rb", buffering=0) as file:
            sound = _decode(file.fileno(), rate_hz)
    except OSError as error:
        raise ClipError(f"cannot be opened ({error.strerror})") from error
    if not len(sound):
        raise ClipError("empty: it holds no samples")
    if not np.isfinite(sound).all():
        raise ClipError("not finite: it holds NaN or infinite samples")
    if not sound.any():
        raise ClipError("all silence: every sample is zero")
    return sound


def as_float(sound: Sound) -> NDArray[np.float32]:
    """Samples as float32, full scale ±1; float32 samples are returned as they are."""
    return sound * np.float32(1 / 32768) if sound.dtype == np.int16 else sound.astype(np.float32, copy=False)


def _decode(fd: int, rate_hz: int) -> Sound:
    size = os.fstat(fd).st_size
    if not size:
        raise ClipError("empty: a file of 0 bytes")
    magic = os.pread(fd, 12, 0)
    if magic[:4] == b"RIFF" and magic[8:] == b"WAVE":
        wav = _wav_header(fd, size)
        if wav.format == 1 and wav.bits == 16:
            raw = np.frombuffer(os.pread(fd, wav.size, wav.offset), dtype="<i2")
            frames = raw[: len(raw) // wav.channels * wav.channels].reshape(-1, wav.channels)
            return _at_rate(frames, wav.rate_hz, rate_hz)
    elif magic[:4] == b"OggS":
        _check_last_page(fd, size)
    return _read_soundfile(fd, rate_hz)


def _wav_header(fd: int, file_size: int) -> _Wav:
    """Walk the chunks up to the samples; libsndfile reads a cut file without complaint, so this is looked at here."""
    offset, fmt = 12, b""
    while len(head := os.pread(fd, 8, offset)) == 8:
        kind, size = struct.unpack("<4sI", head)
        offset += 8
        if kind == b"fmt ":
            fmt = os.pread(fd, min(size, 40), offset)
        elif kind == b"data" and len(fmt) >= 16:
            held = file_size - offset
            size = held if size == _UNKNOWN_LENGTH else size
            if size > held:
                raise ClipError(f"truncated: the header promises {size} bytes of samples, the file holds {held}")
            tag, channels, rate_hz, _, _, bits = struct.unpack("<HHIIHH", fmt[:16])
            if tag == 0xFFFE and len(fmt) >= 26:  # extensible: the true format is the start of the sub-format
                (tag,) = struct.unpack("<H", fmt[24:26])
            if not (channels and rate_hz):
                raise ClipError(f"not audio: the header says {channels} channels at {rate_hz} Hz")
            return _Wav(tag, channels, rate_hz, bits, offset, size)
        offset += size + size % 2
    raise ClipError("truncated: a WAV header without samples")


def _check_last_page(fd: int, file_size: int) -> None:
    tail = os.pread(fd, _OGG_PAGE_BYTES, max(0, file_size - _OGG_PAGE_BYTES))
    last = tail.rfind(b"OggS")
    page = tail[last:]
    segments = page[26] if len(page) > 26 else 0
    whole = len(page) >= 27 + segments and len(page) >= 27 + segments + sum(page[27 : 27 + segments])
    if last < 0 or not whole or not page[5] & _OGG_LAST_PAGE:
        raise ClipError("truncated: the Ogg stream has no last page")


def _mp3_has_length(fd: int) -> bool:
    """Whether the first frame says how many follow; else libsndfile guesses a length and leaves out what is beyond."""
    start, tag = 0, os.pread(fd, 10, 0)
    if tag[:3] == b"ID3" and len(tag) == 10:  # its size is written in four groups of seven bits
        start = 10 + sum(byte << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
    first = os.pread(fd, _MPEG_FRAME_BYTES, start)
    return any(mark in first for mark in (b"Xing", b"Info", b"VBRI"))


def _read_soundfile(fd: int, rate_hz: int) -> Sound:
    try:
        file = soundfile.SoundFile(fd, closefd=False)
    except soundfile.LibsndfileError as error:
        raise ClipError(f"not audio that can be read ({error.error_string.strip().rstrip('.')})") from error
    with file:
        dtype = "int16" if file.subtype == "PCM_16" else "float32"
        if file.format == "MP3" and not _mp3_has_length(fd):
            raise ClipError("of unknown length: an MP3 without a Xing, Info or VBRI header; convert it to FLAC or WAV")
        if file.frames >= _NO_LENGTH:
            raise ClipError("of unknown length: its header was never completed (written to a pipe?); encode it again")
        # in blocks, since the header of a damaged file may promise more than the memory holds
        blocks = [np.zeros((0, file.channels), dtype=dtype)]
        try:
            while len(block := file.read(_BLOCK_FRAMES, dtype=dtype, always_2d=True)):
                blocks.append(block)
        except soundfile.LibsndfileError as error:
            raise ClipError("truncated or damaged: decoding stopped before the end") from error
        frames = np.concatenate(blocks)
        if len(frames) < file.frames:
            raise ClipError(f"truncated: the header promises {file.frames} samples, the file holds {len(frames)}")
        return _at_rate(frames, file.samplerate, rate_hz)


def _at_rate(frames: NDArray[np.int16] | NDArray[np.float32], from_hz: int, to_hz: int) -> Sound:
    """(N, channels) → (N′,): untouched where nothing is to be done, else float32, averaged, resampled."""
    if frames.shape[1] == 1 and from_hz == to_hz:
        return frames[:, 0]
    mono: NDArray[np.float32] = as_float(frames).mean(axis=1)
    if from_hz == to_hz:
        return mono
    out: NDArray[np.float32] = soxr.resample(mono, from_hz, to_hz, quality="HQ")
    return out
