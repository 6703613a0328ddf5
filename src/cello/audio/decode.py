"""Decode one audio file at the requested rate, or say why it is unusable."""

from __future__ import annotations

import hashlib
import math
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from cello.audio.c_output import hidden_c_output
from cello.audio.containers import aiff, flac, foreign, mpeg, ogg, plain, riff
from cello.audio.containers.source import BytesSource, Layout, Pcm16, Region, Segments, Source
from cello.audio.values import Frames, Mixer, Sound, as_float
from cello.errors import ClipError, LongClipError

__all__ = ["SUFFIXES", "Sound", "as_float", "decode", "decode_bytes", "resampled"]

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3"})

# the slowest are of heart sounds and whales, the fastest of bats and hydrophones
_LEAST_HZ, _MOST_HZ = 1_000, 1_024_000
_BLOCK_SAMPLES = 1 << 20
_MOST_SAMPLES = 1 << 27  # that any file may unfold to, however small it is: 512 MB
_MOST_SAMPLES_A_BYTE = 64  # a file of silence, or made to fill the memory, has thousands

_CHECKS: tuple[tuple[Callable[[bytes], bool], Callable[[Source], Layout]], ...] = (
    (riff.is_wav, riff.check),
    (aiff.is_aiff, aiff.check),
    (ogg.is_ogg, ogg.check),
    (plain.is_au, plain.check_au),
    (plain.is_w64, plain.check_w64),
    (plain.is_caf, plain.check_caf),
    (plain.is_nist, plain.check_nist),
    (plain.is_voc, plain.check_voc),
    (plain.is_sds, plain.refuse_sds),
    (flac.is_flac, flac.check),
    (mpeg.is_mpeg, mpeg.check),
)
_TAGS_SKIPPED = {"FLAC", "MP3"}  # libsndfile itself skips ID3 tags before these
_CHECKED_BY_LIBRARY = {"HTK"}  # libsndfile compares its header with the file's length before it opens one


def decode(path: Path, rate_hz: int, silent: bool = False) -> Sound:
    """Decode the (N,) samples of an audio file, with averaged channels, resampled to ``rate_hz`` (soxr HQ).

    int16, bit for bit, when the file is 16-bit PCM, mono and already at ``rate_hz``; float32 otherwise, full scale
    being ±1. Where all may be zero, say ``silent``.

    Raises:
        ClipError: the file is missing, empty, not audio, truncated, of a length that cannot be known, not finite, far
            beyond full scale or silent, or decoding it fails in any other way; the text is the reason.
    """
    with _reasons():
        with _opened(path) as fd:
            sound = _decode(Source(fd), path.suffix, rate_hz, silent)
        return _not_empty(sound)


def decode_bytes(content: bytes, rate_hz: int, longest_s: float) -> Sound:
    """Decode a whole audio file in memory of at most ``longest_s``, as ``decode`` does; all may be silent.

    Raises:
        LongClipError: the clip is longer, found before more of it than that was decoded.
        ClipError: as of ``decode``.
    """
    with _reasons():
        return _not_empty(_decode(BytesSource(content), "", rate_hz, True, longest_s))


@contextmanager
def _reasons() -> Iterator[None]:
    """Every error of decoding as a ClipError."""
    try:
        yield
    except ClipError:
        raise
    except OSError as error:
        raise ClipError(f"cannot be read ({error.strerror})") from error
    except MemoryError as error:
        raise ClipError("too large: decoding it needs more memory than is available") from error
    except Exception as error:
        # one clip among thousands must not end the command, whatever a library makes of its bytes
        text = " ".join(str(error).split())
        raise ClipError(f"cannot be decoded ({type(error).__name__}: {text}); convert it to WAV or FLAC") from error


