"""Keep the former defaults of studies and tunings that were begun with them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import msgspec

from cello.models.config import ModelConfig
from cello.study.config import StudyConfig
from cello.study.plan import PlannedRun
from cello.study.settings import stored_name

FORMER = {"pooling": "last"}
"""Settings of ``model`` whose default has changed, with what it was."""
FORMER_LAYERS = ("windows", "windows-fixed-hop")
"""Built-in studies whose rows had PyTorch's layers before they had the cells of the same equations."""


def as_begun(asked: StudyConfig, begun: StudyConfig, runs: Iterable[PlannedRun]) -> StudyConfig:
    """The study with former defaults stated in its base, where the study that was begun states none and has them.

    It is for planning, and for a study that is written anew from its runs: what is stored stays as people wrote it.
    """
    asked = _with_former_layers(asked, begun)
    rows, columns = {row.name: row.model for row in begun.rows}, {column.name: column.model for column in begun.columns}
    planned = list(runs)
    base = dict(asked.base.model)
    for setting, former in FORMER.items():
        stored = stored_name(f"model.{setting}").removeprefix("model.")
        if stored in begun.base.model or former == getattr(ModelConfig(), setting):
            continue
        free = (run for run in planned if stored not in {**rows.get(run.row, {}), **columns.get(run.column, {})})
        run = next(free, None)
        if run is not None and getattr(run.config.model, setting) == former:
            base.setdefault(stored, former)
    return msgspec.structs.replace(asked, base=msgspec.structs.replace(asked.base, model=base))


def _with_former_layers(asked: StudyConfig, begun: StudyConfig) -> StudyConfig:
    """The rows of a built-in study with PyTorch's layers where it was begun with them, and a warning that says so."""
    before = {row.name: row.model.get("cell", "") for row in begun.rows}
    if asked.name not in FORMER_LAYERS:
        return asked
    rows = tuple(
        msgspec.structs.replace(row, model={**row.model, "cell": before[row.name]})
        if row.model.get("cell") and before.get(row.name) == f"torch:{row.model['cell']}"
        else row
        for row in asked.rows
    )
    if rows != asked.rows:
        warnings.warn(
            f"study {asked.name!r} was begun here with PyTorch's layers (torch:gru and others) and goes on with them; "
            f"choose another --out for Cello's own cells, which train faster",
            stacklevel=2,
        )
    return msgspec.structs.replace(asked, rows=rows)
