"""Cache datasets: a manifest for each reading of a folder, beside its decoded audio."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cello.audio.assign import Assignment, assign
from cello.audio.corpus import BadClip, Clip, Manifest
from cello.audio.decoded import (
    Audio,
    Entry,
    Wanted,
    changed,
    clear,
    content,
    joined,
    load_audio,
    open_audio,
    unreadable,
)
from cello.audio.digests import digests
from cello.audio.folder import File, Folder
from cello.audio.origin import SplitRule, split_of
from cello.audio.progress import Progress
from cello.audio.reading import PLAIN, Reading
from cello.audio.staging import locked, used
from cello.errors import CorpusError
from cello.files import DamagedFileError, read_stored, seal_json, unseal_json, write_whole

FORMAT = 4
"""Counts up whenever the same files would be read otherwise; part of every manifest's key."""
MANIFESTS = "manifests"

_SILENT = "all silence: every sample is zero"


@dataclass(frozen=True)
class Options:
    """What determines a dataset besides its files."""

    rate_hz: int
    reading: Reading = PLAIN


@dataclass(frozen=True)
class CachedDataset:
    """An opened dataset: ``sound`` (ΣN,) int16 or float32 and ``noise`` recordings; ``split`` and ``rule`` say how."""

    manifest: Manifest
    rule: str
    split: SplitRule
    sound: NDArray[Any]
    noise: tuple[NDArray[np.float32], ...]


class Head(msgspec.Struct, frozen=True):
    """The corpus that a manifest belongs to: name and folder when it was made, and key of its decoded audio."""

    name: str
    root: str
    audio: str


class Record(msgspec.Struct, frozen=True):
    """A manifest as kept on disk, sealed; ``key`` is what it was made of.

    Its samples are those kept under ``audio`` whose index has the CRC-32 ``audio_crc``; ``noise`` are places among
    them. ``name`` is what the corpus was called when it was made.
    """

    key: str
    name: str
    root: str
    audio: str
    audio_crc: int
    rule: str
    noise: tuple[tuple[int, int], ...]
    manifest: Manifest
    split: SplitRule | None = None


def open_dataset(
    folder: Folder, options: Options, cache: Path, progress: Progress | None = None, name: str = ""
) -> CachedDataset:
    """Open the dataset of a folder from the cache if it is complete, else decode every file.

    It is found by the options and by every file's relative path and content, whatever their times say. Samples are
    found by content alone, so that labels and splits cost no second copy. What was torn or altered on disk is made
    again. ``name`` is what a user calls the corpus.

    Raises:
        CorpusError: the clips cannot be split, change while they are read, or the cache cannot be written.
    """
    files = (*folder.clips, *folder.noise, *folder.lists)
    found = digests([file.path for file in files], folder.root, cache)
    key = _key(files, found, options)
    path = cache / MANIFESTS / f"{key}.json"
    dataset = _load(path, key, cache)
    if dataset is not None:
        return dataset
    assignment = assign(folder, options.reading)
    contents = [content(file, digest) for file, digest in zip(files, found, strict=True)]

    def check() -> None:
        """Check that no file changed while it was decoded."""
        if digests([file.path for file in files], folder.root, cache) != found:
            raise changed(folder.root)

    try:
        audio = open_audio(_wanted(folder, contents, options.rate_hz), cache, progress, check)
        record = _record(folder, contents, assignment, audio)
        record = msgspec.structs.replace(record, key=key, name=name or folder.root.name, root=str(folder.root))
        with locked(path):
            if path.is_dir() or path.is_symlink():
                clear(path)
            write_whole(path, seal_json(msgspec.json.encode(record)))
    except OSError as error:
        raise CorpusError(
            f"the decoded corpus cannot be kept in {str(cache)!r} ({error.strerror}); "
            f"free space there or choose another cache folder"
        ) from error
    return _dataset(record, audio)


def _key(files: Sequence[File], found: Sequence[bytes], options: Options) -> str:
    """A manifest's key: SHA-256 over the format, the options, and each file's name and content."""
    named = [(file.name, digest.hex()) for file, digest in zip(files, found, strict=True)]
    silent = [file.name for file in files if file.silent]
    reading = msgspec.structs.replace(options.reading, choice=PLAIN.choice, unknown_speakers=False, table=None)
    text = msgspec.json.encode((FORMAT, options.rate_hz, reading, named, silent))
    return hashlib.sha256(text).hexdigest()[:32]


def _wanted(folder: Folder, contents: Sequence[str], rate_hz: int) -> Wanted:
    clips = dict(zip(contents[: len(folder.clips)], folder.clips, strict=True))
    noise = dict(zip(contents[len(folder.clips) :], folder.noise, strict=False))
    return Wanted(
        rate_hz,
        {name: file for name, file in clips.items() if name},
        {name: file for name, file in noise.items() if name},
    )