def _not_empty(sound: Sound) -> Sound:
    if not len(sound):
        raise ClipError("empty: it holds no samples")
    return sound


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A regular file; nothing else is opened for good, as a pipe would be waited for."""
    try:
        _check_regular(path, path.stat().st_mode)
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ClipError(_unopened(path, error)) from error
    try:
        _check_regular(path, os.fstat(fd).st_mode)
        yield fd
    finally:
        os.close(fd)


def _check_regular(path: Path, mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        raise ClipError(
            "not audio: a link to a folder, which is not followed"
            if path.is_symlink()
            else "not audio: a folder, not a regular file"
        )
    raise ClipError("not audio: not a regular file")


def _unopened(path: Path, error: OSError) -> str:
    if path.is_symlink():
        target = str(path.readlink())
        if "annex/objects/" in target:
            return "a git-annex link without its content: run git annex get"
    return f"cannot be opened ({error.strerror})"


def _decode(source: Source, suffix: str, rate_hz: int, silent: bool, longest_s: float = math.inf) -> Sound:
    if not source.size:
        raise ClipError("empty: a file of 0 bytes")
    source = source.behind_tags()
    layout = _layout(source)
    if layout is not None and layout.pcm16 is not None:
        mixer, blocks = _read_pcm16(source, layout.pcm16, longest_s)
        from_hz = layout.pcm16.rate_hz
    else:
        with hidden_c_output():
            mixer, blocks, from_hz = _read_soundfile(source, layout, suffix, longest_s)
    if not any(len(block) for block in blocks):
        return np.zeros(0, dtype=np.int16)
    if mixer.has_signal or not silent:
        mixer.check_signal()
    sound: Sound = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)  # type: ignore[assignment]
    return resampled(sound, from_hz, rate_hz)


def _layout(source: Source) -> Layout | None:
    """What the container's own header tells; None for what is none of those known here."""
    head = source.read(32, 0)
    return next((check(source) for is_container, check in _CHECKS if is_container(head)), None)


