"""Record which studies this user's Cello made, outside the studies' own folders."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import platformdirs

from cello.files import DamagedFileError, read_stored


def note_made(folder: Path) -> None:
    """Remember the study in a folder, as its ``study.json`` is now; where there is no place to, nothing is kept."""
    try:
        place, digest = _place(), _digest(folder)
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        with os.fdopen(file, "wb", buffering=0) as stream:
            stream.write(f"{digest}\n".encode())
    except (OSError, RuntimeError, DamagedFileError):
        return


def is_made(folder: Path) -> bool:
    """Whether this user's Cello wrote the folder's ``study.json`` as it is now.

    A study that came in an archive, or whose plan somebody changed, is not made here, whoever owns its files.
    """
    try:
        return _digest(folder) in read_stored(_place()).decode("ascii", "replace").split()
    except (OSError, RuntimeError, DamagedFileError):
        return False


def _place() -> Path:
    place = platformdirs.user_state_path("cello") / "made"
    if not place.is_absolute():
        raise RuntimeError("no home folder")
    return place


def _digest(folder: Path) -> str:
    return hashlib.sha256(read_stored(folder / "study.json")).hexdigest()
