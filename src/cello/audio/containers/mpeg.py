"""Check that MP3 files have as many frames as their header declares."""

from __future__ import annotations

from typing import NamedTuple

from cello.audio.containers.sizes import too_many, truncated, unexplained
from cello.audio.containers.source import Layout, Source
from cello.errors import ClipError

_BITRATES = {  # (MPEG-1?, layer) → kbit/s
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_FRAME_BYTES = 1441  # the longest there is
_ID3V1_BYTES = 128
_PADDING_FRAMES = 8  # before and behind the sound at most, which the header tells to leave out
_SLIP_FRAMES = 1  # some encoders count the frame that holds the count


class _Walk(NamedTuple):
    """Whole frames found one after another, and whether they, or a cut one, reach to the end of the file."""

    frames: int
    reached: bool


def is_mpeg(head: bytes) -> bool:
    """Whether a file begins with the header of an MPEG frame."""
    return _frame_bytes(head) > 0


def check(source: Source) -> Layout:
    """Raises ClipError when the file is cut, holds more than its header says, or does not say how much it holds."""
    first = source.read(_FRAME_BYTES, 0)
    promised = _promised(first)
    if promised is None:  # libsndfile guesses a length and leaves out what is beyond
        raise ClipError("of unknown length: an MP3 without a Xing, Info or VBRI header; convert it to FLAC or WAV")
    walk = _walk(source)
    found = walk.frames - 1
    if found < promised - _SLIP_FRAMES and walk.reached:
        raise truncated(promised, found, "MPEG frames")
    if found > promised + _SLIP_FRAMES:
        raise ClipError(
            f"mis-sized: the header declares {promised} MPEG frames, the file holds {found} (several files in one?); "
            f"convert it to FLAC or WAV"
        )
    return Layout("MP3", max(0, found - _PADDING_FRAMES) * (1152 if _is_mpeg1(first) else 576))


def _promised(first: bytes) -> int | None:
    """How many frames follow the first one, if it says so, in the place where libmpg123 looks for it."""
    if _layer(first) == 3:
        mono, mpeg1 = first[3] >> 6 == 3, _is_mpeg1(first)
        at = 4 + ((17 if mono else 32) if mpeg1 else (9 if mono else 17))
        counted = len(first) >= at + 12 and first[at + 7] & 1 and not any(first[6:at])
        if counted and first[at : at + 4] in (b"Xing", b"Info"):
            return int.from_bytes(first[at + 8 : at + 12], "big")
    if first[36:40] == b"VBRI" and len(first) >= 54:
        return int.from_bytes(first[50:54], "big")
    return None


def _walk(source: Source) -> _Walk:
    at, end = 0, source.size - _ID3V1_BYTES
    end = end if end > 0 and source.read(3, end) == b"TAG" else source.size
    kind, frames = source.read(2, at)[1:], 0
    while at + 4 <= end:
        head = source.read(4, at)
        size = _frame_bytes(head)
        if not size or head[1:2] != kind:
            break
        if at + size > end:
            return _Walk(frames, True)
        frames += 1
        at += size
    return _Walk(frames, not too_many(unexplained(source, at, at), at))


def _frame_bytes(head: bytes) -> int:
    """The length of a frame by its header; 0 for what is none, or of free format."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer = head[1] >> 3 & 3, _layer(head)
    rate, speed, padding = head[2] >> 2 & 3, head[2] >> 4, head[2] >> 1 & 1
    if version == 1 or layer == 4 or rate == 3 or speed in (0, 15):
        return 0
    bits = 1000 * _BITRATES[version == 3, layer][speed]
    rate_hz = _RATES_HZ[version][rate]
    if layer == 1:
        return (12 * bits // rate_hz + padding) * 4
    return (72 if layer == 3 and version != 3 else 144) * bits // rate_hz + padding


def _layer(head: bytes) -> int:
    return 4 - (head[1] >> 1 & 3)


def _is_mpeg1(head: bytes) -> bool:
    return head[1] >> 3 & 3 == 3
