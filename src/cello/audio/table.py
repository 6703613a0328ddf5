"""Read a table of clips: CSV, JSON lines or Parquet with a path and a label on each line."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from cello.audio.corpus import Split
from cello.audio.layout import SPLIT_NAMES
from cello.errors import CorpusError, unknown
from cello.files import DamagedFileError, read_stored, read_text

NAMES: Mapping[str, tuple[str, ...]] = {
    "path": (
        "path",
        "file",
        "filename",
        "file_name",
        "fname",
        "filepath",
        "file_path",
        "slice_file_name",
        "audio",
        "wav",
    ),
    "label": ("label", "category", "class", "class_name", "emotion", "word", "keyword", "target"),
    "split": ("split", "subset", "partition", "set"),
    "speaker": ("speaker", "speaker_id", "speakerid", "spk", "client_id", "actor", "subject", "participant", "user_id"),
    "fold": ("fold", "folds"),
    "start": ("start", "start_s", "onset", "begin"),
    "end": ("end", "end_s", "offset", "stop"),
}
"""What a column means by its name, in lower case, the likeliest name first."""

_LARGEST = 1 << 29
_DELIMITERS = (",", ";", "\t", "|")

_Line = tuple[int, dict[str, str]]
"""Where a line stands in its file, and its cells by column."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a table: a clip, or the part of a recording from ``start`` to ``end`` seconds.

    ``columns`` holds what else stands in the line, by the column's name.
    """

    path: str
    label: str
    split: Split | None = None
    speaker: str | None = None
    fold: str | None = None
    start: float | None = None
    end: float | None = None
    columns: dict[str, str] = {}

    @property
    def name(self) -> str:
        """The clip's name in its corpus: the path, with its part where it is only one.

        >>> Entry(path="a.wav", label="yes").name, Entry(path="a.wav", label="yes", start=0.5, end=1.25).name
        ('a.wav', 'a.wav#0.5-1.25')
        """
        if self.start is None and self.end is None:
            return self.path
        return f"{self.path}#{self.start or 0:g}-{'' if self.end is None else f'{self.end:g}'}"


def read_table(path: Path, columns: Mapping[str, str] | None = None) -> tuple[Entry, ...]:
    """Read the clips of a table in order. ``columns`` maps a meaning (of ``NAMES``) to a column.

    ``.csv`` and ``.tsv`` files may use commas, semicolons, tabs or bars; ``.jsonl`` holds an object a line; Parquet
    needs the extra ``cello-rnn[parquet]``. A column that is not named is found by its usual names; columns of start and
    end only where a file is on several lines, for many tables tell where a whole file was once cut from.

    Raises:
        CorpusError: the file cannot be read, has no column for path or label or not the one named, or a line without a
            path or a label, with an unknown split, with times that are none, or for a clip that an earlier line has.
    """
    lines = _lines(path)
    if not lines:
        raise CorpusError(f"table {str(path)!r} is empty; it must have a path and a label on each line")
    found = _columns(path, list(lines[0][1]), columns or {})
    if not _cuts(lines, found, columns or {}):
        found = {meaning: column for meaning, column in found.items() if meaning not in ("start", "end")}
    entries = tuple(_entry(f"line {number} of {path.name}", line, found) for number, line in lines)
    _check_once(path, entries)
    return entries


def _lines(path: Path) -> list[_Line]:
    kind = path.suffix.lower()
    try:
        if kind in (".jsonl", ".ndjson"):
            return _json_lines(path)
        if kind in (".parquet", ".pq"):
            return _parquet_lines(path)
        return _csv_lines(read_text(path, _LARGEST))
    except (OSError, DamagedFileError, csv.Error) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise CorpusError(
            f"table {str(path)!r} cannot be read: {reason}; give a CSV, JSON lines or Parquet file"
        ) from error


def _csv_lines(text: str) -> list[_Line]:
    head = text.split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(cell.strip() for cell in row)]
    return [(number, dict(zip(rows[0][1], row, strict=False))) for number, row in rows[1:]]


def _json_lines(path: Path) -> list[_Line]:
    found = []
    for number, line in enumerate(read_stored(path, _LARGEST).splitlines(), start=1):
        if line.strip():
            try:
                found.append((number, _texts(msgspec.json.decode(line, type=dict[str, Any]))))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise CorpusError(
                    f"line {number} of {path.name} is not a JSON object ({error}); write one object a line"
                ) from error
    return found


def _parquet_lines(path: Path) -> list[_Line]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_table as read_parquet
    except ImportError as error:
        raise CorpusError(f"reading {path.name} needs pyarrow; install cello-rnn[parquet], or give a CSV") from error
    try:
        return [(number, _texts(line)) for number, line in enumerate(read_parquet(path).to_pylist(), start=1)]
    except ArrowException as error:
        raise CorpusError(f"table {str(path)!r} is not a complete Parquet file ({error}); write it again") from error


def _texts(line: Mapping[str, Any]) -> dict[str, str]:
    return {key: "" if value is None else str(value).strip() for key, value in line.items()}


def _columns(path: Path, present: Sequence[str], named: Mapping[str, str]) -> dict[str, str]:
    """The column of each meaning that the table has."""
    for meaning, column in named.items():
        if meaning not in NAMES:
            raise CorpusError(unknown("meaning of a column", meaning, NAMES))
        if column not in present:
            raise CorpusError(unknown(f"column of {path.name}", column, present))
    by_name = {column.lower().replace(" ", "_"): column for column in reversed(present)}
    taken = set(named.values())
    found = dict(named)
    for meaning, names in NAMES.items():
        likely = [by_name[name] for name in names if name in by_name and by_name[name] not in taken]
        if likely:
            found.setdefault(meaning, likely[0])
    for meaning in ("path", "label"):
        if meaning not in found:
            raise CorpusError(
                f"table {path.name} has no column for the {meaning} of a clip (its columns: {', '.join(present)}); "
                f"name it with --columns {meaning}=COLUMN"
            )
    return found


def _cuts(lines: Sequence[_Line], found: Mapping[str, str], named: Mapping[str, str]) -> bool:
    """Whether times cut clips out of files, by the user's word or because a file is on several lines."""
    paths = [line.get(found["path"]) for _, line in lines]
    return "start" in named or "end" in named or len(set(paths)) < len(paths)


