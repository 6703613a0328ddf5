"""Keep decoded audio once, by file content, whatever labels and splits are read from it."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cello.audio.decode import Sound, as_float, decode
from cello.audio.folder import File
from cello.audio.progress import Progress, paced
from cello.audio.samples import SampleWriter
from cello.audio.staging import locked, staged, used
from cello.errors import ClipError, CorpusError
from cello.files import DamagedFileError, read_stored, seal, unseal, write_whole

FORMAT = 1
"""Counts up whenever the same files would be decoded otherwise; part of every key."""
AUDIO = "audio"
INDEX, SOUND, NOISE = "index.msgpack", "sound.npy", "noise.npy"

_BATCH = 256


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """The position of a file's samples, or the ``reason`` why it has none.

    They were int16 where ``narrow``, whatever the array holds; of a ``silent`` file all are zero.
    """

    start: int = 0
    samples: int = 0
    narrow: bool = True
    silent: bool = False
    reason: str = ""


class Index(msgspec.Struct, frozen=True, array_like=True):
    """What a decoded audio cache holds, by content: clips in one array, noise in the other; and CRC-32 of both."""

    format: int
    rate_hz: int
    clips: dict[str, Entry]
    noise: dict[str, Entry]
    sound_crc: int
    noise_crc: int


@dataclass(frozen=True)
class Wanted:
    """Files to decode at a rate, by content (see ``content``)."""

    rate_hz: int
    clips: Mapping[str, File]
    noise: Mapping[str, File]

    @property
    def key(self) -> str:
        """What decides the samples, as 32 hexadecimal digits."""
        text = msgspec.json.encode((FORMAT, self.rate_hz, sorted(self.clips), sorted(self.noise)))
        return hashlib.sha256(text).hexdigest()[:32]

    @property
    def whole(self) -> Wanted:
        """The same files, none of them in parts."""
        return replace(self, clips={_whole(name): file for name, file in self.clips.items()})


@dataclass(frozen=True)
class Audio:
    """An opened decoded audio cache; ``crc`` is that of its index, and so of everything."""

    key: str
    index: Index
    crc: int
    sound: NDArray[Any]
    noise: NDArray[Any]

    def clip(self, content: str, file: File) -> Entry:
        """A clip's samples: kept as they are, or cut out of the whole file."""
        own = self.index.clips.get(content)
        return own if own is not None else cut(self.index.clips[_whole(content)], file, self.index.rate_hz)


def content(file: File, digest: bytes) -> str:
    """The key of a file's samples: its digest and part; empty if it could not be read."""
    if len(digest) != hashlib.sha256().digest_size:
        return ""
    name, part = file.name, ""
    if file.part:
        name, part = name.rpartition("#")[0], f"#{file.start!r}-{file.end!r}"
    return f"{digest.hex()}{PurePosixPath(name).suffix.lower()}{part}"


def _whole(name: str) -> str:
    return name.rpartition("#")[0] or name


def load_audio(cache: Path, key: str) -> Audio | None:
    """Load decoded audio by key if it is complete and undamaged, else None."""
    folder = cache / AUDIO / key
    try:
        index, crc = _index(folder)
        sound, noise = load_array(folder / SOUND, index.sound_crc), load_array(folder / NOISE, index.noise_crc)
    except (OSError, ValueError):
        return None
    used(folder)
    return Audio(key, index, crc, sound, noise)


def open_audio(
    wanted: Wanted, cache: Path, progress: Progress | None = None, check: Callable[[], None] | None = None
) -> Audio:
    """Load decoded files from the cache, or decode them and store them there.

    ``check`` is called when all is decoded; what it raises keeps it from being kept. Of two processes that want the
    same files one decodes and the other waits.

    Raises:
        CorpusError: the cache cannot be written, or what was written does not read back.
        OSError: the disk is full.
    """
    audio = _found(wanted, cache)
    if audio is not None:
        return audio
    target = cache / AUDIO / wanted.key
    with locked(target):
        if (audio := load_audio(cache, wanted.key)) is not None:
            return audio
        clear(target)
        with staged(target) as place:
            _build(place, wanted, progress)
            if check is not None:
                check()
    audio = load_audio(cache, wanted.key)
    if audio is None:
        raise CorpusError(
            f"the audio written to {str(target)!r} cannot be read back; check the disk or choose another cache"
        )
    return audio


def clear(target: Path) -> None:
    """Remove a file or folder that is in the way."""
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target, ignore_errors=True)
    else:
        target.unlink(missing_ok=True)


def _found(wanted: Wanted, cache: Path) -> Audio | None:
    """Kept audio that has all that is wanted: of just these files, of them whole, or of more."""
    likely = dict.fromkeys((wanted.key, wanted.whole.key))
    for folder in sorted((cache / AUDIO).glob("[!.]*")):
        likely.setdefault(folder.name)
    for key in likely:
        try:
            index, _ = _index(cache / AUDIO / key)
        except (OSError, ValueError):
            continue
        if _covers(index, wanted) and (audio := load_audio(cache, key)) is not None:
            return audio
    return None


