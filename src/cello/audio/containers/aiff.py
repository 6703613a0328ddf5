"""Check AIFF and AIFF-C files."""

from __future__ import annotations

import struct
from typing import NamedTuple

from cello.audio.containers.chunks import Chunk, chunks, chunks_end
from cello.audio.containers.sizes import never_written, no_samples, sample_bytes, too_many, truncated
from cello.audio.containers.source import Layout, Region, Segment, Source
from cello.errors import ClipError

_COMM_BYTES = 4096
_SSND_HEAD = 8
_PLAIN = {b"NONE", b"twos", b"sowt", b"raw ", b"in24", b"in32", b"42ni", b"23ni"}
_WIDTHS = {b"fl32": 4, b"FL32": 4, b"fl64": 8, b"FL64": 8, b"ulaw": 1, b"ULAW": 1, b"alaw": 1, b"ALAW": 1}


class _Common(NamedTuple):
    """The COMM chunk: how samples are written, and how many there are."""

    body: bytes
    channels: int
    frames: int
    frame_bytes: int | None


def is_aiff(head: bytes) -> bool:
    """Whether a file begins as AIFF or AIFF-C does."""
    return head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC")


def check(source: Source) -> Layout:
    """Raises ClipError when the file is cut, mis-sized, or its two counts of samples differ."""
    common, sound, regular = _header(source)
    start = sound.offset + _SSND_HEAD + int.from_bytes(source.read(4, sound.offset), "big")
    promised = max(0, sound.end - start)
    outer = int.from_bytes(source.read(4, 4), "big")
    size = sample_bytes(
        source,
        start,
        promised,
        whole=0 <= source.size - (outer + 8) <= 1,
        chunks_end=lambda _: chunks_end(source, sound, "big"),
    )
    if common.frame_bytes is None:
        return Layout("AIFF", None, () if regular and size == promised else _repaired(source, common, start, size, 0))
    frames = size // common.frame_bytes
    regular = regular and size == promised and common.frames == frames
    _check_count(common, size)
    return Layout("AIFF", frames, () if regular else _repaired(source, common, start, size, frames))


def _header(source: Source) -> tuple[_Common, Chunk, bool]:
    common, sound, regular, expected, end = None, None, True, 12, 12
    for chunk in chunks(source, 12, "big"):
        regular = regular and chunk.offset - 8 == expected
        expected, end = chunk.end + chunk.size % 2, chunk.end
        if chunk.kind == b"COMM" and common is None:
            common = _common(source.read(min(chunk.size, _COMM_BYTES), chunk.offset), source.read(4, 8) == b"AIFC")
        elif chunk.kind == b"SSND" and sound is None:
            sound = chunk
        if common and sound:
            return common, sound, regular
    raise no_samples(source, "AIFF", int.from_bytes(source.read(4, 4), "big") + 8, end)


def _common(body: bytes, compressed: bool) -> _Common:
    if len(body) < 18:
        raise ClipError("not audio: its COMM chunk is too short")
    channels, frames, bits = struct.unpack(">HIH", body[:8])
    if not channels:
        raise ClipError("not audio: the header says 0 channels")
    kind = body[18:22] if compressed else b"NONE"
    width = -(-bits // 8) if kind in _PLAIN else _WIDTHS.get(kind)
    return _Common(body, channels, frames, channels * width if width else None)


def _check_count(common: _Common, size: int) -> None:
    assert common.frame_bytes is not None
    told = common.frames * common.frame_bytes
    if common.frames == 0 or never_written(common.frames, size) or never_written(told, size):
        return
    if too_many(told - size, size):
        raise truncated(told, size)
    if too_many(size - told, told):
        raise ClipError(
            f"mis-sized: its COMM chunk declares {common.frames} samples, its sound chunk holds "
            f"{size // common.frame_bytes}; convert it to WAV or FLAC again"
        )


def _repaired(source: Source, common: _Common, start: int, size: int, frames: int) -> tuple[Segment, ...]:
    """A canonical file with the same format and samples."""
    body = common.body if frames == 0 else common.body[:2] + frames.to_bytes(4, "big") + common.body[6:]
    comm = b"COMM" + len(body).to_bytes(4, "big") + body + bytes(len(body) % 2)
    ssnd = b"SSND" + (size + _SSND_HEAD).to_bytes(4, "big") + bytes(_SSND_HEAD)
    inner = source.read(4, 8) + comm + ssnd
    start_bytes = b"FORM" + ((len(inner) + size + size % 2) & 0xFFFFFFFF).to_bytes(4, "big") + inner
    return (start_bytes, Region(start, size), bytes(size % 2))
