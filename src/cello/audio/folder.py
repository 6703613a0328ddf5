"""List the clips of a folder of class folders without reading audio."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cello.audio.corpus import Split
from cello.audio.decode import SUFFIXES
from cello.audio.layout import SPLIT_NAMES, check_labels, is_junk, is_sound
from cello.audio.levels import Layout, recognise
from cello.audio.reading import PLAIN, Reading
from cello.audio.table import read_table, resolve
from cello.errors import CorpusError

NOISE_FOLDERS = ("_background_noise_", "background_noise")
LISTS: Mapping[str, Split] = {"validation_list.txt": "validation", "testing_list.txt": "test"}


@dataclass(frozen=True)
class File:
    """One file of a corpus, or the part of it from ``start`` to ``end`` seconds: ``name`` is its POSIX path, in NFC.

    ``labelled``, ``split``, ``speaker``, ``fold`` and ``columns`` are what a table or a pattern says of it; its label
    is the first folder of its name where nothing does. A ``silent`` one may be all zero.
    """

    name: str
    path: Path
    labelled: str = ""
    split: Split | None = None
    speaker: str = ""
    fold: str = ""
    start: float = 0.0
    end: float | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    silent: bool = False

    @property
    def label(self) -> str:
        return self.labelled or self.name.split("/", 1)[0]

    @property
    def part(self) -> bool:
        """Only a part of the file is the clip."""
        return self.start > 0 or self.end is not None


@dataclass(frozen=True)
class Folder:
    """What lies in a corpus folder: labels and clips sorted by name, noise, split lists; ``empty`` class folders.

    ``rule`` says in words where splits that the clips have of their own come from. ``texts`` are files beside the clips
    that are none by their names.
    """

    root: Path
    labels: tuple[str, ...]
    clips: tuple[File, ...]
    noise: tuple[File, ...]
    lists: tuple[File, ...]
    empty: tuple[str, ...] = ()
    rule: str = ""
    texts: tuple[str, ...] = ()


def scan(root: Path, reading: Reading = PLAIN) -> Folder:
    """List the clips of a folder with their labels: by a table, a pattern, or the folders that they lie in.

    Every visible file at any depth below is a clip unless its name says that it is something else (``notes.txt``): one
    that is not sound is reported when it is decoded. Hidden files and folders are not looked at, nor what operating
    systems leave (``Thumbs.db``, ``__MACOSX``). Folders of splits or folds that hold class folders are read as such.

    Raises:
        CorpusError: the folder does not exist, cannot be listed, has fewer than two labels, folders of speakers on top,
            two files of one name, or a name that is not UTF-8; a table or pattern that does not fit.
    """
    if not root.is_dir():
        raise CorpusError(
            f"corpus folder {str(root)!r} does not exist or is not a folder; give a folder of class folders"
        )
    if reading.table is not None:
        return _tabled(root, reading)
    try:
        tops = [top for top in root.iterdir() if not is_junk(top.name) and (top.is_dir() or reading.pattern)]
        found = [file for top in tops for file in _files_of(top)]
    except OSError as error:
        raise CorpusError(f"{error.filename!r} cannot be listed ({error.strerror}); make it readable") from error
    found.sort(key=lambda file: file.name)
    noise = _noise(found)
    clips = [file for file in found if file.name.split("/", 1)[0] not in NOISE_FOLDERS]
    texts = tuple(clip.name for clip in clips if "/" in clip.name and not is_sound(clip.name))
    _check_names(root, (*clips, *noise))
    rule = ""
    if reading.pattern is not None:
        clips, rule = [_named(clip, reading.pattern) for clip in clips if is_sound(clip.name)], "the pattern"
    elif layout := recognised(root, [clip.name for clip in clips if is_sound(clip.name)]):
        clips = [_named(clip, layout.pattern) for clip in clips if is_sound(clip.name)]
        rule = f"folders, since {layout.sentence}"
    else:
        check_labels(root, [clip.name for clip in clips])
        clips = [clip for clip in clips if is_sound(clip.name)]
    lists = tuple(File(name, root / name) for name in LISTS if (root / name).exists() or (root / name).is_symlink())
    folder = Folder(root, _labels(root, clips), tuple(clips), noise, () if rule else lists, rule=rule, texts=texts)
    if rule:
        return folder
    names = {unicodedata.normalize("NFC", top.name) for top in tops}
    return replace(folder, empty=tuple(sorted(names - set(folder.labels) - set(NOISE_FOLDERS))))


def _labels(root: Path, clips: Sequence[File]) -> tuple[str, ...]:
    labels = tuple(sorted({clip.label for clip in clips}))
    if len(labels) < 2:
        raise CorpusError(
            f"the clips of {str(root)!r} have {f'only one label ({labels[0]!r})' if labels else 'no label'}; "
            f"a classifier needs at least two"
        )
    return labels


def _noise(files: Sequence[File]) -> tuple[File, ...]:
    """The recordings of background noise among all files."""
    return tuple(
        file for file in files if file.name.split("/", 1)[0] in NOISE_FOLDERS and file.path.suffix.lower() in SUFFIXES
    )


def _named(clip: File, pattern: str) -> File:
    """A clip with what a pattern with named groups reads off its name."""
    match = re.search(pattern, clip.name)
    found = {name: value for name, value in match.groupdict().items() if value} if match else {}
    if "label" not in found:
        raise CorpusError(f"pattern {pattern!r} finds no label in {clip.name!r}; it must match every name")
    split = SPLIT_NAMES.get(found["split"].casefold()) if "split" in found else None
    if "split" in found and split is None:
        raise CorpusError(
            f"pattern {pattern!r} finds the split {found['split']!r} in {clip.name!r}; "
            f"splits are train, validation and test"
        )
    return replace(
        clip, labelled=found["label"], split=split, speaker=found.get("speaker", ""), fold=found.get("fold", "")
    )


def recognised(root: Path, names: Sequence[str]) -> Layout | None:
    """Recognise top folders that are splits or folds of class folders; None for class folders.

    Raises:
        CorpusError: the top folders are speakers, or may be; or labels are in the files' names.
    """
    sounding = [name for name in names if is_sound(name)]
    if not sounding:
        return None
    layout = recognise(sounding)
    if layout.kind == "label" or (layout.kind in ("split", "fold") and not layout.pattern):
        return None
    if layout.certain:
        return layout if all(re.search(layout.pattern, name) for name in names) else None
    if layout.kind == "unsure":
        raise CorpusError(
            f"the labels of {str(root)!r} are unclear: {layout.sentence}; give --pattern '^(?P<label>[^/]+)/' for the "
            f"outer folders, --pattern '^(?P<speaker>[^/]+)/(?P<label>[^/]+)/' for the inner ones"
        )
    hint = f"give --pattern '{layout.pattern}'" if layout.pattern else "say where the label is with --pattern"
    raise CorpusError(
        f"the labels of {str(root)!r} are not its folders: {layout.sentence}; {hint}, or a table with --table"
    )


def _tabled(root: Path, reading: Reading) -> Folder:
    """The clips of a table, whose files lie below the root or beside the table."""
    table = Path(reading.table or "").expanduser()
    table = table if table.exists() or not (root / table).exists() else root / table
    entries = read_table(table, reading.columns)
    places = resolve(entries, root, table)
    clips = [
        File(
            unicodedata.normalize("NFC", entry.name),
            places[entry.path],
            labelled=entry.label,
            split=entry.split,
            speaker=entry.speaker or "",
            fold=entry.fold or "",
            start=entry.start or 0.0,
            end=entry.end,
            columns=entry.columns,
        )
        for entry in entries
    ]
    clips.sort(key=lambda clip: clip.name)
    _check_names(root, clips)
    noise = _noise([file for name in NOISE_FOLDERS if (root / name).is_dir() for file in _files(root / name, name)])
    named = File(table.name, table)
    return Folder(root, _labels(root, clips), tuple(clips), noise, (named,), rule=f"the table {table.name}")


def _files_of(top: Path) -> Iterator[File]:
    name = unicodedata.normalize("NFC", top.name)
    if top.is_dir():
        yield from _files(top, top.name)
    elif name not in LISTS:
        yield File(name, top)


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
