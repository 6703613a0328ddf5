"""Keep rendered or unpacked corpora in the cache, and repair damage."""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import msgspec

from cello.audio.digests import digests
from cello.audio.staging import locked, used
from cello.files import DamagedFileError, read_stored, seal, unseal, write_whole

FOLDER = "made"
"""Where the cache notes what each folder held when it was made."""


def kept(folder: Path, cache: Path, make: Callable[[], Path]) -> Path:
    """A folder of the cache made by ``make``, made again if it is missing or was modified.

    What was altered is put aside until the new one is there, so that nothing is lost when it cannot be made.

    Raises:
        CorpusError: as ``make``, and where the cache cannot be locked.
    """
    note = cache / FOLDER / folder.name
    if folder.is_dir() and (_noted(note) == _content(folder, cache) or not os.access(cache, os.W_OK)):
        used(note)
        return folder
    with locked(note):
        known = _noted(note)
        altered = folder.is_dir() and known is not None and known != _content(folder, cache)
        aside = folder.with_name(f".{folder.name}.altered")
        if altered:
            warnings.warn(f"{str(folder)!r} was modified; it is made again", stacklevel=2)
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
        try:
            made = make()
        except BaseException:
            if altered and not folder.exists():
                aside.rename(folder)
            raise
        shutil.rmtree(aside, ignore_errors=True)
        if made == folder:
            write_whole(note, seal(_content(folder, cache)))
    return made


def _noted(note: Path) -> bytes | None:
    try:
        return unseal(read_stored(note))
    except (OSError, DamagedFileError):
        return None


def _content(folder: Path, cache: Path) -> bytes:
    """SHA-256 over the names and contents of all files below a folder."""
    files = sorted(Path(place) / name for place, _, names in os.walk(folder) for name in names)
    found = zip(files, digests(files, folder, cache), strict=True)
    named = [(os.fsencode(path.relative_to(folder)), digest) for path, digest in found]
    return hashlib.sha256(msgspec.msgpack.encode(named)).digest()
