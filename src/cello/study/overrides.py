"""Parse settings given with ``--set``, and say which of a study's own they replace."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

from cello.errors import ConfigError
from cello.study.plan import StudyConfig
from cello.study.settings import brief, check_section, known_settings, shown_name, stored_name
from cello.study.space import TuneConfig

_NAMED = 3


def parse_overrides(assignments: Iterable[str]) -> dict[str, Any]:
    """Settings by their dotted names as they are stored, from texts such as ``model.hidden=96``.

    A value is read as TOML; what is no TOML is text, since a shell takes the quotes of ``model.cell="lstm"`` away.

    Raises:
        ConfigError: no ``=``, a setting that does not exist or is given twice, a value of the wrong type.

    >>> parse_overrides(["model.hidden=96", "model.cell=lstm", "data.test_snr_db=[20, 0]"])
    {'model.hidden': 96, 'model.cell': 'lstm', 'data.test_snr_db': [20, 0]}
    """
    names = [setting.name for setting in known_settings()]
    found: dict[str, Any] = {}
    for text in assignments:
        given, equals, value = (part.strip() for part in text.partition("="))
        name = shown_name(given)
        if not equals:
            raise ConfigError(f"--set {brief(text)} has no value; write KEY=VALUE, as model.hidden=96")
        if name == "folds":
            raise ConfigError(f"--set folds is invalid: folds belong to the study; give --folds {brief(value)}")
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ConfigError(f"--set: unknown setting {brief(name)}; {hint}cello study --settings lists all")
        if stored_name(name) in found:
            raise ConfigError(f"--set {name} is given twice; give it once")
        section, _, field = name.partition(".")
        found[stored_name(name)] = _value(value)
        check_section({field: found[stored_name(name)]}, section, "--set", section)
    return found


def _value(text: str) -> Any:
    try:
        table = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        return text
    return table["value"] if len(table) == 1 else text


def check_untuned(settings: Iterable[str], tune: TuneConfig) -> None:
    """Raises ConfigError for a setting that trials choose for themselves: ``--set`` would have no effect on it."""
    given = set(settings)
    if "optimiser.epochs" in given and tune.epochs is not None:
        raise ConfigError(
            f"--set optimiser.epochs does not reach the trials, which have {tune.epochs} epochs each by [tune]; give "
            f"--epochs for these"
        )
    for name in map(shown_name, sorted(given & set(tune.space))):
        raise ConfigError(
            f"--set {name} changes nothing: [tune.space] gives each trial its own; leave --set {name} out, or take it "
            f"out of the space"
        )


def replaced(study: StudyConfig, settings: Mapping[str, Any]) -> list[str]:
    """A sentence for each setting that some columns or rows state otherwise: what the table compared may be gone."""
    sentences = []
    for name, value in settings.items():
        section, _, field = name.partition(".")
        places = [
            f"{kind} {place.name!r} ({brief(place.settings[section][field])})"
            for kind, stated in (("column", study.columns), ("row", study.rows))
            for place in stated
            if place.settings[section].get(field, value) != value
        ]
        if places:
            more = f" and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
            sentences.append(
                f"{shown_name(name)} = {brief(value)} replaces what the study states in "
                f"{', '.join(places[:_NAMED])}{more}"
            )
    return sentences
