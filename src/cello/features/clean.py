"""List and clear the cache folder."""

from __future__ import annotations

import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from cello.audio.dataset_cache import MANIFESTS, heads
from cello.audio.decoded import AUDIO
from cello.audio.digests import FOLDER as DIGESTS
from cello.audio.kept import FOLDER as NOTES
from cello.audio.staging import unused
from cello.cache import cache_root
from cello.errors import CorpusError, unknown
from cello.files import DamagedFileError, read_text

NOTE = ".corpus"
"""The ending of a file beside frames that names their corpus."""

_SECONDS_A_DAY = 86_400
_LONGEST_NAME = 4096
_HEX = "[0-9a-f]"
_RELEASE, _TEST_SET = "speech_commands_v0.0[12]", "speech_commands_test_set_v0.02"
_CORPORA = (_RELEASE, _TEST_SET, f"speech-commands-{_HEX * 12}", f"speech-commands-{_HEX * 32}", f"spoken-{_HEX * 12}")
# Whole names, as the folder is one that a user may have named and may hold more than Cello put there.
_KINDS: dict[str, tuple[str, ...]] = {
    "decoded clips": (f"{AUDIO}/{_HEX * 32}", f"packs/{_HEX * 32}"),
    "manifests": (f"{MANIFESTS}/{_HEX * 32}.json",),
    "frames": (f"{_HEX * 64}.npy", f"features/{_HEX * 64}.npy"),
    "notes": (
        *(f"{NOTES}/{name}" for name in _CORPORA),
        *(f"{place}{_HEX * 64}{NOTE}" for place in ("", "features/")),
    ),
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
    "kernels": (
        f"kernels/*-{_HEX * 24}.so",
        f"kernels/*-{_HEX * 24}-{_HEX * 16}.so",
        f"kernels/*-{_HEX * 24}-{_HEX * 16}.o",
    ),
    "unfinished": (
        *(f"{place}/.{_HEX * 32}.partial-*" for place in (AUDIO, "packs")),
        f"{MANIFESTS}/.{_HEX * 32}.json.*.part",
        *(f"{place}.{_HEX * 64}{NOTE}.*.part" for place in ("", "features/")),
        *(f"{place}.{_HEX * 64}.npy.*.part" for place in ("", "features/")),
        f"{_HEX * 64}.*.tmp",  # of older versions
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
        "kernels/.*.so.*.part",
        "kernels/.*.o.*.part",
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
    """List what Cello keeps in a cache folder (by default the user's), least recently used first."""
    folder = cache_root(cache)
    found: list[Held] = []
    for what, patterns in _KINDS.items():
        for path in (path for pattern in patterns for path in folder.glob(pattern)):
            with suppress(FileNotFoundError):  # a temporary file of a process that is at work
                found.append(Held(what, path, _size(path), path.stat().st_mtime))
    return sorted(found, key=lambda thing: thing.used)


class Kept(NamedTuple):
    """What the cache keeps for a corpus, in bytes, and the ``folders`` it was read from.

    ``paths`` are those that no other corpus needs.
    """

    name: str
    folders: tuple[str, ...]
    decoded: int
    frames: int
    used: float
    paths: tuple[Path, ...]


def corpora(cache: Path | None = None) -> list[Kept]:
    """The corpora with decoded clips or frames in the cache, by name."""
    folder = cache_root(cache)
    owners: dict[Path, set[str]] = defaultdict(set)
    places: dict[str, set[str]] = defaultdict(set)
    for manifest, head in heads(folder):
        places[head.name].add(head.root)
        owners[manifest].add(head.name)
        owners[folder / AUDIO / head.audio].add(head.name)
    for pattern in (f"{_HEX * 64}{NOTE}", f"features/{_HEX * 64}{NOTE}"):
        for note in folder.glob(pattern):
            with suppress(OSError, DamagedFileError):
                name = read_text(note, _LONGEST_NAME)
                owners[note].add(name)
                owners[note.with_suffix(".npy")].add(name)
    return [_kept(name, owners, places[name]) for name in sorted(set().union(*owners.values()))]


def _kept(name: str, owners: Mapping[Path, set[str]], places: set[str]) -> Kept:
    own = [path for path, names in owners.items() if name in names and path.exists()]
    sizes = {path: _size(path) for path in own}
    frames = sum(size for path, size in sizes.items() if path.suffix in (".npy", NOTE))
    latest = max((path.stat().st_mtime for path in own), default=0.0)
    alone = tuple(path for path in own if owners[path] == {name})
    return Kept(name, tuple(sorted(places)), sum(sizes.values()) - frames, frames, latest, alone)


def clean_corpus(name: str, cache: Path | None = None) -> list[Held]:
    """Remove the decoded clips and frames that only this corpus needs; return what was removed.

    Raises:
        CorpusError: nothing is kept of it, a process uses the cache, or something cannot be removed.
    """
    folder = cache_root(cache)
    known = {kept.name: kept for kept in corpora(folder)}
    if name not in known:
        raise CorpusError(unknown("corpus in the cache", name, known))
    with unused(folder):
        own = [thing for thing in held(folder) if thing.path in known[name].paths]
        _remove_all(own)
    return own


def clean(cache: Path | None = None, older_than_days: float = 0) -> list[Held]:
    """Remove what was not used for this many days, by default everything; return what was removed.

    Raises:
        CorpusError: a process uses the cache, or something cannot be removed.
    """
    folder = cache_root(cache)
    if not folder.is_dir():
        return []
    with unused(folder):
        latest = time.time() - older_than_days * _SECONDS_A_DAY
        old = [thing for thing in held(folder) if thing.used <= latest or not older_than_days]
        _remove_all(old)
    return old


def _remove_all(things: Iterable[Held]) -> None:
    for thing in things:
        try:
            _remove(thing.path)
        except OSError as error:
            raise CorpusError(
                f"{str(thing.path)!r} cannot be removed from the cache: {error.strerror}; "
                f"make it writable or remove it yourself"
            ) from error


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
