"""A corpus decoded once: one flat array of samples and a manifest in the cache, opened in a moment ever after."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cello.audio.assign import Assignment, assign
from cello.audio.corpus import BadClip, Clip, Manifest
from cello.audio.decode import Sound, as_float, decode
from cello.audio.digests import digests
from cello.audio.folder import File, Folder
from cello.audio.progress import Progress, paced
from cello.audio.reading import PLAIN, Reading
from cello.audio.samples import SampleWriter
from cello.audio.staging import locked, staged, used
from cello.errors import ClipError, CorpusError
from cello.files import DamagedFileError, read_stored, seal_json, unseal_json, write_whole

FORMAT = 3
"""Counts up whenever the same files would be packed otherwise; part of every pack's key."""

_BATCH = 256
MANIFEST, SOUND, NOISE = "manifest.json", "sound.npy", "noise.npy"


@dataclass(frozen=True)
class Options:
    """What besides the files decides a pack's contents."""

    rate_hz: int
    reading: Reading = PLAIN


@dataclass(frozen=True)
class Pack:
    """An opened pack: ``sound`` (ΣN,) int16 or float32 and ``noise`` recordings, as in a corpus; ``rule`` split it."""

    manifest: Manifest
    rule: str
    sound: NDArray[Any]
    noise: tuple[NDArray[np.float32], ...]


class Record(msgspec.Struct, frozen=True):
    """The manifest as kept on disk, with CRC-32 of all that is kept, itself included; ``key`` is what it was made of.

    It is sealed, so that no field of it is believed after a damage either.
    """

    rule: str
    noise_samples: tuple[int, ...]
    sound_crc: int
    noise_crc: int
    manifest_crc: int
    manifest: msgspec.Raw
    key: str = ""


def open_pack(folder: Folder, options: Options, cache: Path, progress: Progress | None = None) -> Pack:
    """The pack of a folder, from the cache where it is there and whole, else made by decoding every file.

    It is found by the options and by every file's relative path and content, whatever their times say. A pack that was
    torn or altered on disk is made again. Of two processes that want the same pack one makes it and the other waits.

    Raises:
        CorpusError: the clips cannot be split, change while they are read, or the cache cannot be written.
    """
    key = fingerprint(folder, options, cache)
    target = cache / "packs" / key
    pack = load_pack(target, key)
    if pack is not None:
        used(target)
        return pack
    assignment = assign(folder, options.reading)
    try:
        with locked(target):
            if (pack := load_pack(target, key)) is not None:
                return pack
            _clear(target)
            with staged(target) as place:
                _build(place, folder, assignment, options.rate_hz, progress, key)
                _check_unchanged(folder, options, cache, key)
    except OSError as error:
        raise CorpusError(
            f"the decoded corpus cannot be kept in {str(cache)!r} ({error.strerror}); "
            f"free space there or choose another cache folder"
        ) from error
    pack = load_pack(target, key)
    if pack is None:
        raise CorpusError(
            f"the pack just written to {str(target)!r} does not read back; check the disk or choose another cache"
        )
    return pack


def fingerprint(folder: Folder, options: Options, cache: Path) -> str:
    """A pack's key: SHA-256 over the format, the options, and each file's name and content."""
    files = (*folder.clips, *folder.noise, *folder.lists)
    content = digests([file.path for file in files], folder.root, cache)
    named = [(file.name, digest.hex()) for file, digest in zip(files, content, strict=True)]
    reading = msgspec.structs.replace(options.reading, choice=PLAIN.choice, unknown_speakers=False, table=None)
    text = msgspec.json.encode((FORMAT, options.rate_hz, reading, named))
    return hashlib.sha256(text).hexdigest()[:32]


def _check_unchanged(folder: Folder, options: Options, cache: Path, key: str) -> None:
    """Hold what was decoded to what it is kept as: another program may have written meanwhile."""
    if fingerprint(folder, options, cache) != key:
        raise CorpusError(
            f"files in {str(folder.root)!r} changed while they were read; "
            f"wait until nothing writes there, then give the same command again"
        )


def _clear(target: Path) -> None:
    """Make way for a pack, also where a file lies in its place."""
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target, ignore_errors=True)
    else:
        target.unlink(missing_ok=True)


def load_pack(target: Path, key: str | None = None) -> Pack | None:
    """The pack of a folder if it is there and whole and, where a key is given, was made under it."""
    try:
        text = read_stored(target / MANIFEST)
        body = unseal_json(text)
        if len(body) == len(text):  # not sealed: of an earlier version, or damaged
            return None
        record = msgspec.json.decode(body, type=Record)
        if key is not None and record.key != key:
            return None
        if zlib.crc32(bytes(record.manifest)) != record.manifest_crc:
            return None
        manifest = msgspec.json.decode(record.manifest, type=Manifest)
        sound = _load_array(target / SOUND, record.sound_crc)
        noise = _load_array(target / NOISE, record.noise_crc)
    except (OSError, ValueError):
        return None
    ends = np.cumsum(record.noise_samples, dtype=np.int64)[:-1]
    return Pack(manifest, record.rule, sound, tuple(np.split(np.asarray(noise), ends)) if record.noise_samples else ())


