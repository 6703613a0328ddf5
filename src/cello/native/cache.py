"""Cache compiled kernels on disk, in a private folder, under names that contain checksums.

A library is code, so one that another user could have written is never loaded; and a library that lost its end stops
the process when it is, so one is loaded only if its content has the checksum in its name.
"""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path

from cello.cache import cache_root
from cello.errors import BackendError, CelloError
from cello.files import DamagedFileError, read_stored, whole

OTHERS = stat.S_IWGRP | stat.S_IWOTH
LARGEST = 1 << 26
"""Bytes of the largest kernel that is read: a hundred times what a cell of hundreds of operations has."""


def kernel_folder() -> Path:
    """Where kernels are kept: ``kernels`` in the folder that the environment's CELLO_CACHE names, or the user's cache.

    Raises:
        BackendError: neither is there.
    """
    try:
        return cache_root().absolute() / "kernels"
    except CelloError as error:
        raise BackendError(
            f"there is no folder for compiled cells ({error.__cause__}). "
            f"Choose a cache with --cache, or set --execution.backend plain."
        ) from error


def make_private(folder: Path) -> None:
    """Make the folder, with access for this user alone; one that lets others write is closed to them.

    Raises:
        OSError: it cannot be made, or belongs to another user.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for status in (folder.lstat(), folder.stat()):
        if not _trusted(status.st_uid):
            raise PermissionError(f"the folder belongs to another user (number {status.st_uid})")
    if folder.stat().st_mode & OTHERS:
        folder.chmod(0o700)
        if folder.stat().st_mode & OTHERS:
            raise PermissionError("the folder lets other users write, and its disk knows no permissions")


def kept(folder: Path, stem: str, suffix: str) -> Path | None:
    """The file kept under this name, if it is as it was written; a damaged one is deleted."""
    for path in sorted(folder.glob(f"{stem}-*{suffix}")):
        if _whole(path):
            return path
        with suppress(OSError):
            path.unlink()
    return None


def keep(folder: Path, stem: str, made: Path) -> Path:
    """Move a file that was written on the same disk into the folder, all of it on the disk before it is there.

    Raises:
        OSError: the folder cannot be written.
    """
    path = folder / f"{stem}-{_digest(made.read_bytes())}{made.suffix}"
    with whole(path) as temporary:
        made.chmod(0o600)
        made.replace(temporary)
    return path


def _whole(path: Path) -> bool:
    """Whether the file was written by this user and is as it was."""
    try:
        status = path.lstat()
        if not _trusted(status.st_uid) or status.st_mode & OTHERS:
            return False
        return _digest(read_stored(path, LARGEST)) == path.stem.rpartition("-")[2]
    except (OSError, DamagedFileError):
        return False


def _trusted(user: int) -> bool:
    """This user, or root, who can do everything anyway."""
    return user in (os.geteuid(), 0)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
