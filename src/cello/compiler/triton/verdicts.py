"""Remember on disk which kernels gave right numbers on a GPU, and mark those that are being tried.

A kernel that never ends, or ends its launch, takes the process with it. So a process leaves a mark while it tries one:
a file that it has locked. A lock ends with its process, so a mark of this machine that nobody has locked is of one that
ended meanwhile. Where files cannot be written or locked there are no marks, and each process finds out by itself.
"""

from __future__ import annotations

import os
import platform
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import msgspec

from cello.errors import BackendError
from cello.files import DamagedFileError, decode_json, read_stored, seal_json, write_whole
from cello.locks import acquire, open_lock
from cello.native.cache import kernel_folder, make_private

LARGEST = 1 << 12
"""Bytes of the largest file that is read."""


Pass = Literal["forward", "backward"]
PASSES: tuple[Pass, ...] = ("forward", "backward")


class Verdict(msgspec.Struct, frozen=True):
    """Whether kernels are right, or the pass that is not; what it did, in words that follow its name, and why."""

    found: Literal["right", "forward", "backward"]
    seen: str = ""
    why: str = ""

    @property
    def right(self) -> bool:
        """Whether they are."""
        return self.found == "right"


def remembered(key: str) -> Verdict | None:
    """What was found; None if nothing was, or the file is not as it was written."""
    try:
        return decode_json(read_stored(folder() / f"{key}.json", LARGEST), Verdict)
    except (OSError, DamagedFileError, BackendError):
        return None


def remember(key: str, verdict: Verdict) -> None:
    """Write what was found, if there is a folder for it; it is found anew otherwise."""
    with suppress(OSError, BackendError):
        make_private(folder())
        write_whole(folder() / f"{key}.json", seal_json(msgspec.json.encode(verdict)))


@contextmanager
def being_tried(key: str, way: Pass) -> Iterator[None]:
    """Leave a mark that a pass of kernels is tried within; a process that ends here leaves it behind."""
    mark = _marked(key, way)
    try:
        yield
    finally:
        if mark is not None:
            path, file = mark
            with suppress(OSError):
                path.unlink()  # before it is unlocked, or others would take it for one that was left behind
            os.close(file)


def _marked(key: str, way: Pass) -> tuple[Path, int] | None:
    try:
        make_private(folder())
        path = folder() / f"{_begin(key)}{os.getpid()}-{secrets.token_hex(4)}.{way}"
        hidden = path.with_suffix(".new")  # until it is locked
        file = open_lock(hidden)
    except (OSError, BackendError):
        return None
    try:
        acquire(file, patience_seconds=0)
        hidden.rename(path)
    except OSError:
        with suppress(OSError):
            hidden.unlink()
        os.close(file)
        return None
    return path, file


def ended(key: str) -> Pass | None:
    """The pass that a process of this machine was trying when it ended, if one did; its mark is removed."""
    with suppress(OSError, BackendError):
        for way in PASSES:
            left = [_left(path) for path in folder().glob(f"{_begin(key)}*.{way}")]
            if any(left):
                return way
    return None


def _left(path: Path) -> bool:
    """Whether nobody has locked a mark that is still there."""
    with suppress(OSError):
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            acquire(file, shared=True, patience_seconds=0)
            left = os.path.samestat(os.fstat(file), path.lstat())  # it may have been removed before it was unlocked
            path.unlink()
            return left
        finally:
            os.close(file)
    return False


def _begin(key: str) -> str:
    """How the marks of this machine begin; whether another machine's process runs, nobody here can tell."""
    return f"{key}.{re.sub(r'[^A-Za-z0-9-]', '-', platform.node())}."


def folder() -> Path:
    """Where verdicts and marks are kept.

    Raises:
        BackendError: there is no cache folder.
    """
    return kernel_folder() / "proofs"
