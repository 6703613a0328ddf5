"""Decide how many bytes of samples a file has when its header and its length disagree."""

from __future__ import annotations

from collections.abc import Callable

from cello.audio.containers.source import Source
from cello.errors import ClipError

# what recorders and pipes leave in a header whose sizes they never come back to write: SoX AIFF, SoX WAV, speech
# synthesisers, arecord, ffmpeg; some subtract the header's own length
_NEVER_WRITTEN = (0x7F000000, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_NEAR = 4096
_NEVER_WRITTEN_64 = 1 << 62
_TWO_GIB = 1 << 31
_SMALL = 64  # a file this many times smaller than the 2 GiB it promises was never so large
_PLAIN_HEADER_BYTES = 64  # writers that count their own header among the samples write no longer one
_SLIP_BYTES = 512  # samples left over that nobody misses: a header that forgot to count itself, a wrong rounding
_SLIP_SHARE = 50
_BLOCK_BYTES = 1 << 20
_TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN")


def sample_bytes(
    source: Source,
    offset: int,
    promised: int,
    *,
    bits: int = 32,
    whole: bool = False,
    chunks_end: Callable[[int], int] | None = None,
) -> int:
    """The number of bytes of samples from ``offset``.

    ``promised`` is what the header says, in a field of so many ``bits``; ``whole`` that the header's size of the whole
    file is the file's; ``chunks_end`` follows chunks behind the samples and says where they end.

    Raises:
        ClipError: the file is cut, or most of it lies beyond what the header tells of.
    """
    held = max(0, source.size - offset)
    if promised > held:
        over = promised - held
        if never_written(promised, held, bits) or over == offset <= _PLAIN_HEADER_BYTES or (whole and over <= offset):
            return held
        raise truncated(promised, held)
    end = offset + promised
    extra = unexplained(source, chunks_end(end) if chunks_end else end, promised)
    if extra and (promised == 0 or never_written(promised, held, bits)):
        return held
    if too_many(extra, promised):
        raise ClipError(
            f"mis-sized: the header declares {promised} bytes of samples, {extra} more follow (was its size never "
            f"written?); convert it to WAV or FLAC again"
        )
    return promised


def never_written(promised: int, held: int, bits: int = 32) -> bool:
    """Whether a size is a placeholder that the writer never replaced.

    >>> never_written(0xFFFFFFFF - 36, 16000), never_written(32000, 16000)
    (True, False)
    """
    if bits == 64 and promised >= _NEVER_WRITTEN_64:
        return True
    if any(abs(promised - size) <= _NEAR for size in _NEVER_WRITTEN):
        return True
    return bits == 32 and promised >= _TWO_GIB - (1 << 24) and held < promised // _SMALL


def truncated(promised: int, held: int, what: str = "bytes of samples") -> ClipError:
    """The error for a truncated file, with both sizes."""
    return ClipError(f"truncated: the header declares {promised} {what}, the file holds {held}")


def no_samples(source: Source, container: str, promised: int, end: int) -> ClipError:
    """Why a header leads to no samples: ``promised`` is its size of the whole file, ``end`` how far its chunks lead."""
    if promised > source.size and end >= source.size and not never_written(promised, source.size):
        return ClipError(
            f"truncated: a {container} header without samples "
            f"(it declares {promised} bytes, the file holds {source.size})"
        )
    return ClipError(
        f"not audio: no data chunk found in its {container} header (a chunk before it has a wrong length?); "
        f"convert it again"
    )


def too_many(extra: int, known: int) -> bool:
    """Whether unexplained bytes are too many to be padding, so that they may be audio."""
    return extra > max(_SLIP_BYTES, known // _SLIP_SHARE)


def unexplained(source: Source, start: int, known: int) -> int:
    """How many bytes from ``start`` to the end of the file are neither tags nor padding behind ``known`` bytes."""
    rest = source.size - start
    if rest <= 0 or source.read(11, start).startswith(_TAGS):
        return 0
    return 0 if rest <= known and _zero(source, start) else rest


def _zero(source: Source, start: int) -> bool:
    blocks = (source.read(_BLOCK_BYTES, offset) for offset in range(start, source.size, _BLOCK_BYTES))
    return all(block.count(0) == len(block) for block in blocks)