def heads(cache: Path) -> Iterator[tuple[Path, Head]]:
    """Iterate over the heads of all undamaged manifests in the cache."""
    for path in sorted((cache / MANIFESTS).glob("[!.]*.json")):
        with suppress(OSError, ValueError):
            yield path, msgspec.json.decode(_sealed(path), type=Head)


def find_dataset(cache: Path, checksum: str) -> CachedDataset | None:
    """Find a dataset decoded here by its checksum."""
    for path in sorted((cache / MANIFESTS).glob("[!.]*.json")):
        with suppress(OSError, ValueError):
            if checksum.encode() in read_stored(path):
                record = _read(path)
                dataset = _load(path, record.key, cache) if record.manifest.checksum == checksum else None
                if dataset is not None:
                    return dataset
    return None


def _read(path: Path) -> Record:
    return msgspec.json.decode(_sealed(path), type=Record)


def _sealed(path: Path) -> bytes:
    """Raises OSError and ValueError where there is no manifest as it was written."""
    text = read_stored(path)
    body = unseal_json(text)
    if len(body) == len(text):
        raise DamagedFileError("not sealed")
    return body


def _load(path: Path, key: str, cache: Path) -> CachedDataset | None:
    """The dataset of a manifest if it and the samples are there and whole, and it was made under this key."""
    try:
        record = _read(path)
    except (OSError, ValueError):
        return None
    if record.key != key:
        return None
    audio = load_audio(cache, record.audio)
    if audio is None or audio.crc != record.audio_crc:
        return None
    used(path)
    return _dataset(record, audio)


def _dataset(record: Record, audio: Audio) -> CachedDataset:
    noise = tuple(np.asarray(audio.noise[start : start + samples]) for start, samples in record.noise)
    return CachedDataset(record.manifest, record.rule, record.split or split_of(record.rule), audio.sound, noise)


def _record(folder: Folder, contents: Sequence[str], assignment: Assignment, audio: Audio) -> Record:
    clips: list[Clip] = []
    bad: list[BadClip] = []
    kept: list[Entry] = []
    for file, name in zip(folder.clips, contents, strict=False):
        entry = audio.clip(name, file) if name else Entry(reason=unreadable(file))
        if reason := _reason(entry, file):
            bad.append(BadClip(name=file.name, reason=reason))
            continue
        kept.append(entry)
        clips.append(
            Clip(
                name=file.name,
                label=file.label,
                split=assignment.splits[file.name],
                speaker=assignment.speakers[file.name],
                start=entry.start,
                samples=entry.samples,
                fold=file.fold,
                columns=dict(file.columns),
            )
        )
    noise: list[tuple[int, int]] = []
    for file, name in zip(folder.noise, contents[len(folder.clips) :], strict=False):
        entry = audio.index.noise[name] if name else Entry(reason=unreadable(file))
        if reason := _reason(entry, file):
            bad.append(BadClip(name=file.name, reason=reason))
        else:
            noise.append((entry.start, entry.samples))
    manifest = Manifest(
        corpus="",
        rate_hz=audio.index.rate_hz,
        labels=folder.labels,
        clips=tuple(clips),
        bad=tuple(bad),
        checksum="",
        source="",
    )
    checksum = _checksum(manifest, kept, noise, audio)
    manifest = msgspec.structs.replace(manifest, checksum=checksum)
    split = assignment.split
    return Record("", "", "", audio.key, audio.crc, assignment.rule, tuple(noise), manifest, split)


def _reason(entry: Entry, file: File) -> str:
    return entry.reason or (_SILENT if entry.silent and not file.silent else "")


def _checksum(manifest: Manifest, kept: Sequence[Entry], noise: Sequence[tuple[int, int]], audio: Audio) -> str:
    """SHA-256 over all that a result can depend on, and nothing else: not where the folder lies, nor in what order.

    Samples count as two ``.npy`` files of these clips alone would hold them, whatever else the cache has decoded.
    """
    clips = [(c.name, c.label, c.split, c.speaker, c.samples) for c in manifest.clips]
    samples = [count for _, count in noise]
    digest = hashlib.sha256(msgspec.json.encode((manifest.rate_hz, manifest.labels, clips, samples)))
    narrow = all(entry.narrow for entry in kept)
    digest.update(_header("<i2" if narrow else "<f4", sum(entry.samples for entry in kept)))
    for some in joined(audio, kept, narrow):
        digest.update(some.data)
    digest.update(_header("<f4" if noise else "<i2", sum(samples)))
    for start, count in noise:
        digest.update(audio.noise[start : start + count].data)
    return digest.hexdigest()


def _header(dtype: str, samples: int) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": dtype, "fortran_order": False, "shape": (samples,)})
    return header.getvalue()
