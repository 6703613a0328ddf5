"""Which settings a run has, and how one that does not exist or cannot be is refused."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, get_type_hints

import msgspec

from cello.errors import ConfigError
from cello.training.config import CorpusRef, RunConfig

SECTIONS: dict[str, type[msgspec.Struct]] = {
    name: kind
    for name, kind in get_type_hints(RunConfig).items()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind is not CorpusRef
}

Settings = dict[str, dict[str, Any]]


def merge(under: Settings, over: Settings) -> Settings:
    """Both, the second where they differ."""
    return {section: {**under.get(section, {}), **over.get(section, {})} for section in SECTIONS}


def check_keys(table: Mapping[str, Any], kind: type[msgspec.Struct], file: str, path: str, *also: str) -> None:
    """Refuse keys that are no field of ``kind``, nor ``also`` known; errors name the place by ``file`` and ``path``.

    Raises:
        ConfigError: the key, the nearest that exists, all that exist.
    """
    known = (*kind.__struct_fields__, *also)
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            full = f"{path}.{key}" if path else key
            raise ConfigError(f"{file}: unknown key {full}{hint} Known: {', '.join(sorted(known))}.")


def check_section(values: Mapping[str, Any], section: str, file: str, path: str) -> None:
    """Refuse settings that a section does not have, and values of the wrong type.

    Raises:
        ConfigError: the setting, the value, and what would be legal.
    """
    kind = SECTIONS[section]
    check_keys(values, kind, file, path)
    hints = get_type_hints(kind)
    for key, value in values.items():
        try:
            msgspec.convert(value, hints[key])
        except msgspec.ValidationError as error:
            raise ConfigError(
                f"{file}: {path}.{key} = {value!r}: {readable(str(error))}{_choices(hints[key])}"
            ) from error


def _choices(hint: Any) -> str:
    names = [repr(value) for value in getattr(hint, "__args__", ()) if isinstance(value, str)]
    return f"; choose one of {', '.join(names)}" if names else ""


def readable(text: str) -> str:
    """What msgspec says of a wrong value, without its signs."""
    return text.replace("`$.", "`").replace(" - at `$`", "").replace("`", "'")
