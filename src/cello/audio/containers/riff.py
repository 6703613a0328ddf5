"""Check WAV files: RIFF, RIFX (big-endian), RF64 and BW64 (above 4 GiB)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from cello.audio.containers.chunks import Chunk, Order, chunks, chunks_end
from cello.audio.containers.sizes import no_samples, sample_bytes
from cello.audio.containers.source import Layout, Pcm16, Region, Segment, Source
from cello.errors import ClipError

_ELSEWHERE = 0xFFFFFFFF  # RF64: the size stands in the ds64 chunk
_EXTENSIBLE = 0xFFFE
_PCM, _FLOAT, _ALAW, _ULAW = 1, 3, 6, 7
_MPEG = {0x50: "MPEG audio", 0x55: "MP3"}
_FMT_BYTES = 4096


class Format(NamedTuple):
    """A ``fmt`` chunk: how samples are written."""

    tag: int
    channels: int
    rate_hz: int
    frame_bytes: int
    bits: int

    def frames(self, size: int) -> int | None:
        """How many samples a channel so many bytes are, where that is plain arithmetic."""
        if self.tag not in (_PCM, _FLOAT, _ALAW, _ULAW):
            return None
        width = 1 if self.tag in (_ALAW, _ULAW) else -(-self.bits // 8)
        return size // (self.channels * width) if width else None


class _Header(NamedTuple):
    """What leads to the samples: the raw ``fmt`` body, the ``data`` chunk, and the sizes in ``ds64``."""

    order: Order
    fmt: bytes
    data: Chunk
    sizes_64: tuple[int, int] | None
    regular: bool


def is_wav(head: bytes) -> bool:
    """Whether a file begins as one of the WAV forms does."""
    return head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE"


def check(source: Source) -> Layout:
    """Raises ClipError when the file is cut, mis-sized, or no WAV that can be read."""
    header = _header(source)
    form = parse_format(header.fmt, header.order)
    if form.tag in _MPEG:
        raise ClipError(f"of unknown length: {_MPEG[form.tag]} inside WAV; convert it to FLAC or plain WAV")
    size = _data_bytes(source, header)
    if form.tag == _PCM and form.bits == 16 and header.order == "little":
        region = Region(header.data.offset, size)
        return Layout("WAV", form.frames(size), pcm16=Pcm16(region, form.channels, form.rate_hz))
    as_written = header.regular and size == _promised(header)
    segments = () if as_written else _repaired(header, size)
    return Layout("WAV", form.frames(size), segments)


def parse_format(fmt: bytes, order: Order) -> Format:
    """The fields of a ``fmt`` chunk's body.

    Raises:
        ClipError: it is too short, or names no channel or no rate.
    """
    mark = "<" if order == "little" else ">"
    if len(fmt) < 16:
        raise ClipError("not audio: its format chunk is too short or missing")
    tag, channels, rate_hz, _, frame_bytes, bits = struct.unpack(f"{mark}HHIIHH", fmt[:16])
    if tag == _EXTENSIBLE and len(fmt) >= 26:  # the true format is the start of the sub-format
        (tag,) = struct.unpack(f"{mark}H", fmt[24:26])
    if not (channels and rate_hz):
        raise ClipError(f"not audio: the header says {channels} channels at {rate_hz} Hz")
    return Format(tag, channels, rate_hz, frame_bytes, bits)


def _header(source: Source) -> _Header:
    magic = source.read(4, 0)
    order: Order = "big" if magic == b"RIFX" else "little"
    fmt, sizes_64, regular, expected, last = b"", None, magic != b"BW64", 12, None
    for chunk in chunks(source, 12, order):
        regular = regular and chunk.offset - 8 == expected
        expected = chunk.end + chunk.size % 2
        if chunk.kind == b"fmt ":
            fmt = source.read(min(chunk.size, _FMT_BYTES), chunk.offset)
        elif chunk.kind == b"ds64" and magic in (b"RF64", b"BW64"):
            body = source.read(16, chunk.offset)
            sizes_64 = struct.unpack("<QQ", body) if len(body) == 16 else None
        elif chunk.kind == b"data" and len(fmt) >= 16:
            return _Header(order, fmt, chunk, sizes_64, regular)
        last = chunk
    outer = int.from_bytes(source.read(4, 4), order) + 8
    raise no_samples(source, "WAV", outer, source.size if last is None else last.end)


def _promised(header: _Header) -> int:
    in_64 = header.sizes_64 is not None and header.data.size == _ELSEWHERE
    return header.sizes_64[1] if in_64 and header.sizes_64 else header.data.size


def _data_bytes(source: Source, header: _Header) -> int:
    promised, outer = _promised(header), int.from_bytes(source.read(4, 4), header.order)
    in_64 = header.sizes_64 is not None and header.data.size == _ELSEWHERE
    data = header.data._replace(size=promised)
    if promised == 0 and chunks_end(source, data, header.order) == source.size > data.offset:
        return 0
    return sample_bytes(
        source,
        data.offset,
        promised,
        bits=64 if in_64 else 32,
        whole=0 <= source.size - (outer + 8) <= 1,
        chunks_end=lambda _: chunks_end(source, data, header.order),
    )


def _repaired(header: _Header, size: int) -> tuple[Segment, ...]:
    """A canonical file with the same format and samples: nothing before them can lead libsndfile astray."""
    if len(header.fmt) == 17:  # an odd length would need its own pad byte
        header = header._replace(fmt=header.fmt[:16])
    order = header.order
    samples = Region(header.data.offset, size)
    fmt = b"fmt " + len(header.fmt).to_bytes(4, order) + header.fmt
    inner = 4 + len(fmt) + 8 + size + size % 2
    if inner < _ELSEWHERE:
        magic = b"RIFX" if order == "big" else b"RIFF"
        start = magic + inner.to_bytes(4, order) + b"WAVE" + fmt + b"data" + size.to_bytes(4, order)
    else:
        ds64 = b"ds64" + struct.pack("<IQQQI", 28, inner + 36, size, 0, 0)
        start = b"RF64" + b"\xff" * 4 + b"WAVE" + ds64 + fmt + b"data" + b"\xff" * 4
    return (start, samples, bytes(size % 2))
