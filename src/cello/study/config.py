"""Define a study: its base, columns, rows, seeds and folds; refuse one that nobody can plan."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from cello.audio.folds import NONE, check_rule
from cello.errors import CorpusError, StudyError, unknown
from cello.models.config import stated_cells
from cello.study.match import Match
from cello.study.presented import Stage, presented
from cello.study.reference_figures import ReferenceFigures
from cello.study.settings import SECTIONS, Settings, brief, stored_names
from cello.study.space import LAST, Tuned

MOST_RUNS = 1_000_000


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

    ``protocol`` is a label for people, empty where none is stated, ``notebook`` the file name of the report's notebook,
    ``reference_figures`` what stands beside the study's own; ``stage`` is how older studies name the last two, and is
    read only.
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
    protocol: str = ""
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
    def label(self) -> str:
        """The protocol as folders and stores know it: older ones wrote "fair" where none was stated."""
        return self.protocol or "fair"

    @property
    def fold_rule(self) -> str:
        """How the corpus is divided into folds; ``none`` where it is not."""
        return str(self.folds)

    @property
    def reference(self) -> str:
        """The row that the others are matched to; empty where they are not."""
        return "" if self.match == "width" else self.match_to or self.rows[0].name


def columns_of(study: StudyConfig) -> tuple[Column, ...]:
    """The study's columns, or the one without a name."""
    return study.columns or (Column(name=""),)


def stated(study: StudyConfig) -> list[tuple[str, Settings]]:
    """What the base, each column and each row state, by their paths in the file."""
    rows = [(f"rows[{index}]", row.settings) for index, row in enumerate(study.rows)]
    columns = [(f"columns[{index}]", column.settings) for index, column in enumerate(study.columns)]
    return [("base", study.base.settings), *columns, *rows]


def check_study(study: StudyConfig, file: str) -> None:
    """Refuse a study without runs, with too many, or with two of one name.

    Raises:
        StudyError: what is wrong, with ``file`` before it.
    """
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
    for path, settings in stated(study):
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
    rows, columns = len(study.rows), len(columns_of(study))
    if rows * columns * seeds > MOST_RUNS:
        raise StudyError(
            f"{file}: {rows} rows × {columns} columns × {seeds} seeds of study {study.name!r} are more than the "
            f"{MOST_RUNS} runs that a study may have; give fewer seeds"
        )
