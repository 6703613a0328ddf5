"""Define the flags with which a study is named and changed, the same for running and for tuning it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import UseAppendAction, arg

from cello.cli.sound import Sound, corpus_slug, file_name
from cello.training.execution import ExecutionConfig

if TYPE_CHECKING:
    from cello.execution.workers import Workers
    from cello.study.config import StudyConfig


@dataclass(frozen=True, kw_only=True)
class StudyOptions(Sound):
    """How a study is changed, on which clips and by whom it is trained, and where the results go."""

    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    workers: Annotated[
        int | None,
        arg(
            help="runs at a time, one process and one thread each; by default one for each GPU, else for each core, "
            "or all workers of a cluster"
        ),
    ] = None
    cluster: Annotated[
        str | None,
        arg(help="train on this Dask cluster: tcp://HOST:8786 or its scheduler file", metavar="ADDRESS|FILE"),
    ] = None
    stall_minutes: Annotated[
        float, arg(help="restart a run elsewhere if it finishes no epoch within this many minutes")
    ] = 60.0
    protocol: Annotated[
        str | None,
        arg(help="settings of a built-in study: fair (default), published (the study Cello grew from), quick"),
    ] = None
    match: Annotated[
        Literal["width", "parameters", "flops"] | None, arg(help="match models by width, parameters or FLOPs")
    ] = None
    set_: Annotated[
        UseAppendAction[tuple[str, ...]],
        arg(
            name="set",
            help="a setting of every run or trial, as model.hidden=96; wins over base, columns, rows; may be repeated",
            metavar="KEY=VALUE",
        ),
    ] = ()

    def settings_asked(self) -> dict[str, Any]:
        """What ``--set`` gives, by dotted names."""
        from cello.study.overrides import parse_overrides

        return parse_overrides(self.set_)

    def warn_of_replaced(self, study: StudyConfig, settings: Mapping[str, Any]) -> None:
        """Say which settings that the study states are replaced."""
        from cello.study.overrides import replaced

        for sentence in replaced(study, settings):
            warnings.warn(sentence, stacklevel=3)

    def workers_asked(self) -> Workers:
        """Who trains: processes of this machine, or a cluster."""
        from cello.execution.workers import Workers

        return Workers(
            count=self.workers, cluster=self.cluster, stall_minutes=self.stall_minutes, execution=self.execution
        )

    def default_folder(self, *parts: str) -> Path:
        """Where results go unless ``--out`` says: a folder of the corpus's, named by these parts."""
        return Path("results") / corpus_slug(self.spec) / file_name("-".join(parts))
