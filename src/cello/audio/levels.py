"""Recognise what the first two levels of folders stand for: labels, speakers, splits or folds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cello.audio.layout import SPLIT_NAMES
from cello.audio.names import CALLED, fields, share

Kind = Literal["label", "split", "fold", "speaker", "unsure"]

_FOLD = re.compile(r"(folds?|cv|part|set|group)[\W_]?\d+|\d{1,2}[\W_]?fold", re.IGNORECASE)
_IDENTIFIER = re.compile(r"[a-z]{0,3}\d+[a-z]?", re.IGNORECASE)
_SURE = 0.8
_MOST_LABELS = 60


@dataclass(frozen=True)
class Layout:
    """What the top folders are, and a pattern with named groups that reads the label and the rest from a name.

    ``pattern`` is empty where the labels are in no folder and no part of the files' names suggests itself, and where
    two levels of folders may be the labels ("unsure"); ``sentence`` says what was seen.
    """

    kind: Kind
    pattern: str
    sentence: str

    @property
    def certain(self) -> bool:
        """Whether the folders alone determine the layout, without a guess from file names."""
        return self.kind in ("split", "fold") and self.pattern.startswith("^") and "(?=/)" not in self.pattern


def recognise(names: Sequence[str]) -> Layout:
    """The layout of a corpus from its clips' names, POSIX paths below its folder.

    >>> recognise(["train/yes/a.wav", "train/no/b.wav", "test/yes/c.wav", "test/no/d.wav"]).pattern
    '^(?P<split>[^/]+)/(?P<label>[^/]+)/'
    >>> recognise(["yes/a.wav", "no/b.wav"]).kind
    'label'
    """
    tops = sorted({name.split("/", 1)[0] for name in names})
    kind = _kind(tops, names)
    shared = _second_level(names)
    inner = {SPLIT_NAMES.get(name.casefold()) for name in shared}
    if kind == "label" and len(inner) > 1 and None not in inner:
        what = f"the folders {_some(shared)} inside the labels are splits"
        return Layout("split", "^(?P<label>[^/]+)/(?P<split>[^/]+)/", what)
    if (
        kind == "label"
        and len(tops) > 1
        and len(shared) > 1
        and share(shared, _IDENTIFIER) < _SURE
        and share(shared, CALLED) < _SURE
    ):
        both = (
            f"each of the folders {_some(tops)} holds the same folders {_some(shared)}; either level may be the labels"
        )
        return Layout("unsure", "", both)
    if kind == "label":
        return Layout("label", "^(?P<label>[^/]+)/", f"labels are the folders {_some(tops)}")
    what = f"the folders {_some(tops)} are {kind}s"
    if shared:
        return Layout(
            kind, f"^(?P<{kind}>[^/]+)/(?P<label>[^/]+)/", f"{what}, and those in them ({_some(shared)}) labels"
        )
    field = _label_field(names)
    if field is None:
        return Layout(kind, "", f"{what}, and no folder is a label")
    pattern, values = field
    return Layout(kind, _with_label(kind, pattern), f"{what}, and labels may be in the files' names ({_some(values)})")


def _kind(tops: Sequence[str], names: Sequence[str]) -> Kind:
    lower = [top.lower() for top in tops]
    if len(tops) > 1 and all(top in SPLIT_NAMES for top in lower) and len({SPLIT_NAMES[top] for top in lower}) > 1:
        return "split"
    if len(tops) > 1 and share(tops, _FOLD) == 1:
        return "fold"
    if len(tops) > 1 and share(tops, CALLED) >= _SURE:
        return "speaker"
    below = _second_level(names)
    if len(tops) > 2 and below and share(tops, _IDENTIFIER) >= _SURE and share(below, _IDENTIFIER) < 1 - _SURE:
        return "speaker"
    return "label"


def _second_level(names: Sequence[str]) -> list[str]:
    """Names of the folders on the second level, where all clips lie in such and most of these recur in several tops."""
    parts = [name.split("/") for name in names]
    if min(map(len, parts), default=0) < 3:
        return []
    pairs = {(part[0], part[1]) for part in parts}
    in_tops = Counter(below for _, below in pairs)
    tops = len({top for top, _ in pairs})
    recurring = sum(count >= min(2, tops) for count in in_tops.values())
    return sorted(in_tops) if 1 < len(in_tops) <= _MOST_LABELS and recurring >= _SURE * len(in_tops) else []


def _label_field(names: Sequence[str]) -> tuple[str, list[str]] | None:
    """The part of the files' names that takes most values, but few enough for labels, each on many clips."""
    tops = [name.split("/", 1)[0] for name in names]
    found = []
    for pattern, values in fields(names):
        counts = Counter(values)
        told_by_top = len(set(zip(tops, values, strict=True))) == len(set(tops))
        if not told_by_top and 2 <= len(counts) <= _MOST_LABELS and min(counts.values()) >= len(set(tops)):
            found.append((pattern, sorted(counts)))
    return max(found, key=lambda field: len(field[1]), default=None)


def _with_label(kind: Kind, pattern: str) -> str:
    """The pattern of a part of the file's name, its group named, behind a group for the folder on top."""
    named = re.sub(r"(?<!\\)\((?!\?)", "(?P<label>", pattern, count=1)
    return rf"^(?P<{kind}>[^/]+)(?=/).*{named}"


def _some(values: Sequence[str]) -> str:
    return ", ".join(values[:3]) + (", …" if len(values) > 3 else "")