def _covers(index: Index, wanted: Wanted) -> bool:
    return (
        (index.format, index.rate_hz) == (FORMAT, wanted.rate_hz)
        and wanted.noise.keys() <= index.noise.keys()
        and all(name in index.clips or _whole(name) in index.clips for name in wanted.clips)
    )


def _index(folder: Path) -> tuple[Index, int]:
    """Raises OSError and ValueError where there is none, or none as it was written."""
    text = unseal(read_stored(folder / INDEX))
    return msgspec.msgpack.decode(text, type=Index), zlib.crc32(text)


def load_array(path: Path, crc: int) -> NDArray[Any]:
    """A kept array as a memory map.

    Raises:
        OSError, ValueError: it is not there, or its CRC-32 is another one; reading it all is what trusting it costs.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its other end
        raise DamagedFileError("not a regular file")
    if file_crc(path) != crc:
        raise DamagedFileError("its checksum does not match")
    header_only = status.st_size <= 128
    array: NDArray[Any] = np.load(path, mmap_mode=None if header_only else "r", allow_pickle=False)
    return array


def file_crc(path: Path) -> int:
    """CRC-32 of a file that is not empty."""
    return zlib.crc32(np.memmap(path, dtype=np.uint8, mode="r").data)


def _build(place: Path, wanted: Wanted, progress: Progress | None) -> None:
    step = paced(progress, "decoding", len(wanted.clips) + len(wanted.noise))
    clips: dict[str, Entry] = {}
    noise: dict[str, Entry] = {}
    with SampleWriter(place / SOUND) as sound:
        for name, entry, samples in _decoded(wanted.clips, wanted.rate_hz):
            start = 0 if samples is None else sound.append(samples)
            clips[name] = msgspec.structs.replace(entry, start=start)
            step(len(clips))
    with SampleWriter(place / NOISE) as recordings:
        for name, entry, samples in _decoded(wanted.noise, wanted.rate_hz):
            start = 0 if samples is None else recordings.append(as_float(samples))
            noise[name] = msgspec.structs.replace(entry, start=start)
            step(len(clips) + len(noise))
    index = Index(FORMAT, wanted.rate_hz, clips, noise, file_crc(place / SOUND), file_crc(place / NOISE))
    write_whole(place / INDEX, seal(msgspec.msgpack.encode(index)))


def _decoded(files: Mapping[str, File], rate_hz: int) -> Iterator[tuple[str, Entry, Sound | None]]:
    """Decode in threads, in order, never more than one batch ahead in memory."""

    def clips(of_one: tuple[Path, list[tuple[str, File]]]) -> list[tuple[str, Entry, Sound | None]]:
        try:
            sound = decode(of_one[0], rate_hz, silent=True)
        except ClipError as error:
            return [(name, Entry(reason=str(error)), None) for name, _ in of_one[1]]
        return [_part(name, file, sound, rate_hz) for name, file in of_one[1]]

    # the parts of a recording follow each other, so that it is decoded once for all of them
    queue = ((path, list(parts)) for path, parts in groupby(files.items(), key=lambda named: named[1].path))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        while batch := list(islice(queue, _BATCH)):
            for found in list(pool.map(clips, batch)):
                yield from found


def _part(name: str, file: File, sound: Sound, rate_hz: int) -> tuple[str, Entry, Sound | None]:
    silent = not sound.any()
    # zeros are as good in 16 bits, and must not widen those of all other clips
    kept = np.zeros(len(sound), np.int16) if silent else sound
    whole = Entry(samples=len(kept), narrow=kept.dtype == np.int16, silent=silent)
    entry = cut(whole, file, rate_hz)
    return name, entry, None if entry.reason else kept[entry.start : entry.start + entry.samples]


def cut(whole: Entry, file: File, rate_hz: int) -> Entry:
    """Cut a clip out of its recording, or say why it cannot be cut."""
    if whole.reason or not file.part:
        return whole
    first = round(file.start * rate_hz)
    last = whole.samples if file.end is None else min(whole.samples, round(file.end * rate_hz))
    if first >= last:
        lasts = whole.samples / rate_hz
        return Entry(reason=f"it starts at {file.start:g} s, but the recording lasts {lasts:g} s")
    return msgspec.structs.replace(whole, start=whole.start + first, samples=last - first)


def unreadable(file: File) -> str:
    """Say why a file could not be read.

    Raises:
        CorpusError: it can, so that it was changed.
    """
    if file.path.is_dir():
        return "a link to a folder, which is not followed"
    try:
        decode(file.path, 16_000)
    except ClipError as error:
        return str(error)
    raise changed(file.path)


def changed(place: Path) -> CorpusError:
    """The error for files that changed while they were read."""
    return CorpusError(
        f"files in {str(place)!r} changed while they were read; "
        f"wait until nothing writes there, then run the same command again"
    )


def joined(audio: Audio, entries: Sequence[Entry], narrow: bool) -> Iterator[NDArray[Any]]:
    """Iterate over clips in a given order, as int16 if ``narrow``, else as float32."""
    for entry in entries:
        samples = audio.sound[entry.start : entry.start + entry.samples]
        if narrow and samples.dtype != np.int16:
            yield np.rint(samples * np.float32(32768)).astype("<i2")
        else:
            yield samples if narrow else np.ascontiguousarray(as_float(samples), dtype="<f4")
