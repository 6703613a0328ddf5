"""List the settings of a run, and refuse unknown names and invalid values."""

from __future__ import annotations

import difflib
import inspect
import math
import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from cello.errors import LONGEST, ConfigError
from cello.training.config import CorpusRef, RunConfig, flat

SECTIONS: dict[str, type[msgspec.Struct]] = {
    name: kind
    for name, kind in get_type_hints(RunConfig).items()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind is not CorpusRef
}

TYPES = {name: get_type_hints(kind) for name, kind in SECTIONS.items()}
"""The type of each setting of a section; Python compiles every annotation whenever it is asked for them."""

Settings = dict[str, dict[str, Any]]
_PAIRS = [
    (f"{section}.{own}", f"{section}.{stored}")
    for section, kind in SECTIONS.items()
    for own, stored in zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True)
]
_STORED, _SHOWN = dict(_PAIRS), {stored: own for own, stored in _PAIRS}

MOST = 1_000_000
"""No count of anything in a setting is larger: hidden units, layers, epochs, masks, hertz."""
LONGEST_MS = 3_600_000
"""No time in a setting is longer: an hour."""


class Setting(NamedTuple):
    """A setting as people are told of it: its dotted name, its type, its default as TOML has it, a line of help."""

    name: str
    type: str
    default: str
    help: str


def known_settings() -> list[Setting]:
    """Every setting of a run, in the order of its sections and fields.

    >>> [setting for setting in known_settings() if setting.name == "optimiser.batch"]
    [Setting(name='optimiser.batch', type='whole number', default='64', help='clips in a training step')]
    """
    found = []
    for section, kind in SECTIONS.items():
        hints, told, defaults = TYPES[section], help_lines(kind), kind()
        for field in kind.__struct_fields__:
            default = toml_value(getattr(defaults, field))
            found.append(Setting(f"{section}.{field}", _type(hints[field]), default, told.get(field, "")))
    return found


def help_lines(kind: type) -> dict[str, str]:
    """What the docstring of a class of settings says of each, under ``Attributes:``; the one place of these texts."""
    _, _, below = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")
    items = re.findall(r"^    (\w+): (.*(?:\n {8,}.*)*)", below.partition("\n\n")[0], re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in items}


def toml_value(value: object) -> str:
    """A setting's value as a TOML file has it; empty for None, which a file leaves out.

    >>> [toml_value(value) for value in (None, True, 1e-6, "gru", (20.0, 0.0))]
    ['', 'true', '1e-6', '"gru"', '[20.0, 0.0]']
    """
    return "" if value is None else msgspec.json.encode(value).decode().replace(",", ", ")