def _read_pcm16(source: Source, pcm: Pcm16, longest_s: float) -> tuple[Mixer, list[Sound]]:
    _check_rate(pcm.rate_hz)
    offset, size = pcm.region
    count = size // (2 * pcm.channels)
    _check_length(count, pcm.rate_hz, longest_s)
    mixer = Mixer(pcm.channels)
    if not count:
        return mixer, []
    if pcm.channels == 1:
        samples = np.empty((count, 1), dtype="<i2")
        _fill(source, samples, offset)
        return mixer, [mixer.mono(samples)]
    mono = np.empty(count, dtype=np.float32)
    step = max(1, _BLOCK_SAMPLES // pcm.channels)
    for start in range(0, count, step):
        frames = np.empty((min(step, count - start), pcm.channels), dtype="<i2")
        _fill(source, frames, offset + 2 * pcm.channels * start)
        mono[start : start + len(frames)] = mixer.mono(frames)
    return mixer, [mono]


def _fill(source: Source, frames: NDArray[np.int16], offset: int) -> None:
    if source.fill(frames.data, offset) < frames.nbytes:
        raise ClipError("truncated: the file became shorter while it was read")


def _read_soundfile(
    source: Source, layout: Layout | None, suffix: str, longest_s: float
) -> tuple[Mixer, list[Sound], int]:
    segments = _segments(source, layout)
    try:
        file = soundfile.SoundFile(source.fd if segments is None else segments, closefd=False)
    except soundfile.LibsndfileError as error:
        raise ClipError(_unreadable(source, layout, suffix)) from error
    with file:
        _check_accepted(file, source, layout, suffix)
        _check_rate(file.samplerate)
        mixer = Mixer(file.channels)
        blocks = [mixer.mono(frames) for frames in _blocks(file, source, layout, longest_s)]
        if segments is not None and segments.error is not None:
            raise segments.error
        return mixer, blocks, file.samplerate


def _segments(source: Source, layout: Layout | None) -> Segments | None:
    """The file as libsndfile must see it; None for as it is, which takes half the time for MP3."""
    if layout is None or not layout.segments:
        if isinstance(source, BytesSource):
            return Segments(source, [Region(0, source.size)])
        if layout is None:
            return None
    if source.start and not layout.segments and layout.container not in _TAGS_SKIPPED:
        return Segments(source, [Region(0, source.size)])
    return Segments(source, layout.segments) if layout.segments else None


def _unreadable(source: Source, layout: Layout | None, suffix: str) -> str:
    described = foreign.describe(source, suffix)
    if layout is None or not described.startswith("not audio that"):
        return described
    return f"not audio, an unknown encoding of {layout.container}, or a damaged header"


def _check_accepted(file: soundfile.SoundFile, source: Source, layout: Layout | None, suffix: str) -> None:
    """Raises ClipError for containers that do not tell how long they are, and where two readings of a header differ."""
    if layout is None:
        if file.format not in _CHECKED_BY_LIBRARY:
            described = foreign.describe(source, suffix)
            if not described.startswith("not audio that"):
                raise ClipError(described)
            raise ClipError(
                f"its format, {file.format}, does not reveal whether a file is cut: convert it to WAV or FLAC"
            )
    elif file.subtype.startswith("MPEG") and file.format != "MP3":
        raise ClipError(f"of unknown length: MP3 inside {file.format}; convert it to FLAC or plain WAV")
    elif layout.frames is not None and file.frames < layout.frames:
        raise ClipError(
            f"damaged: the header declares {layout.frames} samples, {file.frames} can be read; convert it again"
        )


def _blocks(file: soundfile.SoundFile, source: Source, layout: Layout | None, longest_s: float) -> Iterator[Frames]:
    """All frames, in blocks, since the header of a damaged file may promise more than the memory holds."""
    dtype = "int16" if file.subtype == "PCM_16" else "float32"
    digest = hashlib.md5(usedforsecurity=False) if layout and layout.md5 else None
    most = _MOST_SAMPLES + _MOST_SAMPLES_A_BYTE * source.size
    step, count = max(1, _BLOCK_SAMPLES // file.channels), 0
    try:
        while len(frames := file.read(step, dtype=dtype, always_2d=True)):
            count += len(frames)
            _check_length(count, file.samplerate, longest_s)
            if count * file.channels > most:
                raise ClipError(f"too large: {source.size} bytes that decode to more than {most} samples; split it")
            if digest is not None:
                digest.update(_integers(frames, file.subtype))
            yield frames
    except soundfile.LibsndfileError as error:
        raise ClipError(
            f"truncated or damaged: the header declares {file.frames} samples, decoding stopped after {count}"
        ) from error
    if count < file.frames:
        raise ClipError(f"truncated: the header declares {file.frames} samples, the file holds {count}")
    if digest is not None and layout and digest.digest() != layout.md5:
        raise ClipError("damaged: its samples do not match its MD5 checksum; download or encode it again")


def _integers(frames: Frames, subtype: str) -> bytes:
    """Samples as FLAC's MD5 has them: little-endian, as wide as the file's."""
    if subtype == "PCM_24":
        wide = (frames * np.float32(1 << 23)).astype("<i4")
        return wide.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    if subtype == "PCM_S8":
        return (frames * np.float32(1 << 7)).astype(np.int8).tobytes()
    return frames.astype("<i2", copy=False).tobytes()


def _check_rate(rate_hz: int) -> None:
    if not _LEAST_HZ <= rate_hz <= _MOST_HZ:
        raise ClipError(
            f"not audio: the header says {rate_hz} Hz, sound is sampled at {_LEAST_HZ} to {_MOST_HZ} Hz; "
            f"correct its header"
        )


def _check_length(frames: int, rate_hz: int, longest_s: float) -> None:
    if frames > longest_s * rate_hz:
        raise LongClipError(f"too long: more than {longest_s:g} s; split it")


def resampled(sound: Sound, from_hz: int, to_hz: int) -> Sound:
    """The samples at another rate as float32 (soxr HQ); untouched where it is the same."""
    if from_hz == to_hz:
        return sound
    out: NDArray[np.float32] = soxr.resample(as_float(sound), from_hz, to_hz, quality="HQ")
    return out
