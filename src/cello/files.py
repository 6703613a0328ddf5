"""Write files whole or not at all, and read back only what is as it was written."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

LARGEST = 1 << 30
"""Bytes that ``read_stored`` reads at most unless told otherwise: far above any file that Cello writes as one piece."""

_JSON_SEAL = b',"crc32":"%08x"}'
_SEAL = b"\ncello crc32 %08x\n"


class DamagedFileError(ValueError):
    """A file that is not as it was written, or was never a file of that kind; its text is the reason alone."""


def write_whole(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file under a temporary name and rename it, so that no crash leaves half of one; what stood there goes.

    Raises:
        OSError: the folder cannot be written or the disk is full; what stood there before still does.
    """
    with whole(path) as temporary, temporary.open("wb") as file:
        file.writelines([content] if isinstance(content, bytes) else content)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """The temporary name for a file that is to be written; at the end it is on the disk and renamed.

    Raises:
        OSError: as ``write_whole``.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_stored(path: Path, largest: int = LARGEST) -> bytes:
    """Read a regular file that somebody may have replaced: never waits on a pipe, never reads without end.

    Raises:
        OSError: there is no such file, or it cannot be read.
        DamagedFileError: it is a folder, a pipe, a socket or a device, or has more than ``largest`` bytes.
    """
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(file, "rb", buffering=0) as stream:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise DamagedFileError("not a regular file")
        if status.st_size > largest:
            raise DamagedFileError(f"{status.st_size} bytes, more than the {largest} such a file may have")
        return stream.readall()


def read_text(path: Path, largest: int = LARGEST) -> str:
    """Read a text file in UTF-8, with or without a byte order mark.

    Raises:
        OSError, DamagedFileError: as ``read_stored``, and for bytes that are not UTF-8.
    """
    try:
        return read_stored(path, largest).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"not UTF-8 (byte {error.start} is 0x{error.object[error.start]:02x})") from error


def seal(content: bytes) -> bytes:
    """Content followed by its CRC-32, for binary files whose readers ignore what follows (``.npy``, libraries).

    >>> unseal(seal(b"samples"))
    b'samples'
    """
    return content + seal_of(zlib.crc32(content))


def seal_of(crc: int) -> bytes:
    """The end of a sealed file whose content, written piece by piece, has this CRC-32."""
    return _SEAL % crc


def unseal(content: bytes) -> bytes:
    """The content of ``seal``.

    Raises:
        DamagedFileError: there is no seal at the end, or the content is not what was sealed.
    """
    size = len(content) - len(seal_of(0))
    if size < 0 or content[size:] != seal_of(zlib.crc32(memoryview(content)[:size])):
        raise DamagedFileError("its checksum does not match")
    return content[:size]


def seal_json(text: bytes) -> bytes:
    """A JSON object with the CRC-32 of its text as one last field, ``crc32``; still JSON for every other reader.

    >>> seal_json(b'{"seed":3}')
    b'{"seed":3,"crc32":"77e6692b"}'
    """
    body = text.rstrip()
    return body[:-1] + _JSON_SEAL % zlib.crc32(body)


def unseal_json(text: bytes) -> bytes:
    """The JSON object without its seal; one without any, from before there were seals, as it is.

    Raises:
        DamagedFileError: the text is not what was sealed.
    """
    size = len(text) - len(_JSON_SEAL % 0)
    if size < 1 or b'"crc32"' not in text[size:]:
        return text
    body = text[:size] + b"}"
    if text[size:] != _JSON_SEAL % zlib.crc32(body):
        raise DamagedFileError("its checksum does not match")
    return body
