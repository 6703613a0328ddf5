"""Studies and tunings that were begun when a setting had another default go on with that one."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from cello.models.config import ModelConfig
from cello.study.plan import PlannedRun, StudyConfig

FORMER = {"readout": "last"}
"""Settings of ``model`` whose default has changed, with what it was."""


def as_begun(asked: StudyConfig, begun: StudyConfig, runs: Iterable[PlannedRun]) -> StudyConfig:
    """The study with former defaults stated in its base, where the study that was begun states none and has them.

    It is for planning, and for a study that is written anew from its runs: what is stored stays as people wrote it.
    """
    rows, columns = {row.name: row.model for row in begun.rows}, {column.name: column.model for column in begun.columns}
    planned = list(runs)
    base = dict(asked.base.model)
    for setting, former in FORMER.items():
        if setting in begun.base.model or former == getattr(ModelConfig(), setting):
            continue
        free = (run for run in planned if setting not in {**rows.get(run.row, {}), **columns.get(run.column, {})})
        run = next(free, None)
        if run is not None and getattr(run.config.model, setting) == former:
            base.setdefault(setting, former)
    return msgspec.structs.replace(asked, base=msgspec.structs.replace(asked.base, model=base))
