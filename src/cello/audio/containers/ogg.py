"""Check that Ogg files (Vorbis, Opus) are complete and match their checksums."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

from cello.audio.containers.sizes import too_many, unexplained
from cello.audio.containers.source import Layout, Source
from cello.errors import ClipError

_CAPTURE = b"OggS"
_HEAD_BYTES = 27
_FLAGS_AT, _CRC_AT = 5, 22
_FIRST, _LAST = 2, 4
_NO_SAMPLES = (0, (1 << 64) - 1)
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass
class _Streams:
    """What the pages so far said: each stream's last sequence number, whether any had sound, and the last page."""

    last: dict[int, int] = field(default_factory=dict)
    sound: bool = False
    page: bytes = b""


def is_ogg(head: bytes) -> bool:
    """Whether a file begins with an Ogg page."""
    return head[:4] == _CAPTURE


def check(source: Source) -> Layout:
    """Check all pages; a missing end mark is accepted and added for libsndfile, as many recorders omit it.

    Raises:
        ClipError: the last page is cut, a page is missing or damaged, or another stream follows, which libsndfile would
            leave out.
    """
    at, streams = 0, _Streams()
    while at < source.size:
        head = source.read(_HEAD_BYTES + 255, at)
        if not head.startswith(_CAPTURE) and not _CAPTURE.startswith(head):
            _check_rest(source, at)
            break
        at += _check_page(source, at, head, streams)
    if streams.page[_FLAGS_AT] & _LAST:
        return Layout("OGG", segments=() if at == source.size else source.patched(end=at))
    patch = (at - len(streams.page), _marked_last(streams.page)[: _CRC_AT + 4])
    return Layout("OGG", segments=source.patched(patch, end=at))


def _check_page(source: Source, at: int, head: bytes, streams: _Streams) -> int:
    """Raises ClipError for a page that is cut, damaged or out of order; its length otherwise."""
    segments = head[26] if len(head) > 26 else 0
    size = _HEAD_BYTES + segments + sum(head[_HEAD_BYTES : _HEAD_BYTES + segments])
    if at + size > source.size:
        raise ClipError(f"truncated: its last Ogg page declares {size} bytes, the file holds {source.size - at}")
    page = source.read(size, at)
    if page_crc(page) != int.from_bytes(page[_CRC_AT : _CRC_AT + 4], "little"):
        raise ClipError(f"damaged: the checksum of the Ogg page at byte {at} does not match")
    serial, sequence = int.from_bytes(page[14:18], "little"), int.from_bytes(page[18:22], "little")
    if page[_FLAGS_AT] & _FIRST:
        if streams.sound:
            raise ClipError("several Ogg streams one after another; convert it to WAV or FLAC")
    elif streams.sound and serial in streams.last and sequence != streams.last[serial] + 1:
        raise ClipError(f"damaged: an Ogg page before byte {at} is missing")
    streams.last[serial] = sequence
    streams.sound = streams.sound or int.from_bytes(page[6:14], "little") not in _NO_SAMPLES
    streams.page = page
    return size


def _marked_last(page: bytes) -> bytes:
    marked = page[:_FLAGS_AT] + bytes([page[_FLAGS_AT] | _LAST]) + page[_FLAGS_AT + 1 :]
    return marked[:_CRC_AT] + page_crc(marked).to_bytes(4, "little") + marked[_CRC_AT + 4 :]


def page_crc(page: bytes) -> int:
    """The checksum of an Ogg page: CRC-32 with the bits the other way round, its own field taken as zero.

    >>> hex(page_crc(bytes(22) + b"any" + bytes(2)))
    '0x0'
    """
    zeroed = page[:_CRC_AT] + bytes(4) + page[_CRC_AT + 4 :]
    register = zlib.crc32(zeroed.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{register:032b}"[::-1], 2)


def _check_rest(source: Source, at: int) -> None:
    if at and not too_many(unexplained(source, at, at), at):
        return
    raise ClipError(f"damaged: {source.size - at} bytes from byte {at} on are no Ogg page; convert it again")
