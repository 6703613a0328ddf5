"""Read a study from its TOML file, or a built-in one by name; every mistake is named by its path in the file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from cello.errors import ConfigError, StudyError, unknown
from cello.files import DamagedFileError, read_text
from cello.study.catalogue import BUILTIN, builtin_file, builtin_text
from cello.study.config import Base, Column, Row, StudyConfig, check_study, stated
from cello.study.reference_figures import resolved
from cello.study.settings import brief, check_keys, check_section, readable
from cello.study.space import TuneConfig, parse_tune

LARGEST_FILE = 1 << 24
"""Bytes that a study's file may have."""
EXAMPLES = {
    "name": 'name = "mine"',
    "notebook": 'notebook = "Results.ipynb"',
    "reference_figures": 'reference_figures = "figures.toml"',
    "match": 'match = "parameters"; the others are "width" and "flops"',
    "match_to": 'match_to = "LSTM", the name of a row',
    "seeds": "seeds = [0, 1, 2]",
    "folds": 'folds = "column", "speaker" or a number of folds',
    "base": "[base.optimiser] and below it epochs = 20",
    "columns": '[[columns]] and below it name = "clean"',
    "rows": '[[rows]] and below it name = "GRU"',
}
"""How the parts of a study file are written, for whoever wrote one otherwise."""


def load_study(name_or_path: str | Path, protocol: str | None = None) -> StudyConfig:
    """A built-in study by name and protocol ("fair" unless said), or the study of a TOML file.

    Raises:
        StudyError: a name that is not built in, or a protocol asked of a file that states another.
        ConfigError: a file that cannot be read, a key that does not exist, a value of the wrong type.

    >>> load_study("gates", "published").rows[0].name
    'LSTM'
    """
    return load_both(name_or_path, protocol)[0]


def load_both(name_or_path: str | Path, protocol: str | None = None) -> tuple[StudyConfig, TuneConfig]:
    """The study, and how its rows are tuned.

    Raises:
        StudyError, ConfigError: as ``load_study``.
    """
    if str(name_or_path) in BUILTIN:
        name = str(name_or_path)
        return _parse(builtin_text(name, protocol), builtin_file(name, protocol))
    path = Path(name_or_path)
    if path.suffix != ".toml":
        raise StudyError(unknown("study", str(name_or_path), BUILTIN, "Or give the path of a .toml file."))
    study, tune = _parse(_text(path), str(path))
    stated = f"protocol = {study.protocol!r}" if study.protocol else "no protocol"
    if protocol is not None and protocol != study.label:
        raise StudyError(
            f"{path}: the file states {stated}, but {protocol!r} was asked for; "
            f"leave the option out, or change the file"
        )
    return study, tune


def _text(path: Path) -> str:
    try:
        text = read_text(path, LARGEST_FILE)
    except OSError as error:
        raise ConfigError(
            f"study file {str(path)!r} cannot be read: {error.strerror or error}; give the path of a TOML file"
        ) from error
    except DamagedFileError as error:
        remedy = "save it as UTF-8" if "UTF-8" in str(error) else "give the path of a TOML file"
        raise ConfigError(f"study file {str(path)!r} is {error}; {remedy}") from error
    if "\0" in text:
        raise ConfigError(f"study file {str(path)!r} holds zero bytes, as UTF-16 does; save it as UTF-8")
    return text


def parse_study(text: str, file: str) -> StudyConfig:
    """The study that a TOML text describes; ``file`` is how errors name it."""
    return _parse(text, file)[0]


def _parse(text: str, file: str) -> tuple[StudyConfig, TuneConfig]:
    """The study of a TOML text, and its ``[tune]``, which is kept apart: it changes no run and no store."""
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, lists in lists in lists …
        raise ConfigError(f"{file}: not valid TOML: {_fault(error)}; correct the file") from error
    tune = parse_tune(table.pop("tune", {}), file)
    _check_table(table, StudyConfig, file, "")
    table = resolved(table, file)
    try:
        study = msgspec.convert(table, StudyConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{file}: {readable(str(error))}{_shape(str(error), table)}") from error
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
    for path, settings in stated(study):
        for section, values in settings.items():
            check_section(values, section, file, f"{path}.{section}")
    check_study(study, file)
    return study, tune


def _fault(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "lists or tables are nested too deeply"
    return str(error) if isinstance(error, tomllib.TOMLDecodeError) else f"a value cannot be read: {error}"


def _check_table(table: Mapping[str, Any], kind: type[msgspec.Struct], file: str, path: str) -> None:
    """Refuse keys that ``kind`` does not have, here and in the base, rows and columns below."""
    check_keys(table, kind, file, path, *(["tune"] if kind is StudyConfig else []))
    for key, below in (("base", Base), ("rows", Row), ("columns", Column)) if kind is StudyConfig else ():
        value = table.get(key, ())
        for index, item in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(item, dict):
                _check_table(item, below, file, f"{key}[{index}]" if isinstance(value, list) else key)


def _shape(text: str, table: Mapping[str, Any]) -> str:
    """What a study file has where one is of the wrong shape, and what it could have."""
    found = re.search(r"at `\$\.(\w+)", text) or re.search(r"required field `(\w+)`", text)
    key = found[1] if found else ""
    stated = f" ({key} = {brief(table[key])})" if not isinstance(table.get(key), (dict, list, type(None))) else ""
    return f"{stated}; write for example {EXAMPLES[key]}" if key in EXAMPLES else stated