def _type(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return ", ".join(f'"{choice}"' for choice in get_args(hint))
    if get_origin(hint) is tuple:
        return f"list of {_type(get_args(hint)[0])}s"
    names = {int: "whole number", float: "number", bool: "true or false", str: "text"}
    return " or ".join(names[one] for one in get_args(hint) or (hint,) if one is not type(None))


def stored_name(name: str) -> str:
    """A setting's dotted name as files and ids have it; a few are stored by a former name.

    >>> stored_name("model.pooling"), stored_name("model.readout"), stored_name("model.hidden")
    ('model.readout', 'model.readout', 'model.hidden')
    """
    return _STORED.get(name, name)


def shown_name(name: str) -> str:
    """A setting's dotted name as people are shown it, whichever of its names is given.

    >>> shown_name("model.readout"), shown_name("model.pooling"), shown_name("model.hidden")
    ('model.pooling', 'model.pooling', 'model.hidden')
    """
    return _SHOWN.get(name, name)


def stored_names(values: Mapping[str, Any], section: str = "") -> dict[str, Any]:
    """Settings by their stored names; with ``section`` the names given are those of its fields, else dotted ones.

    Raises:
        ConfigError: one setting is given by both of its names.
    """
    head = f"{section}." if section else ""
    found = {stored_name(f"{head}{key}").removeprefix(head): value for key, value in values.items()}
    if len(found) < len(values):
        names = [f"{head}{key}" for key in values]
        twice = next(name for name in names if stored_name(name) != name and stored_name(name) in names)
        raise ConfigError(f"{twice} and {stored_name(twice)} are one setting and cannot be combined")
    return found


def merge(under: Settings, over: Settings) -> Settings:
    """Both, the second where they differ."""
    return {section: {**under.get(section, {}), **over.get(section, {})} for section in SECTIONS}


def changed_settings(old: RunConfig, new: RunConfig) -> list[str]:
    """What differs between two runs, as sentences such as ``optimiser.epochs was 30, is 20``."""
    pairs = zip(flat(msgspec.to_builtins(old)), flat(msgspec.to_builtins(new)), strict=True)
    return [_changed_setting(key, before, after, new) for (key, before), (_, after) in pairs if before != after]


def _changed_setting(key: str, before: Any, after: Any, new: RunConfig) -> str:
    if key == "model.equations" and before and after:
        return f"the equations of {new.model.cell!r} have changed (fingerprint {before}, now {after})"
    return f"{shown_name(key)} was {before!r}, is {after!r}"


def check_keys(table: Mapping[str, Any], kind: type[msgspec.Struct], file: str, path: str, *also: str) -> None:
    """Refuse keys that are no field of ``kind``, nor ``also`` known; errors name the place by ``file`` and ``path``.

    Raises:
        ConfigError: the key, the nearest that exists, all that exist.
    """
    known = (*kind.__struct_fields__, *also)
    for key in table:
        if key not in known and key not in kind.__struct_encode_fields__:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            full = f"{path}.{key}" if path else key
            raise ConfigError(f"{file}: unknown key {_short(full)}{hint} Known: {', '.join(sorted(known))}.")


def check_section(values: Mapping[str, Any], section: str, file: str, path: str) -> None:
    """Refuse settings that a section does not have, and values of the wrong type.

    Raises:
        ConfigError: the setting, the value, and what would be legal.
    """
    kind = SECTIONS[section]
    check_keys(values, kind, file, path)
    hints = TYPES[section]
    for key, value in values.items():
        own = shown_name(f"{section}.{key}").removeprefix(f"{section}.")
        said = f"{file}: {path}.{own} = {brief(value)}"
        try:
            msgspec.convert(value, hints[own])
        except msgspec.ValidationError as error:
            raise ConfigError(f"{said}: {readable(str(error))}{_choices(hints[own])}") from error
        check_number(value, key, said)


def check_number(value: object, key: str, said: str) -> None:
    """Refuse numbers that no run could have; ``said`` is how the error begins.

    Raises:
        ConfigError: NaN, infinity, or a count or time above all bounds.
    """
    if isinstance(value, list | tuple):
        for one in value:
            check_number(one, key, said)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{said} is invalid: it must be finite")
    elif key.endswith("_ms") and isinstance(value, int | float) and abs(value) > LONGEST_MS:
        raise ConfigError(f"{said} is invalid: it must be at most {LONGEST_MS}, an hour")
    elif type(value) is int and abs(value) > MOST:
        raise ConfigError(f"{said} is invalid: it must be at most {MOST}")


def brief(value: object) -> str:
    """A value as a file states it, cut where it is long.

    >>> brief("a" * 300)[:8], len(brief("a" * 300))
    ("'aaaaaaa", 101)
    """
    try:
        return _short(repr(value))
    except ValueError:  # a whole number of thousands of digits
        return "a number of thousands of digits"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _choices(hint: Any) -> str:
    names = [repr(value) for value in getattr(hint, "__args__", ()) if isinstance(value, str)]
    return f"; choose one of {', '.join(names)}" if names else ""


def readable(text: str) -> str:
    """What msgspec says of a wrong value, without its signs."""
    said = text.replace("`$.", "`").replace(" - at `$`", "").replace("`", "'")
    return said if len(said) <= 5 * LONGEST else f"{said[: 4 * LONGEST]} … {said[-LONGEST:]}"
