"""Plan a study's runs: rows × columns × seeds (× folds). Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec

from cello.audio.folds import NONE
from cello.cells.load import is_own, known
from cello.errors import CellError, ConfigError, ModelError, StudyError
from cello.features.config import FeatureConfig
from cello.features.frames import frame_count
from cello.models.config import ModelConfig, resolve
from cello.models.size import check_cell, check_size
from cello.study.config import MOST_RUNS, Column, Row, StudyConfig, check_study, columns_of
from cello.study.match import matched
from cello.study.settings import merge, readable
from cello.training.config import CorpusRef, RunConfig, ids

MANY_CLIPS = 500
"""How many clips of a label a corpus is taken to have where a run's time is guessed before anything is known of it."""
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

    >>> from cello.study.study_file import load_study
    >>> study = load_study("gates", "published")
    >>> [run.seed for run in plan(study, CorpusRef(name="tones", checksum="0" * 64))][::6]
    [0, 1, 2]
    """
    places = _places(study, corpus, resolver)
    for column in columns_of(study):
        rows = {row.name: places[row.name, column.name] for row in study.rows}
        found = matched(rows, study.reference, study.match, labels, _where(study, column))
        for row, config in found.items():
            _check_cell(config, _where(study, column, row))
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


def replicates(one: PlannedRun, other: PlannedRun) -> bool:
    """Whether two runs differ in the seed alone.

    >>> one = RunConfig(corpus=CorpusRef(name="tones", checksum="0" * 64))
    >>> runs = [PlannedRun(id=f"{n}", row="a", column="", seed=n, config=one) for n in range(2)]
    >>> replicates(*runs)
    True
    """
    return msgspec.structs.replace(one.config, seed=other.config.seed) == other.config


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
    runs = len(study.rows) * len(columns_of(study)) * len(study.seeds) * len(folds)
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

    >>> from cello.study.study_file import load_study
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
    directions = 2 if model.bidirectional else 1
    upper = (model.layers - 1) * model.hidden * (directions + 1)
    layers = directions * model.hidden * (features.dimensions * model.frame_stacking + model.hidden + upper)
    gates = {"torch:rnn": 1, "torch:gru": 3}.get(model.cell, 4)  # most cells of the zoo are near the LSTM's four
    clips = config.data.clips_per_label or MANY_CLIPS
    steps = steps_of_a_second(features, model)
    return float(config.optimiser.epochs * clips * steps * max(layers, 1) * gates)


def steps_of_a_second(features: FeatureConfig, model: ModelConfig) -> int:
    """The steps that a model makes in one second of sound, at least 1."""
    frames = frame_count(features.rate_hz, features.window_samples, features.hop_samples)
    return max(1, math.ceil(frames / model.frame_stacking))


def _where(study: StudyConfig, column: Column, row: str = "") -> str:
    named = f", row {row!r}" if row else ""
    return f"study {study.name!r}{named}" + (f", column {column.name!r}" if column.name else "")


def _check_cell(config: RunConfig, where: str) -> None:
    """Refuse a model whose cell cannot have its sizes; a cell that is only known where the study began is not asked."""
    model = config.model
    if is_own(model.cell) and known(model.cell, model.equations) is None:
        return
    try:
        check_cell(model, config.features.dimensions, steps_of_a_second(config.features, model))
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from error


def _places(
    study: StudyConfig, corpus: CorpusRef, resolver: Callable[[ModelConfig], ModelConfig] = resolve
) -> dict[tuple[str, str], RunConfig]:
    """What each row and column of the table is to train, with the hidden size that it states."""
    check_study(study, study.name)
    return {
        (row.name, column.name): _config(study, row, column, corpus, resolver)
        for row in study.rows
        for column in columns_of(study)
    }


def _config(
    study: StudyConfig, row: Row, column: Column, corpus: CorpusRef, resolver: Callable[[ModelConfig], ModelConfig]
) -> RunConfig:
    settings = merge(merge(study.base.settings, column.settings), row.settings)
    where = _where(study, column, row.name)
    try:
        config = msgspec.convert({"corpus": msgspec.to_builtins(corpus), **settings}, RunConfig)
        check_size(config.model, config.features.dimensions)
        return msgspec.structs.replace(config, model=resolver(config.model))
    except (CellError, ModelError) as error:
        raise type(error)(f"{where}: {error}") from error
    except (ConfigError, msgspec.ValidationError) as error:
        raise ConfigError(f"{where}: {readable(str(error))}") from error
