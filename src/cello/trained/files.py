"""Predict many files, the unusable ones with their reasons. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from cello.audio.layout import is_junk, is_sound
from cello.errors import ClipError
from cello.trained.model import Prediction


class Predictor(Protocol):
    """What predicts files: the model of a run, or an exported one."""

    def predict_file(self, file: Path | str) -> Prediction: ...


class Unusable(NamedTuple):
    """A file that says nothing, and why."""

    file: str
    reason: str


def files_below(places: Iterable[Path]) -> Iterator[Path]:
    """The files named, and of each folder all that may be audio at any depth below, in the order of their names.

    Hidden files and what operating systems leave are not looked at; a link to a folder is not followed.
    """
    for place in places:
        if place.is_dir():
            below = (path for path in place.rglob("*") if not path.is_dir() or path.is_symlink())
            yield from sorted(path for path in below if _wanted(path.relative_to(place)))
        else:
            yield place


def _wanted(path: Path) -> bool:
    return is_sound(path.name) and not any(is_junk(part) for part in path.parts)


def each_prediction(model: Predictor, files: Iterable[Path]) -> Iterator[Prediction | Unusable]:
    """What a model says of each file, in their order."""
    for file in files:
        try:
            yield model.predict_file(file)
        except ClipError as error:
            yield Unusable(str(file), str(error))
