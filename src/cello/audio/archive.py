"""Unpack archives without trusting them."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, cast

from cello.audio.progress import Progress, paced
from cello.audio.staging import locked, staged
from cello.audio.tar import Member, TarError, TarReader
from cello.errors import CorpusError

MOST_ENTRIES = 1_000_000
"""Files and folders of one archive: nine times what the largest known corpus has."""
MOST_FOLDERS_DEEP = 64

_DAMAGED = (TarError, EOFError, zlib.error, lzma.LZMAError)
_XZ_MEMORY = 1 << 29
_RAW_BLOCK = 1 << 16
_OTHERS = {
    b"PK\x03\x04": "a ZIP archive",
    b"PK\x05\x06": "an empty ZIP archive",
    b"PK\x07\x08": "a ZIP archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"\x04\x22\x4d\x18": "an LZ4 archive",
    b"LZIP": "an lzip archive",
    b"\x1f\x9d": "a compress archive",
    b"\x5d\x00\x00": "an LZMA archive",
    b"MSCF": "a cabinet archive",
    b"hsqs": "a SquashFS image",
}
_POINTER = b"version https://git-lfs"


def extract(archive: Path, into: Path, *, max_bytes: int, progress: Progress | None = None) -> None:
    """Unpack a tar archive (plain, gzip, bzip2 or xz) as the folder ``into``, which appears only when it is complete.

    Only folders and regular files below ``into`` are accepted, and are made with this user's own permissions; headers
    and contents together may not exceed ``max_bytes``. An ``into`` that is there already is left as it is.

    Raises:
        CorpusError: the archive cannot be read, is damaged or too large, or holds anything else; nothing of it is kept.
    """
    with locked(into):
        if into.exists():
            return
        with staged(into) as folder, _opened(archive) as raw:
            bounded = _Bounded(_decompressed(raw, archive), archive, max_bytes)
            step = paced(progress, f"unpacking {archive.name}", archive.stat().st_size)
            placed = _Placed(archive, folder)
            try:
                # A stream, so that whatever the archive says of itself, no more than the bound is ever read.
                tar = TarReader(bounded.read)
                for member in tar:
                    placed.put(member, tar)
                    step(raw.tell())
            except _DAMAGED as error:
                raise CorpusError(
                    f"{archive} is not a complete tar archive ({error}); nothing was unpacked. "
                    f"Delete it and download it again"
                ) from None


class _Bounded:
    """A decompressed stream that raises beyond a number of bytes."""

    def __init__(self, stream: IO[bytes], archive: Path, max_bytes: int) -> None:
        self.stream = stream
        self.archive = archive
        self.max_bytes = max_bytes
        self.done = 0

    def read(self, size: int) -> bytes:
        try:
            chunk = self.stream.read(min(size, self.max_bytes + 1 - self.done))
        except OSError as error:
            raise TarError(str(error)) from None
        self.done += len(chunk)
        if self.done > self.max_bytes:
            raise CorpusError(
                f"{self.archive} unpacks to more than the {self.max_bytes:,} bytes allowed, so nothing was "
                f"unpacked. If you trust it, unpack it yourself and give the folder as the corpus"
            )
        return chunk


class _Xz:
    """An xz stream with bounded decoder memory."""

    def __init__(self, raw: IO[bytes]) -> None:
        self.raw = raw
        self.decoder = self._decoder()

    def _decoder(self) -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    def read(self, size: int) -> bytes:
        while True:
            fresh = b""
            if self.decoder.eof:  # another stream may follow, after padding of zeros
                fresh = (self.decoder.unused_data or self.raw.read(_RAW_BLOCK)).lstrip(b"\0")
                if not fresh and not self.raw.peek(1):  # type: ignore[attr-defined]
                    return b""
                self.decoder = self._decoder()
            elif self.decoder.needs_input:
                fresh = self.raw.read(_RAW_BLOCK)
                if not fresh:
                    raise EOFError("compressed file ended before its end mark")
            if chunk := self.decoder.decompress(fresh, size):
                return chunk


class _Placed:
    """Writes members below a folder, and counts files and folders."""

    def __init__(self, archive: Path, folder: Path) -> None:
        self.archive = archive
        self.folder = folder
        self.entries = 0
        self.folders = {folder}

    def put(self, member: Member, tar: TarReader) -> None:
        """Write one member, or reject the archive."""
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts:
            raise self._hostile(member, "a path outside the folder it is unpacked to")
        if member.refused:
            raise self._hostile(member, member.refused)
        if not path.parts and not member.is_folder:
            raise self._hostile(member, "a file without a name")
        if len(path.parts) > MOST_FOLDERS_DEEP:
            raise self._hostile(member, f"a path of {len(path.parts)} folders")
        target = self.folder / path
        try:
            self._make(target if member.is_folder else target.parent)
            if not member.is_folder:
                self._count()
                with target.open("wb") as file:
                    file.writelines(tar.chunks())
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise CorpusError(
                f"cannot unpack {_shown(member)} of {self.archive} into {self.folder.parent}: {reason}; "
                f"nothing was unpacked"
            ) from None

    def _make(self, folder: Path) -> None:
        """Make a folder and those above it, each counted."""
        missing = []
        while folder not in self.folders:
            missing.append(folder)
            folder = folder.parent
        for each in reversed(missing):
            self._count()
            each.mkdir(exist_ok=True)
            self.folders.add(each)

    def _count(self) -> None:
        self.entries += 1
        if self.entries > MOST_ENTRIES:
            raise CorpusError(
                f"{self.archive} holds more than {MOST_ENTRIES:,} files and folders; nothing was unpacked. "
                f"If you trust it, unpack it yourself and give the folder as the corpus"
            )

    def _hostile(self, member: Member, what: str) -> CorpusError:
        return CorpusError(
            f"{self.archive} holds {_shown(member)}, which is {what}; only folders and regular files are allowed, so "
            f"nothing was unpacked. Download the archive again from its publisher"
        )


def _shown(member: Member) -> str:
    name = member.name
    return repr(name if len(name) <= 200 else f"{name[:100]}…{name[-50:]}")


def _opened(archive: Path) -> IO[bytes]:
    try:
        if not archive.is_file() and archive.exists():  # opening a pipe would wait for its other end
            raise CorpusError(f"the archive {archive} is not a regular file; give a tar archive or an unpacked folder")
        return archive.open("rb")
    except OSError as error:
        raise CorpusError(f"cannot read the archive {archive}: {error.strerror}; check the path") from None


def _decompressed(raw: IO[bytes], archive: Path) -> IO[bytes]:
    """The stream behind the compression that the first bytes tell of.

    Raises:
        CorpusError: they tell of something else that people pack corpora in.
    """
    start = raw.read(64)
    raw.seek(0)
    if start.startswith(_POINTER):
        raise CorpusError(f"{archive} is a Git LFS pointer, not the archive itself; run git lfs pull")
    for magic, what in _OTHERS.items():
        if start.startswith(magic):
            raise CorpusError(f"{archive} is {what}; unpack it and give its folder")
    if start.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.open(raw))
    if start.startswith(b"BZh"):
        return cast("IO[bytes]", bz2.open(raw))
    if start.startswith(b"\xfd7zXZ"):
        return cast("IO[bytes]", _Xz(raw))
    return raw
