"""Read an audio file by position; give libsndfile a repaired header without copying samples."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Region(NamedTuple):
    """Bytes of the file, by position."""

    offset: int
    size: int


Segment = bytes | Region


class Pcm16(NamedTuple):
    """16-bit little-endian samples that need no library: where they lie and how."""

    region: Region
    channels: int
    rate_hz: int


@dataclass(frozen=True)
class Layout:
    """How a file whose header was checked is to be read.

    ``frames`` is how many samples a channel it must give, None where only decoding tells; ``segments``, where there are
    any, are the file as libsndfile must see it to read it whole; ``md5`` is of all samples as little-endian integers.
    """

    container: str
    frames: int | None = None
    segments: tuple[Segment, ...] = ()
    pcm16: Pcm16 | None = None
    md5: bytes | None = None


class Source:
    """An open regular file from ``start``; reads are positional, so threads may share it."""

    def __init__(self, fd: int, start: int = 0) -> None:
        self.fd = fd
        self.start = start
        self.size = max(0, os.fstat(fd).st_size - start)

    def read(self, count: int, offset: int) -> bytes:
        """Read up to ``count`` bytes, fewer only at the end of the file; for headers."""
        count = min(count, max(0, self.size - offset))
        parts = []
        while count > 0 and (part := os.pread(self.fd, count, self.start + offset)):
            parts.append(part)
            count -= len(part)
            offset += len(part)
        return b"".join(parts)

    def fill(self, buffer: Buffer, offset: int) -> int:
        """Fill a buffer of any size; one system call stops below 2 GiB."""
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view) and (count := os.preadv(self.fd, [view[filled:]], self.start + offset + filled)):
            filled += count
        return filled

    def behind_tags(self) -> Source:
        """The same file without the ID3v2 tags at its start: their size is written in four groups of seven bits."""
        tag = self.read(10, 0)
        if tag[:3] != b"ID3" or len(tag) < 10:
            return self
        size = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
        return self.from_byte(self.start + size).behind_tags() if size < self.size else self

    def from_byte(self, start: int) -> Source:
        """The same file from a later byte."""
        return Source(self.fd, start)

    def patched(self, *patches: tuple[int, bytes], end: int | None = None) -> tuple[Segment, ...]:
        """The file up to ``end`` with some bytes of its header replaced; ``patches`` are sorted by position."""
        segments: list[Segment] = []
        at = 0
        for offset, content in patches:
            segments += [Region(at, offset - at), content]
            at = offset + len(content)
        return (*segments, Region(at, max(0, (self.size if end is None else end) - at)))


class BytesSource(Source):
    """The bytes of a whole file in memory, from ``start``."""

    def __init__(self, content: bytes, start: int = 0) -> None:
        self.content, self.start = content, start
        self.fd = -1
        self.size = max(0, len(content) - start)

    def read(self, count: int, offset: int) -> bytes:
        """Read up to ``count`` bytes, fewer only at the end."""
        at = self.start + offset
        return self.content[at : at + max(0, count)]

    def fill(self, buffer: Buffer, offset: int) -> int:
        """Fill a buffer of any size."""
        view = memoryview(buffer).cast("B")
        part = memoryview(self.content)[self.start + offset :][: len(view)]
        view[: len(part)] = part
        return len(part)

    def from_byte(self, start: int) -> BytesSource:
        """The same bytes from a later one."""
        return BytesSource(self.content, start)


class Segments(io.RawIOBase):
    """A file made of segments, for libsndfile's virtual files.

    libsndfile calls these methods from C, where no exception can pass: one is kept in ``error``.
    """

    def __init__(self, source: Source, segments: Iterable[Segment]) -> None:
        self._source = source
        self._segments: list[tuple[int, int, Segment]] = []
        self._at = self._size = 0
        self.error: OSError | None = None
        for segment in segments:
            size = segment.size if isinstance(segment, Region) else len(segment)
            self._segments.append((self._size, self._size + size, segment))
            self._size += size

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}.get(whence, 0)
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer).cast("B")
        filled = 0
        for start, end, segment in self._segments:
            inside = self._at - start
            count = min(end - self._at, len(view) - filled)
            if inside < 0 or count <= 0:
                continue
            part = view[filled : filled + count]
            if isinstance(segment, Region):
                count = self._fill(part, segment.offset + inside)
            else:
                part[:] = segment[inside : inside + count]
            filled += count
            self._at += count
        return filled

    def _fill(self, part: memoryview, offset: int) -> int:
        try:
            return self._source.fill(part, offset)
        except OSError as error:
            self.error = error
            return 0
