"""Who trains a study's runs: processes of this machine, or the workers of a Dask cluster."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from cello.errors import StudyError
from cello.files import DamagedFileError, decode_json, read_stored
from cello.study.estimate import worker_count
from cello.training.execution import ExecutionConfig


class Crew(msgspec.Struct, frozen=True, kw_only=True):
    """How many train, where, and how long a run may show nothing.

    ``workers`` is the number of runs at a time: here all cores unless said, in a cluster all of its workers.
    ``cluster`` is a scheduler's address, tcp://HOST:8786, or its scheduler file; without it, processes of this machine
    are begun. A run that shows no new epoch for ``stall_minutes`` is taken from its worker and done by another.
    ``execution`` is how each run is computed; it changes no run's id.

    Raises:
        StudyError: fewer than one worker, no time at all, or a cluster that is neither an address nor a scheduler file.
    """

    workers: int | None = None
    cluster: str | None = None
    stall_minutes: float = 60.0
    execution: ExecutionConfig = ExecutionConfig()

    def __post_init__(self) -> None:
        if self.workers is not None:
            worker_count(self.workers)
        if not self.stall_minutes > 0:
            raise StudyError(
                f"stall_minutes={self.stall_minutes:g} would take every run from its worker at once; give minutes in "
                f"which the longest epoch ends"
            )
        if self.cluster is not None:
            scheduler_address(self.cluster)

    @classmethod
    def of(cls, asked: int | Crew | None) -> Crew:
        """The crew itself, or so many processes of this machine."""
        return asked if isinstance(asked, Crew) else cls(workers=asked)


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
                f"cluster {cluster!r} is no scheduler file: {error}; give the one that dask scheduler wrote with "
                f"--scheduler-file, or tcp://HOST:8786"
            ) from error
    if re.fullmatch(r"[\w.-]+:\d+", cluster):
        return f"tcp://{cluster}"
    raise StudyError(
        f"cluster {cluster!r} is neither an address nor a scheduler file that is there; write tcp://HOST:8786, or "
        f"start one with dask scheduler --scheduler-file FILE.json"
    )
