"""Read reference figures: other people's results that a report shows beside a study's own."""

from __future__ import annotations

import math
import tomllib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import msgspec

from cello.errors import ConfigError, unknown
from cello.files import DamagedFileError, read_text
from cello.study.settings import brief, readable

BUILTIN = ("gates", "windows")
"""The reference figures that come with Cello, by name."""
LARGEST_FILE = 1 << 20
"""Bytes that a file of reference figures may have."""
MOST_DECIMALS = 6


class Figure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One column of the reference table: ``key`` is its name in the models' values, ``measured`` what it really is."""

    key: str
    measured: str
    decimals: int = 2


class ReferenceModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One row of the reference table; runs of these ``cells`` stand beside it, ``values`` go by the figures' keys."""

    name: str
    cells: tuple[str, ...] = ()
    values: dict[str, float] = {}


class ReferenceFigures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A reference table, sentences, or both, with what each figure measured.

    Example:
        >>> ReferenceFigures(name="mine", sentences=("Smith (2020) report 93.1 % on other clips.",)).heading
        'Reference figures'

    Attributes:
        name: what reports with one row a run call them.
        corpus: show them only beside clips of this kind ("speech-commands": its words, Cello's own renderings too); beside any unless stated.
        heading: of the report's section.
        title: of the table.
        caption: below the table; ``{labels}`` and ``{corpus}`` become the study's own.
        model_heading: of the column of model names.
        group: the heading over the figures.
        figures: the columns.
        models: the rows.
        sentences: paragraphs that stand before the table, or without one.
    """  # noqa: E501 (help lines are read whole)

    name: str
    corpus: Literal["speech-commands"] | None = None
    heading: str = "Reference figures"
    title: str = "Reference figures and what they measured"
    caption: str = ""
    model_heading: str = "Reference model"
    group: str = "Reference"
    figures: tuple[Figure, ...] = ()
    models: tuple[ReferenceModel, ...] = ()
    sentences: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        keys = [figure.key for figure in self.figures]
        if not self.models and not self.sentences:
            raise ValueError(f"reference figures {brief(self.name)} are empty; add [[models]] or sentences")
        if len(set(keys)) < len(keys):
            raise ValueError(f"figures of {brief(self.name)} share a key ({', '.join(keys)}); each must be unique")
        for figure in self.figures:
            if not 0 <= figure.decimals <= MOST_DECIMALS:
                raise ValueError(f"figure {brief(figure.key)}: decimals={figure.decimals}; give 0 to {MOST_DECIMALS}")
        for model in self.models:
            _check_values(model, keys)


def _check_values(model: ReferenceModel, keys: list[str]) -> None:
    for key, value in model.values.items():
        if key not in keys:
            known = f"known: {', '.join(keys)}" if keys else "there are no [[figures]]"
            raise ValueError(f"model {brief(model.name)} has a value for {brief(key)}, which is not a figure; {known}")
        if not math.isfinite(value):
            raise ValueError(f"model {brief(model.name)}: {key}={value} is not finite; leave out what is not known")


def builtin_figures(name: str) -> ReferenceFigures:
    """Reference figures that come with Cello.

    >>> [model.name for model in builtin_figures("gates").models][:2]
    ['LSTM', 'Peephole']
    """
    return _builtin(name)


@cache
def _builtin(name: str) -> ReferenceFigures:
    file = resources.files("cello.study") / "builtin" / "reference_figures" / f"{name}.toml"
    return _parsed(file.read_text("utf-8"), file.name)


def resolved(table: dict[str, Any], file: str) -> dict[str, Any]:
    """A study file's table with the reference figures that it names, by a built-in name or a path from its folder.

    Raises:
        ConfigError: a name that does not exist, a file that cannot be read or is no table of reference figures.
    """
    stated = table.get("reference_figures")
    return {**table, "reference_figures": _named(stated, file)} if isinstance(stated, str) else table


def _named(stated: str, file: str) -> Any:
    if stated in BUILTIN:
        return msgspec.to_builtins(builtin_figures(stated))
    if not stated.endswith(".toml"):
        hint = "Or give the path of a .toml file."
        raise ConfigError(f"{file}: reference_figures: {unknown('table', stated, BUILTIN, hint)}")
    path = Path(file).parent / stated
    try:
        text = read_text(path, LARGEST_FILE)
    except (OSError, DamagedFileError) as error:
        reason = getattr(error, "strerror", None) or f"it is {error}"
        raise ConfigError(
            f"{file}: reference_figures = {brief(stated)} cannot be read: {reason}; give the path of a TOML file, seen "
            f"from the study's file"
        ) from error
    return msgspec.to_builtins(_parsed(text, str(path)))


def _parsed(text: str, file: str) -> ReferenceFigures:
    try:
        table: dict[str, Any] = tomllib.loads(text)
        return msgspec.convert(table, ReferenceFigures)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{file}: {readable(str(error))}") from error
    except (ValueError, RecursionError) as error:
        reason = error if isinstance(error, tomllib.TOMLDecodeError) else "a value cannot be read"
        raise ConfigError(f"{file}: not valid TOML: {reason}; mend it there") from error
