"""What the cache folder holds, and clearing it away: all of it is made again when it is next asked for."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from cello.audio.digests import FOLDER as DIGESTS
from cello.audio.kept import FOLDER as NOTES
from cello.audio.staging import unused
from cello.cache import cache_root
from cello.errors import CorpusError

_SECONDS_A_DAY = 86_400
_HEX = "[0-9a-f]"
_RELEASE, _TEST_SET = "speech_commands_v0.0[12]", "speech_commands_test_set_v0.02"
_CORPORA = (_RELEASE, _TEST_SET, f"speech-commands-{_HEX * 12}", f"speech-commands-{_HEX * 32}", f"spoken-{_HEX * 12}")
# Whole names, as the folder is one that a user may have named and may hold more than Cello put there.
_KINDS: dict[str, tuple[str, ...]] = {
    "decoded clips": (f"packs/{_HEX * 32}",),
    "frames": (f"{_HEX * 64}.npy", f"features/{_HEX * 64}.npy"),
    "notes": tuple(f"{NOTES}/{name}" for name in _CORPORA),
    "rendered corpus": (f"spoken-{_HEX * 12}",),
    "downloaded corpus": (
        _RELEASE,
        f"{_RELEASE}.tar.gz",
        _TEST_SET,
        f"{_TEST_SET}.tar.gz",
        f"speech-commands-{_HEX * 12}",
        f"speech-commands-{_HEX * 32}",
    ),
    "digests": (f"{DIGESTS}/{_HEX * 32}",),
    "kernels": (f"kernels/*-{_HEX * 24}.so", f"kernels/*-{_HEX * 24}-{_HEX * 16}.so"),
    "unfinished": (
        f"packs/.{_HEX * 32}.partial-*",
        f"{_HEX * 64}.*.tmp",
        f"features/{_HEX * 64}.*.tmp",
        f".spoken-{_HEX * 12}.*.unfinished",
        f".spoken-{_HEX * 12}.partial-*",
        f".{_RELEASE}.partial-*",
        f".{_TEST_SET}.partial-*",
        f".speech-commands-{_HEX * 12}.partial-*",
        f".speech-commands-{_HEX * 32}.partial-*",
        f"{DIGESTS}/.{_HEX * 32}.*.part",
        *(f".{name}.altered" for name in _CORPORA),
        "kernels/.building-*",
        *(f"{name}.tar.gz.{end}" for name in (_RELEASE, _TEST_SET) for end in ("part", "rejected")),
    ),
}


class Held(NamedTuple):
    """One thing in the cache: ``size`` in bytes, ``used`` when it was last asked for, in seconds since 1970."""

    what: str
    path: Path
    size: int
    used: float


def held(cache: Path | None = None) -> list[Held]:
    """All that Cello keeps in a cache folder (the user's own by default), what was not used for longest first."""
    folder = cache_root(cache)
    found: list[Held] = []
    for what, patterns in _KINDS.items():
        for path in (path for pattern in patterns for path in folder.glob(pattern)):
            with suppress(FileNotFoundError):  # a temporary file of a process that is at work
                found.append(Held(what, path, _size(path), path.stat().st_mtime))
    return sorted(found, key=lambda thing: thing.used)


def clean(cache: Path | None = None, older_than_days: float = 0) -> list[Held]:
    """Remove what was not used for so many days, everything by default; what was removed, as :func:`held` lists it.

    Raises:
        CorpusError: a process uses the cache, or something cannot be removed.
    """
    folder = cache_root(cache)
    if not folder.is_dir():
        return []
    with unused(folder):
        latest = time.time() - older_than_days * _SECONDS_A_DAY
        old = [thing for thing in held(folder) if thing.used <= latest or not older_than_days]
        for thing in old:
            try:
                _remove(thing.path)
            except OSError as error:
                raise CorpusError(
                    f"{str(thing.path)!r} cannot be removed from the cache: {error.strerror}; "
                    f"make it writable or remove it yourself"
                ) from error
    return old


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size
    return sum((Path(place) / name).lstat().st_size for place, _, names in os.walk(path) for name in names)


def _remove(path: Path) -> None:
    """Remove a file or folder; a folder of which half is gone has no longer the name under which it would be used."""
    if not path.is_dir():
        path.unlink()
        return
    if not path.name.startswith("."):
        path = path.rename(path.with_name(f".{path.name}.partial-{os.getpid()}"))
    shutil.rmtree(path)
