"""Check FLAC files, also where the encoder never wrote the number of samples."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from cello.audio.containers.source import Layout, Source
from cello.errors import ClipError

_MAGIC = b"fLaC"
_STREAMINFO_BYTES = 34
_COUNT_AT = 18
_TAIL_BYTES = 1 << 17
_CHECKED_BITS = (8, 16, 24)
_MOST_NUMBER_BYTES = 7
_LEAST_FRAME_BYTES = 9
_ID3V1_BYTES = 128
_MOST_TRIES = 64  # bytes of sound look like a frame's header about once in a thousand frames
_STREAM_START = (_MAGIC + b"\0\0\0\x22", _MAGIC + b"\x80\0\0\x22")
_BLOCK_BYTES = 1 << 20


class StreamInfo(NamedTuple):
    """The first metadata block; ``at`` is where its count of samples lies."""

    at: int
    block: int
    bits: int
    total: int
    md5: bytes


def is_flac(head: bytes) -> bool:
    """Whether a file begins as FLAC does."""
    return head[:4] == _MAGIC


def check(source: Source) -> Layout:
    """Check a FLAC file and return its layout; its samples have an MD5 to verify after decoding.

    Raises:
        ClipError: the header is cut, several streams follow one another, or the count of samples was never written and
            the last frame is cut.
    """
    head = source.read(8 + _STREAMINFO_BYTES, 0)
    if len(head) < 8 + _STREAMINFO_BYTES:
        raise ClipError(f"truncated: a FLAC header without samples, the file holds {source.size} bytes")
    packed = int.from_bytes(head[18:26], "big")
    info = StreamInfo(
        _COUNT_AT, int.from_bytes(head[8:10], "big"), (packed >> 36 & 31) + 1, packed & (1 << 36) - 1, head[26:42]
    )
    _check_single(source)
    md5 = info.md5 if any(info.md5) and info.bits in _CHECKED_BITS else None
    if info.total and md5:
        return Layout("FLAC", info.total, md5=md5)
    counted = _counted(source, info)
    if info.total:  # nothing but the last frame can tell whether this count is too small
        if counted is not None and counted > info.total:
            raise ClipError(
                f"mis-sized: the header declares {info.total} samples, the file holds {counted}; encode it again"
            )
        return Layout("FLAC", info.total)
    if counted is None:
        raise ClipError(
            "truncated: its length was never written (piped?) and its last FLAC frame is not whole; encode it again"
        )
    patched = source.patched((info.at, (packed | counted).to_bytes(8, "big")))
    return Layout("FLAC", counted, patched, md5=md5)


def _check_single(source: Source) -> None:
    """libsndfile reads the first of several streams and says nothing of the others."""
    for offset in range(len(_MAGIC), source.size, _BLOCK_BYTES):
        block = source.read(_BLOCK_BYTES + 8, offset)
        if any(mark in block for mark in _STREAM_START):
            raise ClipError("several FLAC streams one after another; convert it to WAV or FLAC again")


def _counted(source: Source, info: StreamInfo) -> int | None:
    """How many samples there are by the number that the last frame bears; None if no frame ends where the file does."""
    end = source.size - _ID3V1_BYTES
    end = end if end > 0 and source.read(3, end) == b"TAG" else source.size
    first = max(info.at + 8, end - _TAIL_BYTES)
    tail = source.read(max(0, end - first), first)
    at, tries = len(tail) - _LEAST_FRAME_BYTES, 0
    while at >= 0 and tries < _MOST_TRIES and (at := tail.rfind(b"\xff", 0, at + 1)) >= 0:
        following = _frame_end(tail[at : at + 16], info)
        if following is not None:
            tries += 1
            if crc(tail[at:], 0x8005, 16) == 0:
                return following
        at -= 1
    return None


def _frame_end(head: bytes, info: StreamInfo) -> int | None:
    """The number of the sample after a frame with this header; None if it is no header."""
    if len(head) < 6 or head[1] & 0xFE != 0xF8:
        return None
    number_bytes = max(1, next((n for n in range(8) if not head[4] & 0x80 >> n), 8))
    if number_bytes > _MOST_NUMBER_BYTES or head[4] & 0xC0 == 0x80 or len(head) < 4 + number_bytes:
        return None
    number = head[4] if number_bytes == 1 else head[4] & 0x7F >> number_bytes
    for byte in head[5 : 4 + number_bytes]:
        number = number << 6 | byte & 0x3F
    code, at = head[2] >> 4, 4 + number_bytes
    extra = {6: 1, 7: 2}.get(code, 0)
    block = _block(code, head[at : at + extra])
    at += extra + {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    if block is None or crc(head[: at + 1], 0x07, 8) != 0:
        return None
    return number + block if head[1] & 1 else number * info.block + block


def _block(code: int, written: bytes) -> int | None:
    if code in (6, 7):
        return int.from_bytes(written, "big") + 1
    if code == 1:
        return 192
    if 2 <= code <= 5:
        return 576 << code - 2
    return 256 << code - 8 if code >= 8 else None


def crc(content: bytes, polynomial: int, width: int) -> int:
    """A cyclic redundancy check, most significant bit first; zero over content that ends in its own.

    >>> hex(crc(b"123456789", 0x8005, 16)), hex(crc(b"123456789", 0x07, 8))
    ('0xfee8', '0xf4')
    """
    table, mask, register = _table(polynomial, width), (1 << width) - 1, 0
    for byte in content:
        register = (register << 8 ^ table[register >> width - 8 ^ byte]) & mask
    return register


@cache
def _table(polynomial: int, width: int) -> tuple[int, ...]:
    registers = []
    for byte in range(256):
        register = byte << width - 8
        for _ in range(8):
            register = register << 1 ^ (polynomial if register >> width - 1 & 1 else 0)
        registers.append(register & (1 << width) - 1)
    return tuple(registers)
