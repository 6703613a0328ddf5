"""Files and folders that appear whole or not at all, also when two processes want the same one at once."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cello.errors import CorpusError
from cello.locks import UNSUPPORTED, acquire, open_lock

_IN_USE = ".in-use.lock"
_USED: dict[Path, int] = {}


def using(cache: Path) -> None:
    """Hold a cache folder against being cleared for as long as this process lives.

    One that cannot be written is not held: whoever may only read it cannot keep others from anything.
    """
    path = cache.absolute() / _IN_USE
    if path in _USED:
        return
    with suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        file = open_lock(path)
        try:
            acquire(file, shared=True)
        except OSError:
            os.close(file)
            return
        _USED[path] = file


def used(path: Path) -> None:
    """Note in a file's or folder's time that it was of use now, so that what is cleared away first is what is not."""
    with suppress(OSError):
        os.utime(path)


@contextmanager
def unused(cache: Path) -> Iterator[None]:
    """No process is :func:`using` the cache folder within; one that begins to waits until the block ends.

    Raises:
        CorpusError: a process uses it, or it cannot be written.
    """
    try:
        file = open_lock(cache / _IN_USE)
    except OSError as error:
        raise CorpusError(f"the cache {str(cache)!r} cannot be written: {error.strerror}; make it writable") from error
    with os.fdopen(file):
        try:
            acquire(file, patience_seconds=0)
        except BlockingIOError:
            raise CorpusError(
                f"the cache {str(cache)!r} is in use by a study, a training or another command; "
                f"wait for it or stop it, then give the same command again"
            ) from None
        except OSError as error:
            raise _not_locked(cache, error) from error
        yield


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Only one process at a time makes ``target``; the others wait here, then find it made.

    The lock is on a small hidden file beside ``target``, which stays: removing it would let two processes each hold
    "the" lock. The system releases it when its holder dies, however it dies.

    Raises:
        CorpusError: nothing can be written beside ``target``, or nothing can be locked there.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = open_lock(target.with_name(f".{target.name}.lock"))
    except OSError as error:
        raise CorpusError(
            f"cannot write {target}: {error.strerror} ({error.filename}); choose another folder for the cache"
        ) from None
    with os.fdopen(file):
        try:
            acquire(file)
        except OSError as error:
            raise _not_locked(target.parent, error) from error
        yield


def _not_locked(folder: Path, error: OSError) -> CorpusError:
    if error.errno in UNSUPPORTED:
        return CorpusError(
            f"{str(folder)!r} lies on a file system without locks ({error.strerror}); "
            f"choose a folder on a local disk with --cache"
        )
    return CorpusError(f"{str(folder)!r} cannot be locked ({error.strerror}); choose another folder with --cache")


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A new folder beside ``target`` that takes its name when the block ends well, and is removed when it does not.

    To be used while ``target`` is :func:`locked`, so that what a killed process left behind can be cleared away.
    """
    prefix = f".{target.name}.partial-"
    for leftover in target.parent.glob(f"{_literal(prefix)}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    try:
        yield folder
        folder.chmod(0o755)
        folder.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def resumed(target: Path, key: str) -> Iterator[Path]:
    """A folder beside ``target`` that takes its name when the block ends well, and waits for the next try when not.

    ``key`` names what it is made from; one begun from anything else is removed. To be used while ``target`` is
    :func:`locked`.
    """
    folder = target.with_name(f".{target.name}.{key}.unfinished")
    for other in target.parent.glob(f".{_literal(target.name)}.*.unfinished"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    yield folder
    folder.rename(target)


def _literal(name: str) -> str:
    """A name as a glob pattern that means only itself."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
