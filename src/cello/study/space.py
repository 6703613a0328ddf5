"""Read ``[tune]`` of a study file: the search space, the number of trials, their epochs and seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from cello.errors import ConfigError, unknown
from cello.study.match import Match
from cello.study.settings import (
    MOST,
    SECTIONS,
    TYPES,
    brief,
    check_keys,
    check_number,
    check_section,
    readable,
    shown_name,
    stored_names,
)
from cello.training.config import RunConfig

LAST = 2**63 - 1
"""The largest seed: tables of other programs hold whole numbers of 64 bits."""
TUNABLE = ("augment", "model", "optimiser")
"""The sections that may be tried; sound and features are what columns compare, and the same for every row."""
FIXED = {
    "model.cell": "the cell is what rows compare",
    "model.equations": "the cell is what rows compare",
    "model.backend": "it changes no result",
    "optimiser.epochs": "every trial has the same; state epochs in [tune]",
}
SIZES = ("model.bidirectional", "model.hidden", "model.layers", "model.readout")
"""Settings that change how large a model is."""
EXAMPLE = (
    'write "optimiser.learning_rate" = { low = 1e-4, high = 1e-2, log = true } or "optimiser.batch" = '
    "{ choices = [32, 64] } under [tune.space]"
)


class Dimension(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One setting's values: all from ``low`` to ``high`` (evenly in the logarithm with ``log``), or ``choices``."""

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that must be legal for all to be: both bounds, or every choice."""
        return self.choices or (self.low, self.high)

    def __str__(self) -> str:
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        return f"{self.low:g} to {self.high:g}" + (", logarithmic" if self.log else "")


DEFAULT = {
    "optimiser.learning_rate": Dimension(low=1e-4, high=1e-2, log=True),
    "optimiser.weight_decay": Dimension(low=1e-5, high=1e-1, log=True),
    "model.dropout": Dimension(low=0.0, high=0.5),
}
"""What is tried where a study does not say."""


class TuneConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same for every row: ``trials`` runs of ``epochs`` (the study's own unless said), all with one ``seed``.

    ``column`` is where the rows are tuned, the study's first unless said.
    """

    trials: int = 20
    epochs: int | None = None
    seed: int = 0
    column: str | None = None
    space: dict[str, Dimension] = msgspec.field(default_factory=lambda: dict(DEFAULT))

    def __post_init__(self) -> None:
        for field, value, least in (("trials", self.trials, 1), ("epochs", self.epochs, 1), ("seed", self.seed, 0)):
            if value is not None and value < least:
                raise ConfigError(f"tune.{field}={value} is invalid: it must be at least {least}")
        for field, value, most in (
            ("trials", self.trials, MOST),
            ("epochs", self.epochs, MOST),
            ("seed", self.seed, LAST),
        ):
            if value is not None and value > most:
                raise ConfigError(f"tune.{field}={brief(value)} is too large; give at most {most}")