def encode_record(record: Record) -> bytes:
    """A record as it is kept on disk."""
    return seal_json(msgspec.json.encode(record))


def _load_array(path: Path, crc: int) -> NDArray[Any]:
    """Raises ValueError when the file's CRC-32 is another one; reading it all is what trusting it costs."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its other end
        raise DamagedFileError("not a regular file")
    if _crc(path) != crc:
        raise ValueError
    header_only = status.st_size <= 128
    array: NDArray[Any] = np.load(path, mmap_mode=None if header_only else "r", allow_pickle=False)
    return array


def _crc(path: Path) -> int:
    return zlib.crc32(np.memmap(path, dtype=np.uint8, mode="r").data)


def _build(
    place: Path, folder: Folder, assignment: Assignment, rate_hz: int, progress: Progress | None, key: str
) -> None:
    clips: list[Clip] = []
    bad: list[BadClip] = []
    noise_samples: list[int] = []
    step = paced(progress, "decoding", len(folder.clips) + len(folder.noise))
    with SampleWriter(place / SOUND) as sound:
        for file, samples in _decoded(folder.clips, rate_hz):
            if isinstance(samples, BadClip):
                bad.append(samples)
            else:
                split, speaker = assignment.splits[file.name], assignment.speakers[file.name]
                start = sound.append(samples)
                clips.append(
                    Clip(
                        name=file.name,
                        label=file.label,
                        split=split,
                        speaker=speaker,
                        start=start,
                        samples=len(samples),
                        fold=file.fold,
                        columns=dict(file.columns),
                    )
                )
            step(len(clips) + len(bad))
    with SampleWriter(place / NOISE) as noise:
        for done, (_, samples) in enumerate(_decoded(folder.noise, rate_hz), start=len(folder.clips) + 1):
            if isinstance(samples, BadClip):
                bad.append(samples)
            else:
                noise.append(as_float(samples))
                noise_samples.append(len(samples))
            step(done)
    manifest = Manifest(
        corpus="",
        rate_hz=rate_hz,
        labels=folder.labels,
        clips=tuple(clips),
        bad=tuple(bad),
        checksum="",
        source="",
    )
    checksum = _checksum(manifest, noise_samples, place)
    encoded = msgspec.json.encode(msgspec.structs.replace(manifest, checksum=checksum))
    record = Record(
        rule=assignment.rule,
        noise_samples=tuple(noise_samples),
        sound_crc=_crc(place / SOUND),
        noise_crc=_crc(place / NOISE),
        manifest_crc=zlib.crc32(encoded),
        manifest=msgspec.Raw(encoded),
        key=key,
    )
    write_whole(place / MANIFEST, encode_record(record))


def _decoded(files: Sequence[File], rate_hz: int) -> Iterator[tuple[File, Sound | BadClip]]:
    """Decode in threads, in order, never more than one batch ahead in memory."""

    def whole(path: Path, silent: bool) -> Sound | str:
        if path.is_dir():
            return "a link to a folder, which is not followed"
        try:
            return decode(path, rate_hz, silent=True) if silent else decode(path, rate_hz)
        except ClipError as error:
            return str(error)

    def clips(of_one: tuple[Path, list[File]]) -> list[tuple[File, Sound | BadClip]]:
        sound = whole(of_one[0], of_one[1][0].silent)
        return [(file, _cut(file, sound, rate_hz)) for file in of_one[1]]

    # the parts of a recording follow each other, so that it is decoded once for all of them
    queue = ((path, list(parts)) for path, parts in groupby(files, key=lambda file: file.path))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        while batch := list(islice(queue, _BATCH)):
            for found in list(pool.map(clips, batch)):
                yield from found


def _cut(file: File, sound: Sound | str, rate_hz: int) -> Sound | BadClip:
    """A clip out of its recording, or the reason why there is none."""
    if isinstance(sound, str):
        return BadClip(name=file.name, reason=sound)
    if not file.part:
        return sound
    last = None if file.end is None else round(file.end * rate_hz)
    part = sound[round(file.start * rate_hz) : last]
    if not len(part):
        lasts = len(sound) / rate_hz
        return BadClip(name=file.name, reason=f"it begins at {file.start:g} s, and the recording lasts {lasts:g} s")
    return part


def _checksum(manifest: Manifest, noise_samples: list[int], place: Path) -> str:
    """SHA-256 over all that a result can depend on, and nothing else: not where the folder lies, not in what order."""
    clips = [(c.name, c.label, c.split, c.speaker, c.samples) for c in manifest.clips]
    digest = hashlib.sha256(msgspec.json.encode((manifest.rate_hz, manifest.labels, clips, noise_samples)))
    for name in (SOUND, NOISE):  # their headers say the sample type
        digest.update(np.memmap(place / name, dtype=np.uint8, mode="r").data)
    return digest.hexdigest()
