"""Say how many workers train a study, and where."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from cello.errors import StudyError
from cello.files import DamagedFileError, decode_json, read_stored
from cello.study.estimate import worker_count
from cello.training.execution import ExecutionConfig


class Workers(msgspec.Struct, frozen=True, kw_only=True):
    """How many runs train at a time, where, and how.

    Attributes:
        count: runs at a time; by default the GPUs or else the cores of this machine, or all workers of the cluster.
        cluster: a Dask scheduler's address, tcp://HOST:8786, or its scheduler file; by default, processes of this
            machine are started.
        stall_minutes: a run that finishes no epoch for so long is restarted on another worker.
        execution: how each run is computed; it changes no run's id.

    Raises:
        StudyError: a count below 1, no time at all, or a cluster that is neither an address nor a scheduler file.
    """

    count: int | None = None
    cluster: str | None = None
    stall_minutes: float = 60.0
    execution: ExecutionConfig = ExecutionConfig()

    def __post_init__(self) -> None:
        if self.count is not None:
            worker_count(self.count)
        if not self.stall_minutes > 0:
            raise StudyError(
                f"stall_minutes={self.stall_minutes:g} would restart every run at once; give minutes in which the "
                f"longest epoch ends"
            )
        if self.cluster is not None:
            scheduler_address(self.cluster)

    @classmethod
    def of(cls, asked: int | Workers | None) -> Workers:
        """The object itself, or so many processes of this machine."""
        return asked if isinstance(asked, Workers) else cls(count=asked)


class _SchedulerFile(msgspec.Struct):
    address: str


def scheduler_address(cluster: str) -> str:
    """Where a cluster's scheduler listens, from its address or its scheduler file.

    Raises:
        StudyError: it is neither, or the file is missing or of another kind.

    >>> scheduler_address("node7:8786")
    'tcp://node7:8786'
    """
    if re.fullmatch(r"inproc://.+|\w+://[^\s/]+:\d+(/\S*)?", cluster):
        return cluster
    path = Path(cluster).expanduser()
    if path.is_file():
        try:
            return decode_json(read_stored(path), _SchedulerFile).address
        except (OSError, DamagedFileError) as error:
            raise StudyError(
                f"cluster {cluster!r} is not a scheduler file: {error}; give the one that dask scheduler wrote with "
                f"--scheduler-file, or tcp://HOST:8786"
            ) from error
    if re.fullmatch(r"[\w.-]+:\d+", cluster):
        return f"tcp://{cluster}"
    raise StudyError(
        f"cluster {cluster!r} is neither an address nor a scheduler file that is there; write tcp://HOST:8786, or "
        f"start one with dask scheduler --scheduler-file FILE.json"
    )