class Tuned(TuneConfig, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How the rows of a study came by their settings: a tuning that is over, of rows matched by ``match``."""

    match: Match = "width"

    def __str__(self) -> str:
        tried = "; ".join(f"{shown_name(name)} {values}" for name, values in sorted(self.space.items()))
        places = f" in column {self.column}" if self.column else ""
        return (
            f"{self.trials} trials of each row{places} (equal {self.match}), {self.epochs} epochs each, seed "
            f"{self.seed}, chosen by validation accuracy; trained without evaluating the test set. Tried: {tried}."
        )


def parse_tune(table: object, file: str) -> TuneConfig:
    """The ``[tune]`` of a study's file; ``file`` is how errors name it.

    Raises:
        ConfigError: a key or setting that does not exist, or values that cannot be tried.

    >>> parse_tune({"trials": 5}, "mine.toml").space["model.dropout"].high
    0.5
    """
    if not isinstance(table, dict):
        raise ConfigError(f"{file}: tune = {brief(table)} is not a table; write [tune] and below it trials = 20")
    check_keys(table, TuneConfig, file, "tune")
    stated = table.get("space", {})
    if not isinstance(stated, dict):
        raise ConfigError(f"{file}: tune.space = {brief(stated)} is not a table; {EXAMPLE}")
    if "space" in table and not stated:
        raise ConfigError(
            f"{file}: tune.space is empty, so nothing to try; leave it out for the usual one, or {EXAMPLE}"
        )
    space = _flat(stated)
    for name, dimension in space.items():
        _check_name(name, file)
        if not isinstance(dimension, dict):
            raise ConfigError(
                f"{file}: tune.space: {name} = {brief(dimension)} is one value, not a range or a list; {EXAMPLE}"
            )
        check_keys(dimension, Dimension, file, f"tune.space.{name}")
    try:
        config = msgspec.convert({**table, **({"space": stored_names(space)} if space else {})}, TuneConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{file}: tune: {readable(str(error))}; {EXAMPLE}") from error
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error
    for name, values in config.space.items():
        _check_values(name, values, file)
    return config


def whole(name: str) -> bool:
    """Whether a setting takes whole numbers only.

    >>> whole("model.hidden"), whole("model.dropout")
    (True, False)
    """
    return _hint(name) is int


def applied(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """The config with settings such as ``{"model.dropout": 0.1}``.

    Raises:
        ConfigError: an invalid value.
    """
    for name, value in values.items():
        section, _, field = shown_name(name).partition(".")
        changed = msgspec.structs.replace(getattr(config, section), **{field: value})
        config = msgspec.structs.replace(config, **{section: changed})
    return config


def _flat(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Names with their dots, whether the file quotes them or not."""
    flat: dict[str, Any] = {}
    for key, value in stated.items():
        if key in SECTIONS and isinstance(value, dict):
            flat |= {f"{key}.{field}": dimension for field, dimension in value.items()}
        else:
            flat[key] = value
    return flat


def _check_name(name: str, file: str) -> None:
    section, _, field = name.partition(".")
    if section not in TUNABLE:
        raise ConfigError(f"{file}: tune.space: {unknown('section', section, TUNABLE, f'In {name!r}; {EXAMPLE}.')}")
    check_keys({field: None}, SECTIONS[section], file, f"tune.space.{section}")
    if name in FIXED:
        raise ConfigError(f"{file}: tune.space: {name} cannot be tuned: {FIXED[name]}; leave it out of the space")


def _check_values(name: str, values: Dimension, file: str) -> None:
    low, high, where = values.low, values.high, f"{file}: tune.space: {shown_name(name)}"
    if bool(values.choices) == (low is not None or high is not None) or (low is None) != (high is None):
        raise ConfigError(f"{where} needs both low and high, or choices; {EXAMPLE}")
    for value in values.choices:
        if isinstance(value, list | dict):
            raise ConfigError(f"{where}: choices holds {brief(value)}, but each must be one value; {EXAMPLE}")
    if values.choices and (len(set(values.choices)) < 2 or len(set(values.choices)) < len(values.choices)):
        raise ConfigError(
            f"{where}: choices = {brief(list(values.choices))} is invalid: it must be two or more different values"
        )
    if low is not None and high is not None:
        if _hint(name) not in (int, float):
            raise ConfigError(f"{where} is not a number, so low and high are invalid: it must have choices = […]")
        for end in (low, high):
            check_number(end, name, f"{where}: {brief(end)}")
        if not low < high:
            raise ConfigError(f"{where}: low = {low} is not below high = {high}; change one of them")
        if values.log and low <= 0:
            raise ConfigError(f"{where}: low = {low} has no logarithm; give a low above 0, or leave out log = true")
    section, _, field = name.partition(".")
    for value in values.ends:
        check_section({field: value}, section, file, f"tune.space.{section}")


def _hint(name: str) -> Any:
    section, _, field = shown_name(name).partition(".")
    return TYPES[section][field]
