"""Archives unpacked without trusting them."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, cast

from cello.audio.progress import Progress, paced
from cello.audio.staging import locked, staged
from cello.errors import CorpusError

_DAMAGED = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError)
_BLOCK = 1 << 16
_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a named pipe",
}


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
            bounded = _Bounded(_decompressed(raw), archive, max_bytes)
            step = paced(progress, f"unpacking {archive.name}", archive.stat().st_size)
            try:
                # A stream, so that whatever the archive says of itself, no more than the bound is ever read.
                with tarfile.open(fileobj=cast("IO[bytes]", bounded), mode="r|") as tar:
                    for member in tar:
                        _place(archive, tar, member, folder)
                        step(raw.tell())
                    bounded.require_end(tar.offset)
            except _DAMAGED as error:
                raise CorpusError(
                    f"{archive} is not a whole tar archive ({error}); nothing of it was kept. "
                    f"Delete it and get it again"
                ) from None


class _Bounded:
    """The decompressed stream of an archive, refused beyond a number of bytes; it knows where its content ends."""

    def __init__(self, stream: IO[bytes], archive: Path, max_bytes: int) -> None:
        self.stream = stream
        self.archive = archive
        self.max_bytes = max_bytes
        self.done = 0
        self.content_end = 0

    def read(self, size: int) -> bytes:
        try:
            piece = self.stream.read(min(size, self.max_bytes + 1 - self.done))
        except OSError as error:
            raise tarfile.ReadError(str(error)) from None
        content = len(piece.rstrip(b"\0"))
        if content:
            self.content_end = self.done + content
        self.done += len(piece)
        if self.done > self.max_bytes:
            raise CorpusError(
                f"{self.archive} unpacks to more than the {self.max_bytes:,} bytes it may hold; nothing of it was "
                f"kept. If you trust it, unpack it yourself and name the folder as the corpus"
            )
        return piece

    def require_end(self, offset: int) -> None:
        """Raises ReadError unless the archive's end mark, a block of zeros, stands at ``offset`` and nothing after it.

        :mod:`tarfile` takes a damaged header in the middle for the end.
        """
        while self.read(_BLOCK):
            pass
        if self.content_end > offset:
            raise tarfile.ReadError(f"damaged header at byte {offset:,}")
        if self.done < offset + tarfile.BLOCKSIZE:
            raise tarfile.ReadError("its end is missing")


def _opened(archive: Path) -> IO[bytes]:
    try:
        return archive.open("rb")
    except OSError as error:
        raise CorpusError(f"cannot read the archive {archive}: {error.strerror}; check the path") from None


def _decompressed(raw: IO[bytes]) -> IO[bytes]:
    """The stream behind the compression that the first bytes tell of."""
    start = raw.read(6)
    raw.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.open(raw))
    if start.startswith(b"BZh"):
        return cast("IO[bytes]", bz2.open(raw))
    if start.startswith(b"\xfd7zXZ"):
        return cast("IO[bytes]", lzma.open(raw))
    return raw


def _place(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Put one member where it belongs below ``folder``, or refuse the archive for its sake."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise _hostile(archive, member, "a path outside the folder it is unpacked to")
    if not (member.isdir() or member.isreg()):
        raise _hostile(archive, member, _KINDS.get(member.type, f"a member of kind {member.type!r}"))
    target = folder / path
    try:
        if member.isdir():
            target.mkdir(parents=True, exist_ok=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        source = tar.extractfile(member)
        with target.open("wb") as file:
            if source is not None:
                shutil.copyfileobj(source, file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CorpusError(
            f"cannot unpack {member.name!r} of {archive} below {folder.parent}: {reason}; nothing of it was kept"
        ) from None


def _hostile(archive: Path, member: tarfile.TarInfo, what: str) -> CorpusError:
    return CorpusError(
        f"{archive} holds {member.name!r}, which is {what}; a corpus has only folders and regular files, so nothing of "
        f"it was kept. Do not use this archive: get it again from its publisher"
    )
