"""Recognise folders that are not a corpus, and say where the class folders are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path, PurePosixPath

from cello.audio.corpus import Split
from cello.audio.decode import SUFFIXES
from cello.errors import CorpusError

SPLIT_NAMES: Mapping[str, Split] = {
    **dict.fromkeys(("train", "training", "tr"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "devel", "development", "cv"), "validation"),
    **dict.fromkeys(("test", "testing", "tst", "te", "eval", "evaluation"), "test"),
}
_FOLD = re.compile(r"fold[ _-]?\d+|\d+[ _-]?fold", re.IGNORECASE)
_JUNK = re.compile(
    r"thumbs\.db|ehthumbs(_vista)?\.db|desktop\.ini|icon\r|__macosx|@eadir|\$recycle\.bin|#recycle|#snapshot|@recycle"
    r"|system volume information|lost\+found|temporary items|network trash folder|@?paxheaders?(\..*)?",
    re.IGNORECASE,
)
_TABLES = frozenset({".csv", ".tsv", ".jsonl", ".parquet", ".xls", ".xlsx"})
_NO_SOUND = frozenset(
    {
        *_TABLES,
        *(".bib", ".doc", ".docx", ".htm", ".html", ".ini", ".ipynb", ".jpeg", ".jpg", ".json", ".log", ".md", ".pdf"),
        *(".png", ".py", ".rst", ".sh", ".svg", ".tex", ".toml", ".txt", ".xml", ".yaml", ".yml"),
        *(".gif", ".lab", ".odt", ".rtf", ".srt", ".textgrid", ".vtt"),
    }
)
_TEXTS = frozenset({"authors", "changelog", "copying", "license", "licence", "makefile", "readme"})
"""Names without an ending that are texts."""
_LOOKED_AT = 100
_DEEP = 3
_SHOWN = 5


def is_junk(name: str) -> bool:
    """Whether a file or folder is hidden, or made by an operating system or network drive.

    >>> [name for name in ("Thumbs.db", "._yes.wav", "__MACOSX", "yes", "Icon\\r") if not is_junk(name)]
    ['yes']
    """
    return name.startswith(".") or _JUNK.fullmatch(name) is not None


def is_sound(name: str) -> bool:
    """Whether a file may be audio, by its name.

    >>> [name for name in ("yes/1.wav", "yes/2", "yes/notes.txt", "README") if is_sound(name)]
    ['yes/1.wav', 'yes/2']
    """
    ending = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a hundred thousand names a time
    return ending not in _NO_SOUND if ending else name.rpartition("/")[2].lower() not in _TEXTS


def check_labels(root: Path, names: Sequence[str]) -> None:
    """Check that the class folders of a folder are labels; ``names`` are all clip names.

    Raises:
        CorpusError: there are fewer than two, or they are splits or folds.
    """
    labels = sorted({name.split("/", 1)[0] for name in names})
    sounding = sorted({name.split("/", 1)[0] for name in names if is_sound(name)})
    if len(sounding) < 2 and (table := _table(root)):
        raise CorpusError(
            f"the labels of {str(root)!r} are in a table ({table}), not in folders; make one folder for each label, "
            f"with its clips inside"
        )
    if not labels:
        raise CorpusError(
            f"{str(root)!r} has no class folders with files in them; "
            f"a corpus has one folder of clips for each class{_elsewhere(root)}"
        )
    if len(sounding) < 2:
        only = (sounding or labels)[0]
        others = [label for label in labels if label not in sounding]
        beside = f"; no audio in {listed(others)}" if others and sounding else ""
        raise CorpusError(
            f"{str(root)!r} has only one class ({only!r}){beside}; a classifier needs at least two"
            f"{_elsewhere(root, only) or ': add a class folder, or give the folder that holds all of them'}"
        )
    _check_splits(root, labels, names)
    if all(_FOLD.fullmatch(label) for label in labels):
        raise CorpusError(
            f"the folders of {str(root)!r} are folds ({listed(labels)}), not labels; "
            f"make one folder for each label, with its clips of all folds"
        )


def listed(names: Sequence[str]) -> str:
    """Some names quoted, and how many more there are.

    >>> listed(["no", "yes"]), listed(["a", "b", "c", "d", "e", "f", "g"])
    ("'no', 'yes'", "'a', 'b', 'c', 'd', 'e' and 2 more")
    """
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more


def _check_splits(root: Path, labels: Sequence[str], names: Sequence[str]) -> None:
    """Refuse folders of splits: a classifier of splits would be trained without a word."""
    splits = [label for label in labels if label.casefold() in SPLIT_NAMES]
    if len({SPLIT_NAMES[label.casefold()] for label in splits}) < 2:
        return
    inside: dict[str, set[str]] = {label: set() for label in splits}
    for label, *below in (name.split("/") for name in names):
        if label in inside and len(below) > 1:
            inside[label].add(below[0])
    shared = sorted(set.intersection(*inside.values()))
    if shared:
        raise CorpusError(
            f"the folders {listed(splits)} of {str(root)!r} are splits, and each holds {listed(shared)}; put all clips "
            f"of a label into one folder and write validation_list.txt and testing_list.txt, "
            f"or give {str(root / _training(splits))!r}"
        )
    if len(splits) == len(labels):
        raise CorpusError(
            f"the folders {listed(splits)} of {str(root)!r} are splits, not labels; make one folder for each label and "
            f"write validation_list.txt and testing_list.txt"
        )


def _training(splits: Sequence[str]) -> str:
    return next((name for name in splits if SPLIT_NAMES[name.casefold()] == "train"), splits[0])


def _table(root: Path) -> str:
    """A table in a folder or one below it, by its path from there; empty if there is none."""
    for folder in (root, *_folders(root)):
        for entry in _entries(folder):
            if PurePosixPath(entry.name).suffix.lower() in _TABLES and entry.is_file():
                return Path(entry.path).relative_to(root).as_posix()
    return ""


def _elsewhere(root: Path, label: str = "") -> str:
    """Where class folders lie, above or below; empty where none are seen."""
    below = root / label if label else root
    for _ in range(_DEEP):
        found = _folders(below)
        if below != root and _has_classes(below):
            return f". Its class folders lie in {str(below)!r}: give that folder"
        if len(found) != 1:
            break
        below = found[0]
    return "" if label else _flat(root)


def _flat(root: Path) -> str:
    """What a folder of sound files may be: a class itself, or clips whose names tell the label; empty without any."""
    if not any(Path(entry.name).suffix.lower() in SUFFIXES for entry in _entries(root)):
        return ""
    above = root.resolve().parent
    one = f"Is {root.resolve().name!r} one of them? Then give the folder above, {str(above)!r}. "
    return (
        f". {one if _has_classes(above) else ''}Do the names of its files tell the label? Then give --pattern, for "
        f"example '^(?P<label>[^_]+)_'"
    )


def _has_classes(folder: Path) -> bool:
    return len(list(islice(filter(_sounds, _folders(folder)), 2))) == 2


def _sounds(folder: Path) -> bool:
    """Whether sound files lie in a folder, or one level below."""
    places = (folder, *_folders(folder))
    return any(Path(entry.name).suffix.lower() in SUFFIXES for place in places for entry in _entries(place))


def _folders(folder: Path) -> list[Path]:
    return [Path(entry.path) for entry in _entries(folder) if entry.is_dir()]


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Some of what lies in a folder, and nothing of one that cannot be listed."""
    with suppress(OSError), os.scandir(folder) as entries:
        yield from islice((entry for entry in entries if not is_junk(entry.name)), _LOOKED_AT)