def _entry(place: str, line: Mapping[str, str], found: Mapping[str, str]) -> Entry:
    cells = {meaning: line.get(column) or "" for meaning, column in found.items()}
    for meaning in ("path", "label"):
        if not cells[meaning]:
            raise CorpusError(f"{place} has no {meaning} (column {found[meaning]!r}); fill it in or remove the line")
    start, end = (_seconds(place, found.get(which, which), cells.get(which, "")) for which in ("start", "end"))
    if end is not None and end <= (start or 0):
        raise CorpusError(f"{place} ends at {end:g} s, not after its start at {start or 0:g} s; correct the times")
    return Entry(
        path=cells["path"].replace("\\", "/"),
        label=cells["label"],
        split=_split(place, found.get("split", ""), cells.get("split", "")),
        speaker=cells.get("speaker") or None,
        fold=cells.get("fold") or None,
        start=start,
        end=end,
        columns={column: value for column, value in line.items() if column not in found.values() and column},
    )


def _split(place: str, column: str, text: str) -> Split | None:
    if not text:
        return None
    split = SPLIT_NAMES.get(text.lower())
    if split is None:
        raise CorpusError(
            f"{place} is in split {text!r} (column {column!r}); the splits are train, validation and test"
        )
    return split


def _seconds(place: str, column: str, text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise CorpusError(f"{place} has {text!r} in column {column!r}; give seconds, 1.25 for example")
    return value


def _check_once(path: Path, entries: Iterable[Entry]) -> None:
    seen: dict[str, str] = {}
    for entry in entries:
        label = seen.setdefault(entry.name, entry.label)
        if label != entry.label:
            raise CorpusError(
                f"table {path.name} gives {entry.name!r} the labels {label!r} and {entry.label!r}; "
                f"a clip has one label: leave one line"
            )
    if len(seen) < (total := sum(1 for _ in entries)):
        raise CorpusError(f"table {path.name} names {total - len(seen)} clips twice; remove the duplicate lines")


def resolve(entries: Iterable[Entry], root: Path, table: Path) -> dict[str, Path]:
    """Find the file of each path: below the root or beside the table, else the only file with that ending.

    Raises:
        CorpusError: files that are not there, or that two folders have; their count and the first are named.
    """
    wanted = dict.fromkeys(entry.path for entry in entries)
    found = {path: place for path in wanted if (place := _direct(path, root, table)) is not None}
    missing = [path for path in wanted if path not in found]
    if missing:
        by_name: dict[str, list[Path]] = {}
        for file in _all_files(root):
            by_name.setdefault(file.name, []).append(file)
        for path in missing:
            ending = [file for file in by_name.get(Path(path).name, []) if file.as_posix().endswith(f"/{path}")]
            if len(ending) > 1:
                raise CorpusError(
                    f"{path!r} of {table.name} is in {len(ending)} folders below {str(root)!r}; write its folder too"
                )
            if ending:
                found[path] = ending[0]
    missing = [path for path in wanted if path not in found]
    if missing:
        raise CorpusError(
            f"{len(missing)} of {len(wanted)} files of {table.name} are not below {str(root)!r}, {missing[0]!r} first; "
            f"give the folder that holds them with --corpus folder:PATH"
        )
    return found


def _direct(path: str, root: Path, table: Path) -> Path | None:
    return next((place for place in (root / path, table.parent / path) if place.is_file()), None)


def _all_files(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(folder, name) for name in files)
