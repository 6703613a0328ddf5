"""Write files atomically with checksums, and read back only what is as it was written."""

from __future__ import annotations

import glob
import json
import os
import secrets
import stat
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from cello import __version__
from cello.errors import CelloError

Kind = TypeVar("Kind")
LARGEST = 1 << 30
"""Bytes that ``read_stored`` reads at most unless told otherwise: far above any file that Cello writes as one piece."""

STALE_SECONDS = 3600.0
"""A temporary file that was not written to for longer was left by a process that died."""
_JSON_SEAL = b',"crc32":"%08x"}'
_SEAL = b"\ncello crc32 %08x\n"


class DamagedFileError(ValueError):
    """A file that is not as it was written, or was never a file of that kind; its text is the reason alone."""


class OtherVersionError(ValueError):
    """A whole file that another version of Cello wrote; its text continues a sentence that names the file."""


def write_whole(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file under a temporary name and rename it, so that no crash leaves half of one; what stood there goes.

    Raises:
        OSError: the folder cannot be written or the disk is full; what stood there before still does.
    """
    with whole(path) as temporary, temporary.open("xb") as file:
        file.writelines([content] if isinstance(content, bytes) else content)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """The temporary name for a file that is to be written; at the end it is on the disk and renamed.

    Raises:
        OSError: as ``write_whole``.
    """
    _remove_stale(path)
    # a name that nobody can know, so that no link of that name can be there to be written through
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_stale(path: Path) -> None:
    """Remove temporary files that a killed process left of this one."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with suppress(OSError):
            if time.time() - left.lstat().st_mtime > STALE_SECONDS:
                left.unlink()


def read_stored(path: Path | str, largest: int = LARGEST, *, follow: bool = True) -> bytes:
    """Read a regular file that somebody may have replaced: never waits on a pipe, never reads without end.

    Without ``follow`` the last part of the path may not be a link.

    Raises:
        OSError: there is no such file, or it cannot be read.
        DamagedFileError: it is a folder, a pipe, a socket or a device, or has more than ``largest`` bytes.
    """
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    try:
        check_regular(file, largest)
        with os.fdopen(file, "rb", buffering=0, closefd=False) as stream:
            return stream.readall()
    finally:
        os.close(file)


def check_regular(file: int, largest: int = LARGEST) -> None:
    """Refuse an open file descriptor that is of no regular file.

    Raises:
        DamagedFileError: it is of a folder, a pipe, a socket or a device, or has more than ``largest`` bytes.
    """
    status = os.fstat(file)
    if stat.S_ISDIR(status.st_mode):
        raise DamagedFileError("a folder, not a regular file")
    if not stat.S_ISREG(status.st_mode):
        raise DamagedFileError("not a regular file")
    if status.st_size > largest:
        raise DamagedFileError(f"{status.st_size} bytes, more than the {largest} such a file may have")


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


def seal_json(text: bytes, before: int = 0) -> bytes:
    """A JSON object with the CRC-32 of its text as one last field, ``crc32``; still JSON for every other reader.

    ``before`` is the CRC-32 of what stands above it in the file, where that is to be sealed with it.

    >>> seal_json(b'{"seed":3}')
    b'{"seed":3,"crc32":"77e6692b"}'
    """
    body = text.rstrip()
    return body[:-1] + _JSON_SEAL % zlib.crc32(body, before)


def unseal_json(text: bytes, before: int = 0) -> bytes:
    """The JSON object without its seal; one without any, from before there were seals, as it is.

    Raises:
        DamagedFileError: the text is not what was sealed.
    """
    whole = text.rstrip()  # editors and hooks end a file with a new line
    size = len(whole) - len(_JSON_SEAL % 0)
    if size < 1 or b'"crc32"' not in whole[size:]:
        return text
    body = whole[:size] + b"}"
    if whole[size:] != _JSON_SEAL % zlib.crc32(body, before):
        raise DamagedFileError("its checksum does not match (take out its crc32 if you changed it on purpose)")
    return body


def decode_json(text: bytes, kind: type[Kind], newest: int | None = None) -> Kind:
    """A stored JSON object, sealed or not, as ``kind``; ``newest`` is the highest ``format`` that this version knows.

    Raises:
        DamagedFileError: it is not what was sealed, no JSON, or not of that kind.
        OtherVersionError: another version wrote it.
    """
    body = unseal_json(text)
    try:
        if newest is not None:
            _check_format(msgspec.json.decode(body, type=_Format).format, newest)
        if body is text:  # without a seal: a field that stands twice would be one of two, silently
            json.loads(body, object_pairs_hook=_once)
        return msgspec.json.decode(body, type=kind)
    except OtherVersionError:
        raise
    except (ValueError, RecursionError, CelloError) as error:
        if "unknown field" in str(error):
            raise OtherVersionError(
                f"was written by another version of Cello than this {__version__}: {error}; use the version that "
                f"wrote it"
            ) from error
        raise DamagedFileError(_reason(error)) from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


class _Format(msgspec.Struct):
    format: int = 1


def _check_format(found: int, newest: int) -> None:
    if found > newest:
        raise OtherVersionError(
            f"has format {found}, and this is Cello {__version__}, which knows formats up to {newest}; install a "
            f"newer Cello to read it"
        )
    if found < 1:
        raise DamagedFileError(f"format {found} does not exist")


def _once(pairs: list[tuple[str, Any]]) -> None:
    names = {name for name, _ in pairs}
    if len(names) < len(pairs):
        raise DamagedFileError("a field stands in it twice")


@contextmanager
def naming_damage(path: Path | str, kind: type[CelloError], remedy: str) -> Iterator[None]:
    """Turn what is wrong with a stored file into an error of this kind, which names the file and the remedy."""
    try:
        yield
    except DamagedFileError as error:
        raise kind(f"{path} is damaged: {error}; {remedy}") from error
    except OtherVersionError as error:
        raise kind(f"{path} {error}") from error
