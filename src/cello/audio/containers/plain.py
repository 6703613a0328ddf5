"""Check containers with one short header: AU, Wave64, CAF, NIST SPHERE and VOC.

libsndfile takes what stands behind the samples of most of these for samples too, so it is not shown that.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from cello.audio.containers.riff import parse_format
from cello.audio.containers.sizes import no_samples, sample_bytes, truncated
from cello.audio.containers.source import Layout, Source
from cello.errors import ClipError

_MOST_CHUNKS = 1 << 16

_AU_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}
_AU_UNKNOWN = 0xFFFFFFFF  # what the format itself calls a size that is not known

_W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_W64_TAILS = (bytes.fromhex("00c04f8edb8a"), bytes.fromhex("28db04c10000"))  # of every chunk's GUID
_W64_SOUND = (b"riff", b"data")
_W64_HEAD = 24

_CAF_HEAD = 12
_CAF_EDIT_COUNT = 4

_NIST_LINE = 16
_NIST_MOST = 1 << 16

_VOC_MAGIC = b"Creative Voice File\x1a"
_VOC_UNKNOWN = (0, 0xFFFFFF)
_VOC_END, _VOC_SOUND, _VOC_MORE, _VOC_SILENCE, _VOC_STEREO, _VOC_SOUND_16 = 0, 1, 2, 3, 8, 9


def is_au(head: bytes) -> bool:
    """Whether a file begins as AU, of either byte order, does."""
    return head[:4] in (b".snd", b"dns.")


def is_w64(head: bytes) -> bool:
    """Whether a file begins as Wave64 does."""
    return head[:16] == _W64_RIFF


def is_caf(head: bytes) -> bool:
    """Whether a file begins as CAF does."""
    return head[:4] == b"caff"


def is_nist(head: bytes) -> bool:
    """Whether a file begins as NIST SPHERE does."""
    return head[:7] == b"NIST_1A"


def is_voc(head: bytes) -> bool:
    """Whether a file begins as VOC does."""
    return head[:20] == _VOC_MAGIC


def is_sds(head: bytes) -> bool:
    """Whether a file begins as a MIDI sample dump does."""
    return head[:2] == b"\xf0\x7e" and head[3:4] == b"\x01"


def refuse_sds(source: Source) -> Layout:
    """Raises ClipError: libsndfile prints what it finds wrong in one."""
    raise ClipError("a MIDI sample dump, not a recording: convert it to WAV or FLAC")


def check_au(source: Source) -> Layout:
    """Raises ClipError when the file is cut or mis-sized."""
    head = source.read(24, 0)
    mark = ">" if head[:4] == b".snd" else "<"
    if len(head) < 24:
        raise truncated(24, len(head), "bytes of header")
    offset, promised, encoding, _, channels = struct.unpack(f"{mark}5I", head[4:])
    if not channels:
        raise ClipError("not audio: the header says 0 channels")
    size = sample_bytes(source, offset, promised)
    width = _AU_WIDTHS.get(encoding)
    frames = size // (width * channels) if width else None
    as_written = promised in (size, _AU_UNKNOWN) and source.size == offset + size
    patch = (8, struct.pack(f"{mark}I", min(size, _AU_UNKNOWN)))
    return Layout("AU", frames, () if as_written else source.patched(patch, end=offset + size))


def check_w64(source: Source) -> Layout:
    """Raises ClipError when the file is cut or mis-sized."""
    fmt, at = b"", 40
    for _ in range(_MOST_CHUNKS):
        head = source.read(_W64_HEAD, at)
        if len(head) < _W64_HEAD:
            break
        size = int.from_bytes(head[16:], "little") - _W64_HEAD
        if head[:4] == b"fmt ":
            fmt = source.read(min(max(size, 0), 64), at + _W64_HEAD)
        elif head[:4] == b"data":
            return _w64_samples(source, at, size, fmt)
        if size < 0:
            break
        at += _W64_HEAD + -(-size // 8) * 8
    raise no_samples(source, "W64", int.from_bytes(source.read(8, 16), "little"), at)


def _w64_samples(source: Source, at: int, promised: int, fmt: bytes) -> Layout:
    offset = at + _W64_HEAD
    form = parse_format(fmt, "little")

    def chunks_end(samples_end: int) -> int:
        start = end = -(-samples_end // 8) * 8
        for _ in range(_MOST_CHUNKS):
            head = source.read(_W64_HEAD, end)
            size = int.from_bytes(head[16:], "little")
            if head[:4] in _W64_SOUND or head[10:16] not in _W64_TAILS or not _W64_HEAD <= size <= source.size - end:
                break
            end += -(-size // 8) * 8
        return min(end, source.size) if end > start else samples_end

    size = sample_bytes(source, offset, max(promised, 0), bits=64, chunks_end=chunks_end)
    patch = (at + 16, (size + _W64_HEAD).to_bytes(8, "little"))
    as_written = size == promised and source.size == offset + size
    return Layout("W64", form.frames(size), () if as_written else source.patched(patch, end=offset + size))


def check_caf(source: Source) -> Layout:
    """Raises ClipError when the file is cut or mis-sized."""
    description, at = b"", 8
    for _ in range(_MOST_CHUNKS):
        head = source.read(_CAF_HEAD, at)
        if len(head) < _CAF_HEAD:
            break
        size = int.from_bytes(head[4:], "big")
        if head[:4] == b"desc":
            description = source.read(32, at + _CAF_HEAD)
        elif head[:4] == b"data" and len(description) == 32:
            return _caf_samples(source, at, size, description)
        at += _CAF_HEAD + size
    raise no_samples(source, "CAF", at, at)


def _caf_samples(source: Source, at: int, promised: int, description: bytes) -> Layout:
    packet_bytes, packet_frames = struct.unpack(">II", description[16:24])
    offset = at + _CAF_HEAD + _CAF_EDIT_COUNT

    def chunks_end(end: int) -> int:
        for _ in range(_MOST_CHUNKS):
            head = source.read(_CAF_HEAD, end)
            following = end + _CAF_HEAD + int.from_bytes(head[4:], "big")
            if len(head) < _CAF_HEAD or following > source.size or not (head[:4].isascii() and any(head[:4])):
                break
            end = following
        return end

    told = max(0, promised - _CAF_EDIT_COUNT)
    size = sample_bytes(source, offset, told, bits=64, chunks_end=chunks_end)
    frames = size // packet_bytes * packet_frames if packet_bytes else None
    patch = (at + 4, (size + _CAF_EDIT_COUNT).to_bytes(8, "big"))
    return Layout("CAF", frames, () if size == told else source.patched(patch))


def check_nist(source: Source) -> Layout:
    """Raises ClipError when the file is cut, mis-sized or compressed."""
    header = _nist_header(source)
    coding = header.fields.get("sample_coding", "pcm")
    if "," in coding:  # pcm,embedded-shorten-v2.00
        raise ClipError(f"a SPHERE file compressed as {coding[:40]!r}: convert it to WAV or FLAC (sph2pipe does)")
    channels, width = header.number("channel_count", 1), header.number("sample_n_bytes", 1 if "law" in coding else 2)
    frame_bytes = channels * width
    if frame_bytes < 1:
        raise ClipError(f"not audio: the header says {channels} channels of {width} bytes")
    count = header.number("sample_count", 0)
    promised = 0 if count < 0 else count * frame_bytes
    size = sample_bytes(source, header.size, promised)
    end = header.size + size
    return Layout("SPHERE", size // frame_bytes, () if end == source.size else source.patched(end=end))


class _Sphere(NamedTuple):
    """A SPHERE header: its length in bytes and its fields as text."""

    size: int
    fields: dict[str, str]

    def number(self, name: str, default: int) -> int:
        text = self.fields.get(name, str(default))
        try:
            return int(text)
        except ValueError:
            raise ClipError(f"not audio: its SPHERE header says {name} {text[:20]!r}") from None


def _nist_header(source: Source) -> _Sphere:
    digits = source.read(_NIST_LINE, 0)[8:].strip()
    size = int(digits) if digits.isdigit() else 0
    if not _NIST_LINE < size <= _NIST_MOST:
        raise ClipError("not audio: its SPHERE header has no length")
    text = source.read(size, 0)
    if len(text) < size:
        raise truncated(size, len(text), "bytes of header")
    lines = (line.split(None, 2) for line in text.decode("latin-1").split("end_head")[0].splitlines()[2:])
    return _Sphere(size, {line[0]: line[2].strip() for line in lines if len(line) == 3})


def check_voc(source: Source) -> Layout:
    """Raises ClipError when the file is cut, mis-sized, or holds more than one segment of sound."""
    at = int.from_bytes(source.read(2, 20), "little")
    for _ in range(_MOST_CHUNKS):
        head = source.read(4, at)
        if not head or head[0] == _VOC_END or len(head) < 4:
            break
        size = int.from_bytes(head[1:], "little")
        if head[0] in (_VOC_SOUND, _VOC_SOUND_16):
            return _voc_samples(source, at, size)
        at += 4 + size
    raise no_samples(source, "VOC", at, at)


def _voc_samples(source: Source, at: int, size: int) -> Layout:
    """libsndfile reads a file of one block of sound, so that is all that is accepted."""
    block = source.read(16, at)
    head = 12 if block[0] == _VOC_SOUND_16 else 2
    offset = at + 4 + head
    told = 1 << 62 if size in _VOC_UNKNOWN else max(0, size - head)
    promised = sample_bytes(source, offset, told, bits=64, chunks_end=lambda end: _voc_end(source, end))
    if told != promised and source.read(1, source.size - 1) == b"\0":
        promised -= 1  # the mark of the end
    end = offset + promised
    patch = (at + 1, (promised + head & 0xFFFFFF).to_bytes(3, "little"))
    as_written = told == promised and source.size - end <= 1
    segments = () if as_written else (*source.patched(patch, end=end), b"\0")
    frame_bytes = block[8] // 8 * block[9] if block[0] == _VOC_SOUND_16 and len(block) >= 10 else 0
    return Layout("VOC", promised // frame_bytes if frame_bytes else None, segments)


def _voc_end(source: Source, at: int) -> int:
    """Where blocks behind the first one end."""
    for _ in range(_MOST_CHUNKS):
        head = source.read(4, at)
        if len(head) < 4 or head[0] == _VOC_END:
            return min(source.size, at + 1)
        if head[0] in (_VOC_SOUND, _VOC_MORE, _VOC_SILENCE, _VOC_SOUND_16):
            raise ClipError("a VOC file of several blocks of sound; convert it to WAV or FLAC")
        following = at + 4 + int.from_bytes(head[1:], "little")
        if head[0] > _VOC_SOUND_16 or following > source.size:
            return at
        at = following
    return at
