"""Guard an output folder: one writer at a time, no links, errors that name the remedy."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from cello.errors import StoreError, reason
from cello.files import DamagedFileError, check_regular, decode_json, read_stored
from cello.locks import UNSUPPORTED, acquire, open_lock

FULL = (errno.ENOSPC, errno.EDQUOT)
RESTORE = "restore it, or start afresh with another --out"
"""What to do about a damaged file that cannot be made again."""
RUNS = "runs"
"""The folder in a study's that holds a folder for each of its runs."""
NO_LOCKS = UNSUPPORTED - {errno.EINVAL}
"""Without the one that calls which lock nothing answer too."""
EXPORTED, LARGEST_EXPORTED = "manifest.json", 8 << 20
"""What a folder of ``cello export`` has in place of a study's files, and the most bytes that are read of it."""


class _Exported(msgspec.Struct, frozen=True):
    run: str


def check_not_exported(folder: Path) -> None:
    """Call a folder that ``cello export`` wrote what it is, where it was taken for a study or a run.

    Raises:
        StoreError: it is one.
    """
    if not (folder / EXPORTED).exists():
        return
    run = "the run"
    with suppress(OSError, DamagedFileError):
        run = f"run {decode_json(read_stored(folder / EXPORTED, LARGEST_EXPORTED), _Exported).run[:40]}"
    raise StoreError(
        f"{str(folder)!r} is an exported model, not a run: cello predict, evaluate, listen and serve take it. Here "
        f"give the folder of {run}, from which it was exported, or of its study"
    )


@contextmanager
def naming(folder: Path) -> Iterator[None]:
    """Turn an ``OSError`` met on the way into a ``StoreError`` that names the folder and the remedy."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{_fact(folder, error)}") from error


def _fact(folder: Path, error: OSError) -> str:
    if error.errno in FULL:
        return (
            f"the disk of {str(folder)!r} is full ({_free_mb(folder)} MB free); make room and give the same command "
            f"again: finished runs and epochs are kept"
        )
    if error.errno == errno.ELOOP and error.filename:
        return f"{str(error.filename)!r} is a link, through which nothing is written; put the file itself there"
    if error.errno in NO_LOCKS:
        return f"{str(folder)!r} is on a file system without locks; choose a folder on a local disk with --out"
    if isinstance(error, FileExistsError | NotADirectoryError):
        file = next((place for place in (folder, *folder.parents) if place.is_file()), error.filename)
        return f"{str(file)!r} is a file, not a folder; choose another --out"
    if isinstance(error, FileNotFoundError) and error.filename and Path(error.filename).is_relative_to(folder):
        return f"no study at {str(folder)!r}: {error.filename!r} does not exist; check the path"
    return f"{str(folder)!r} cannot be used: {reason(error)}; choose a folder you may write with --out"


def _free_mb(folder: Path) -> int:
    near = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(near).free // 1_000_000


def check_empty(out: Path) -> None:
    """Hold the place for something new to being no folder yet, or an empty one.

    Raises:
        StoreError: a study or anything else is there.
    """
    there = sorted(path.name for path in out.iterdir()) if out.exists() else []
    if there:
        what = (
            "a study" if "study.json" in there else f"files ({', '.join(there[:3])}{', …' if len(there) > 3 else ''})"
        )
        raise StoreError(f"{str(out)!r} holds {what}, and nothing is written over; choose a new folder with --out")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to fill that becomes ``out`` at the end, when all of it is on the disk; on an error it goes.

    Raises:
        StoreError: as ``check_empty``.
        OSError: it cannot be written.
    """
    check_empty(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.with_name(f".{out.name}.{os.getpid()}.part")
    folder.mkdir()
    try:
        yield folder
        os.sync()
        folder.replace(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def single_writer(folder: Path, patience_seconds: float = 0.0) -> Iterator[None]:
    """Hold the folder's lock: the kernel gives it back when this process ends, however it ends.

    Raises:
        StoreError: another process holds it for longer than the patience, with that process's id; the folder cannot
            be written, or holds a link through which would be written elsewhere.
    """
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        check_links(folder)
        file = open_lock(folder / "lock")
    try:
        with naming(folder):
            _acquire(file, folder, patience_seconds)
            os.ftruncate(file, 0)
            os.pwrite(file, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(file)


def check_links(folder: Path) -> None:
    """Hold the runs of a study to lying in its folder: somebody else's may have links that lead out of it.

    Raises:
        StoreError: the folder of the runs, or of one of them, is a link.
    """
    runs = folder / RUNS
    found = [runs] if runs.is_symlink() else []
    if not found and runs.is_dir():
        with os.scandir(runs) as entries:
            found = [runs / entry.name for entry in entries if entry.is_symlink()]
    if found:
        raise StoreError(f"{str(found[0])!r} is a link, through which nothing is written; put the folder itself there")


def below(study: Path, name: str) -> Path:
    """A folder of that name in a study's, for what is written where nobody said where.

    Raises:
        StoreError: it is a link, as somebody else's study may have.
    """
    if (study / name).is_symlink():
        raise StoreError(
            f"{str(study / name)!r} is a link, through which nothing is written; say where to write with --out"
        )
    return study / name


def copy_regular(folder: int, name: str, target: Path) -> bool:
    """Copy a file of an open folder, if it is there, and never what a link or a pipe of that name leads to.

    Raises:
        DamagedFileError: it is a link, no regular file, or larger than any file of a run.
        OSError: it cannot be read, or the copy not be written.
    """
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise DamagedFileError("it is a link, which is not followed") from error
        raise
    try:
        check_regular(file)
        with os.fdopen(file, "rb", closefd=False) as source, target.open("xb") as copy:
            shutil.copyfileobj(source, copy)
    finally:
        os.close(file)
    return True


@contextmanager
def open_folder(path: Path) -> Iterator[int]:
    """A folder as a file descriptor, whatever happens to its name meanwhile.

    Raises:
        DamagedFileError: the folder or the one it lies in is a link, or no folder.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        above = os.open(path.parent, flags)
        try:
            folder = os.open(path.name, flags, dir_fd=above)
        finally:
            os.close(above)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            raise DamagedFileError("it is, or lies in, a link, which is not followed") from error
        raise
    try:
        yield folder
    finally:
        os.close(folder)


def _acquire(file: int, folder: Path, patience_seconds: float) -> None:
    try:
        acquire(file, patience_seconds=patience_seconds)
    except BlockingIOError:
        holder = os.pread(file, 32, 0).decode(errors="replace") or "unknown"
        raise StoreError(
            f"{str(folder)!r} is being written by another process (pid {holder}); wait for it, stop it, or choose "
            f"another --out"
        ) from None
    except OSError as error:
        if error.errno == errno.EINVAL:  # from flock it means what ENOTSUP does
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP)) from error
        raise
