"""Read a study file and plan its runs: rows × columns × seeds (× folds). Needs no torch."""

from __future__ import annotations

import math
import operator
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from cello.audio.folds import NONE, check_rule
from cello.errors import CellError, ConfigError, CorpusError, ModelError, StudyError, unknown
from cello.features.frames import frame_count
from cello.files import DamagedFileError, read_text
from cello.models.config import ModelConfig, resolve, stated_cells
from cello.models.size import check_size
from cello.study.catalogue import BUILTIN, builtin_file, builtin_text
from cello.study.match import Match, matched
from cello.study.presented import Stage, presented
from cello.study.reference_figures import ReferenceFigures, resolved
from cello.study.settings import (
    SECTIONS,
    Settings,
    brief,
    check_keys,
    check_section,
    merge,
    readable,
    stored_names,
)
from cello.study.space import LAST, TuneConfig, Tuned, parse_tune
from cello.training.config import CorpusRef, RunConfig, ids

LARGEST_FILE = 1 << 24
"""Bytes that a study's file may have."""
MOST_RUNS = 1_000_000
MANY_CLIPS = 500
"""How many clips of a label a corpus is taken to have where a run's time is guessed before anything is known of it."""
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


class Base(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Part of a ``RunConfig``: only the keys that are stated, each checked against the section it belongs to."""

    features: dict[str, Any] = {}
    augment: dict[str, Any] = {}
    model: dict[str, Any] = {}
    optimiser: dict[str, Any] = {}
    data: dict[str, Any] = {}

    def __post_init__(self) -> None:
        for section in SECTIONS:
            msgspec.structs.force_setattr(self, section, stored_names(getattr(self, section), section))
        msgspec.structs.force_setattr(self, "model", stated_cells(self.model))

    @property
    def settings(self) -> Settings:
        return {name: getattr(self, name) for name in SECTIONS}


class Row(Base, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line of the study's table; what it states wins over its column and the base."""

    name: str


class Column(Base, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One column of the study's table; what it states wins over the base."""

    name: str


class StudyConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One question asked of many runs: every row in every column with every seed.

    ``protocol`` is a label for people, ``notebook`` the file name of the report's notebook, ``reference_figures`` what
    stands beside the study's own; ``stage`` is how older studies name the last two, and is read only.
    Without columns there is one, whose name is empty.

    ``match``: rows are compared at the hidden sizes that they state ("width"), or at those that bring their models
    nearest to one row's, in each column, in "parameters" or in "flops" (of the recurrent layers for one frame). That
    row is ``match_to``, the first unless said; at equal widths it only waits to be asked for.
    ``folds`` runs each of them once a fold: ``column``, ``speaker`` or a number, as ``cello.audio.folds`` has them.
    ``tuned`` is how the rows came by their settings, where ``cello tune`` wrote them.
    """

    name: str
    title: str = ""
    notebook: str | None = None
    reference_figures: ReferenceFigures | None = None
    stage: Stage = msgspec.UNSET
    protocol: str = "fair"
    match: Match = "width"
    match_to: str | None = None
    seeds: tuple[int, ...] = (0,)
    folds: int | str = NONE
    base: Base = Base()
    columns: tuple[Column, ...] = ()
    rows: tuple[Row, ...] = ()
    tuned: Tuned | None = None

    def __post_init__(self) -> None:
        for name, value in presented(self.stage, self.notebook, self.reference_figures).items():
            msgspec.structs.force_setattr(self, name, value)

    @property
    def fold_rule(self) -> str:
        """How the corpus is divided into folds; ``none`` where it is not."""
        return str(self.folds)

    @property
    def reference(self) -> str:
        """The row that the others are matched to; empty where they are not."""
        return "" if self.match == "width" else self.match_to or self.rows[0].name


Place = tuple[str, str, int] | tuple[str, str, int, str]


class PlannedRun(msgspec.Struct, frozen=True, kw_only=True):
    """One cell of the table with one seed, and one fold where there are.

    Two rows may plan the same ``id``: it is computed once, and shown twice.
    """

    id: str
    row: str
    column: str
    seed: int
    config: RunConfig

    @property
    def fold(self) -> str:
        """The fold that tests; empty where there are none."""
        return self.config.data.fold

    @property
    def place(self) -> Place:
        """Where the run stands in its study."""
        return (self.row, self.column, self.seed, self.fold) if self.fold else (self.row, self.column, self.seed)

    def __str__(self) -> str:
        fold = f"fold {self.fold}" if self.fold else ""
        return ", ".join(part for part in (self.row, self.column, f"seed {self.seed}", fold) if part)


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
    if protocol is not None and protocol != study.protocol:
        raise StudyError(
            f"{path}: the file states protocol = {study.protocol!r}, but {protocol!r} was asked for; "
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
    for path, settings in _stated(study):
        for section, values in settings.items():
            check_section(values, section, file, f"{path}.{section}")
    _check_study(study, file)
    return study, tune


def _fault(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "lists or tables are nested too deeply"
    return str(error) if isinstance(error, tomllib.TOMLDecodeError) else f"a value cannot be read: {error}"


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
    _check_study(changed, study.name)
    return changed


def plan(
    study: StudyConfig,
    corpus: CorpusRef,
    labels: int | None = None,
    resolver: Callable[[ModelConfig], ModelConfig] = resolve,
    folds: Sequence[str] = (),
) -> tuple[PlannedRun, ...]:
    """Every run of the study: seed by seed, fold by fold, then the longest first, so that no core waits at the end.

    ``labels`` is how many the corpus has; only a study matched by parameters needs to know. ``resolver`` finds the
    equations of cells of one's own: the one of this default loads their files, which a study that was read from a
    store must not do. ``folds`` are the corpus's, which a study of folds needs to know.

    Raises:
        ConfigError: settings that do not go together, with the row and column that they meet in.
        CellError, ModelError: a cell that does not exist.
        StudyError: no rows, no seeds, a name twice, or rows that cannot be matched.

    >>> study = load_study("gates", "published")
    >>> [run.seed for run in plan(study, CorpusRef(name="tones", checksum="0" * 64))][::6]
    [0, 1, 2]
    """
    places = _places(study, corpus, resolver)
    for column in _columns(study):
        rows = {row.name: places[row.name, column.name] for row in study.rows}
        found = matched(rows, study.reference, study.match, labels, _where(study, column))
        places |= {(row, column.name): config for row, config in found.items()}
    order = sorted(places, key=lambda place: -cost(places[place]))
    own = {fold: {place: on_fold(places[place], fold) for place in order} for fold in _folds(study, folds)}
    named = {
        (fold, place): dict(zip(study.seeds, ids(config, study.seeds), strict=True))
        for fold, configs in own.items()
        for place, config in configs.items()
    }
    return tuple(
        PlannedRun(
            id=named[fold, place][seed],
            row=place[0],
            column=place[1],
            seed=seed,
            config=msgspec.structs.replace(config, seed=seed),
        )
        for seed in study.seeds
        for fold, configs in own.items()
        for place, config in configs.items()
    )


def on_fold(config: RunConfig, fold: str) -> RunConfig:
    """The run with this fold testing; the same where it already is."""
    if config.data.fold == fold:
        return config
    return msgspec.structs.replace(config, data=msgspec.structs.replace(config.data, fold=fold))


def _folds(study: StudyConfig, folds: Sequence[str]) -> Sequence[str]:
    """The folds to run, one without a name where there are none."""
    if study.fold_rule == NONE:
        return ("",)
    if not folds:
        raise StudyError(
            f"study {study.name!r} has folds = {study.fold_rule}, and its corpus is not divided into folds"
        )
    runs = len(study.rows) * len(_columns(study)) * len(study.seeds) * len(folds)
    if runs > MOST_RUNS:
        raise StudyError(
            f"{len(folds)} folds of study {study.name!r} make {runs:,} runs, more than the {MOST_RUNS} that one "
            f"may have; give fewer folds or seeds"
        )
    return folds


def sample_rate(study: StudyConfig) -> int:
    """The rate in hertz at which the study's corpus is to be read.

    Raises:
        StudyError: the runs need different rates.
        ConfigError, CellError, ModelError: as ``plan`` does.

    >>> sample_rate(load_study("gates"))
    16000
    """
    rates = {config.features.rate_hz for config in _places(study, CorpusRef(name="", checksum="")).values()}
    if len(rates) > 1:
        raise StudyError(
            f"study {study.name!r} has features.rate_hz = {', '.join(map(str, sorted(rates)))}, but reads its corpus "
            f"once; make it one study a rate"
        )
    return rates.pop()


def cost(config: RunConfig) -> float:
    """How long a run takes, up to a factor: multiplications for one second of sound, times clips and epochs."""
    features, model = config.features, config.model
    frames = frame_count(features.rate_hz, features.window_samples, features.hop_samples)
    steps = math.ceil(frames / model.frame_stacking)
    directions = 2 if model.bidirectional else 1
    upper = (model.layers - 1) * model.hidden * (directions + 1)
    layers = directions * model.hidden * (features.dimensions * model.frame_stacking + model.hidden + upper)
    gates = {"torch:rnn": 1, "torch:gru": 3}.get(model.cell, 4)  # most cells of the zoo are near the LSTM's four
    clips = config.data.clips_per_label or MANY_CLIPS
    return float(config.optimiser.epochs * clips * max(steps, 1) * max(layers, 1) * gates)


def _columns(study: StudyConfig) -> tuple[Column, ...]:
    return study.columns or (Column(name=""),)


def _where(study: StudyConfig, column: Column) -> str:
    return f"study {study.name!r}" + (f", column {column.name!r}" if column.name else "")


def _places(
    study: StudyConfig, corpus: CorpusRef, resolver: Callable[[ModelConfig], ModelConfig] = resolve
) -> dict[tuple[str, str], RunConfig]:
    """What each row and column of the table is to train, with the hidden size that it states."""
    _check_study(study, study.name)
    return {
        (row.name, column.name): _config(study, row, column, corpus, resolver)
        for row in study.rows
        for column in _columns(study)
    }


def _config(
    study: StudyConfig, row: Row, column: Column, corpus: CorpusRef, resolver: Callable[[ModelConfig], ModelConfig]
) -> RunConfig:
    settings = merge(merge(study.base.settings, column.settings), row.settings)
    where = f"study {study.name!r}, row {row.name!r}" + (f", column {column.name!r}" if column.name else "")
    try:
        config = msgspec.convert({"corpus": msgspec.to_builtins(corpus), **settings}, RunConfig)
        check_size(config.model, config.features.dimensions)
        return msgspec.structs.replace(config, model=resolver(config.model))
    except (CellError, ModelError) as error:
        raise type(error)(f"{where}: {error}") from error
    except (ConfigError, msgspec.ValidationError) as error:
        raise ConfigError(f"{where}: {readable(str(error))}") from error


def _stated(study: StudyConfig) -> list[tuple[str, Settings]]:
    rows = [(f"rows[{index}]", row.settings) for index, row in enumerate(study.rows)]
    columns = [(f"columns[{index}]", column.settings) for index, column in enumerate(study.columns)]
    return [("base", study.base.settings), *columns, *rows]


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


def _check_study(study: StudyConfig, file: str) -> None:
    """Refuse a study without runs, with too many, or with two of one name."""
    if not study.rows:
        raise StudyError(f"{file}: study {study.name!r} has no rows, so nothing to run; add at least one [[rows]]")
    if not study.seeds:
        raise StudyError(f"{file}: study {study.name!r} has no seeds, so nothing to run; write for example seeds = [0]")
    if min(study.seeds) < 0:
        raise StudyError(f"{file}: seed {min(study.seeds)} of study {study.name!r} is negative; seeds count from 0")
    if max(study.seeds) > LAST:
        raise StudyError(f"{file}: seed {brief(max(study.seeds))} of study {study.name!r} is too large; at most {LAST}")
    check_count(study, len(study.seeds), file)
    _check_folds(study, file)
    for kind, names in (
        ("row", [row.name for row in study.rows]),
        ("column", [column.name for column in study.columns]),
        ("seed", list(study.seeds)),
    ):
        twice = [name for name, times in Counter(names).items() if times > 1]
        if twice:
            raise StudyError(f"{file}: {kind} {twice[0]!r} stands twice in study {study.name!r}; each must be unique")
    names = [row.name for row in study.rows]
    if study.match_to is not None and study.match_to not in names:
        raise StudyError(f"{file}: match_to: {unknown(f'row of study {study.name!r}:', study.match_to, names)}")


def _check_folds(study: StudyConfig, file: str) -> None:
    try:
        check_rule(study.fold_rule)
    except CorpusError as error:
        raise StudyError(f"{file}: study {study.name!r}: {error}") from error
    for path, settings in _stated(study):
        if settings["data"].get("fold"):
            raise StudyError(
                f"{file}: {path}.data.fold is one fold, and a study runs all of them; write folds = 5 at its top, or "
                f"give --folds"
            )


def check_count(study: StudyConfig, seeds: int, file: str) -> None:
    """Refuse more runs than anyone can want, before all of them are written down.

    Raises:
        StudyError: how many rows, columns and seeds there are.
    """
    rows, columns = len(study.rows), len(_columns(study))
    if rows * columns * seeds > MOST_RUNS:
        raise StudyError(
            f"{file}: {rows} rows × {columns} columns × {seeds} seeds of study {study.name!r} are more than the "
            f"{MOST_RUNS} runs that a study may have; give fewer seeds"
        )
