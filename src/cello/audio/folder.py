"""A folder of class folders as a list of clips, before any sound is read."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cello.audio.corpus import Split
from cello.audio.decode import SUFFIXES
from cello.audio.layout import check_labels, is_junk
from cello.audio.splits import speaker_of, speaker_pattern, split_speakers
from cello.errors import CorpusError
from cello.files import DamagedFileError, read_text

NOISE_FOLDER = "_background_noise_"
LISTS: Mapping[str, Split] = {"validation_list.txt": "validation", "testing_list.txt": "test"}


@dataclass(frozen=True)
class File:
    """One file of a corpus: ``name`` is its POSIX path below the root, in NFC."""

    name: str
    path: Path

    @property
    def label(self) -> str:
        return self.name.split("/", 1)[0]


@dataclass(frozen=True)
class Folder:
    """What lies in a corpus folder: labels and clips sorted by name, noise, split lists; ``empty`` class folders."""

    root: Path
    labels: tuple[str, ...]
    clips: tuple[File, ...]
    noise: tuple[File, ...]
    lists: tuple[File, ...]
    empty: tuple[str, ...] = ()


@dataclass(frozen=True)
class Assignment:
    """Who speaks in each clip and which split it is in, by name; ``rule`` says in words what decided."""

    speakers: Mapping[str, str]
    splits: Mapping[str, Split]
    rule: str


def scan(root: Path) -> Folder:
    """List a folder of class folders; its labels are the folders' names, sorted, in NFC.

    Every visible file at any depth below a class folder is a clip, whatever its name ends in: one that is not sound
    is reported when it is decoded, not passed over here. Hidden files and folders are not looked at, nor what operating
    systems leave (``Thumbs.db``, ``__MACOSX``).

    Raises:
        CorpusError: the folder does not exist, cannot be listed, has fewer than two class folders, folders of splits or
            folds instead, two files of one name, or a name that is not UTF-8.
    """
    if not root.is_dir():
        raise CorpusError(
            f"corpus folder {str(root)!r} does not exist or is no folder; give one that holds class folders"
        )
    try:
        tops = [top for top in root.iterdir() if top.is_dir() and not is_junk(top.name)]
        found = [file for top in tops for file in _files(top, top.name)]
    except OSError as error:
        raise CorpusError(f"{error.filename!r} cannot be listed ({error.strerror}); make it readable") from error
    found.sort(key=lambda file: file.name)
    clips = tuple(file for file in found if file.label != NOISE_FOLDER)
    noise = tuple(file for file in found if file.label == NOISE_FOLDER and file.path.suffix.lower() in SUFFIXES)
    labels = tuple(sorted({clip.label for clip in clips}))
    _check_names(root, (*clips, *noise))
    check_labels(root, [clip.name for clip in clips])
    lists = tuple(File(name, root / name) for name in LISTS if (root / name).exists() or (root / name).is_symlink())
    names = {unicodedata.normalize("NFC", top.name) for top in tops}
    return Folder(root, labels, clips, noise, lists, tuple(sorted(names - set(labels) - {NOISE_FOLDER})))


def assign(folder: Folder, pattern: str | None = None) -> Assignment:
    """Give every clip its speaker and split: by the lists where there are any, by the speaker's hash otherwise.

    Raises:
        CorpusError: a list that cannot be read, names a clip that is not there or is named twice; a pattern that finds
            no speaker; too few speakers.
    """
    compiled = None if pattern is None else speaker_pattern(pattern)
    speakers = {clip.name: speaker_of(clip.name, compiled) for clip in folder.clips}
    if not folder.lists:
        by_speaker, rule = split_speakers(speakers.values(), speakers_known(folder.clips, pattern))
        return Assignment(speakers, {name: by_speaker[who] for name, who in speakers.items()}, rule)
    return Assignment(speakers, _listed_splits(folder), " and ".join(LISTS))


def speakers_known(clips: Sequence[File], pattern: str | None) -> bool:
    """Whether clips tell who speaks, by a pattern or as those of Speech Commands do."""
    return pattern is not None or all("_nohash_" in clip.name for clip in clips)


def _files(folder: Path, name: str) -> Iterator[File]:
    with os.scandir(folder) as entries:
        for entry in entries:
            below = f"{name}/{entry.name}"
            if is_junk(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _files(folder / entry.name, below)
            else:  # a link to a folder too: it might lead round in a circle, so it is left for decoding to refuse
                yield File(unicodedata.normalize("NFC", below), folder / entry.name)


def _check_names(root: Path, clips: Sequence[File]) -> None:
    for before, clip in zip((None, *clips), clips, strict=False):
        if before is not None and clip.name == before.name:
            raise CorpusError(f"two files in {str(root)!r} have the same name {clip.name!r} in Unicode NFC; rename one")
        try:
            clip.name.encode()
        except UnicodeEncodeError as error:
            raise CorpusError(f"file name {clip.name!a} in {str(root)!r} is not UTF-8; rename it") from error


def _listed_splits(folder: Folder) -> dict[str, Split]:
    missing = LISTS.keys() - {file.name for file in folder.lists}
    if missing:
        raise CorpusError(
            f"{str(folder.root)!r} has {folder.lists[0].name} but no {missing.pop()}; "
            f"write both, or remove it to split by speaker"
        )
    splits: dict[str, Split] = {clip.name: "train" for clip in folder.clips}
    for file in folder.lists:
        for written in _lines(file.path):
            name = written if written in splits else written.replace("\\", "/").removeprefix("./")
            if name not in splits:
                raise CorpusError(
                    f"{str(file.path)!r} lists {written!r}, which is no clip of the corpus; "
                    f"{_list_remedy(name, splits)}"
                )
            if splits[name] not in ("train", LISTS[file.name]):
                raise CorpusError(f"{name!r} is in both lists of {str(folder.root)!r}; leave it in one of them")
            splits[name] = LISTS[file.name]
    return splits


def _list_remedy(name: str, clips: Mapping[str, Split]) -> str:
    last = name.rpartition("/")[2]
    if name.startswith(("/", "~")) or name[1:2] == ":" or any(clip.endswith(f"/{last}") for clip in clips):
        return "names are relative to the corpus, with /, as in " + repr(min(clips))
    return "add the file or remove the line"


def _lines(path: Path) -> Iterator[str]:
    try:
        text = read_text(path)
    except (OSError, DamagedFileError) as error:
        raise CorpusError(
            f"split list {str(path)!r} cannot be read ({getattr(error, 'strerror', None) or error}); "
            f"it must be UTF-8 text, one clip a line"
        ) from error
    for line in text.replace("\r", "\n").split("\n"):  # splitlines would cut names at rarer signs
        if name := line.strip():
            yield unicodedata.normalize("NFC", PurePosixPath(name).as_posix())
