"""Override a study's seeds, folds and settings; parse what ``--set`` gives, and say what it replaces."""

from __future__ import annotations

import difflib
import operator
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from cello.errors import ConfigError, unknown
from cello.models.config import stated_cells
from cello.study.config import StudyConfig, check_count, check_study
from cello.study.match import Match
from cello.study.settings import (
    SECTIONS,
    Settings,
    brief,
    check_section,
    known_settings,
    merge,
    shown_name,
    stored_name,
    stored_names,
)
from cello.study.space import TuneConfig

_NAMED = 3


def override(
    study: StudyConfig,
    seeds: Sequence[int] | None = None,
    settings: Mapping[str, Any] | None = None,
    match: Match | None = None,
    folds: str | None = None,
) -> StudyConfig:
    """The study with other seeds or folds, matched, with settings as ``{"optimiser.epochs": 3}`` that win in every row.

    Raises:
        ConfigError: a key that no section has, or a value of the wrong type.
        StudyError: no seeds, or a seed twice.
    """
    if seeds is not None:
        check_count(study, len(seeds), study.name)
    extra: Settings = {}
    for key, value in stored_names(stated_cells(settings or {}, "model.")).items():
        section, _, field = key.partition(".")
        if section not in SECTIONS:
            raise ConfigError(f"override: {unknown('section', section, SECTIONS, 'Write section.key.')}")
        check_section({field: value}, section, "override", section)
        extra.setdefault(section, {})[field] = value
    changed = msgspec.structs.replace(
        study,
        seeds=study.seeds if seeds is None else tuple(map(operator.index, seeds)),
        match=match or study.match,
        folds=study.folds if folds is None else folds,
        rows=tuple(msgspec.structs.replace(row, **merge(row.settings, extra)) for row in study.rows),
    )
    check_study(changed, study.name)
    return changed


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
