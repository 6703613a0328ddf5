"""Define what a session sends to its workers, and what they send back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from cello.audio.corpus import Corpus
from cello.errors import StudyError
from cello.files import DamagedFileError, decode_json, read_stored
from cello.study.plan import PlannedRun
from cello.study.store import CorpusSource
from cello.training.config import CorpusRef
from cello.training.execution import ExecutionConfig
from cello.training.result import Epoch


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What all runs of one session share; a session is one call of ``run_study``.

    ``train`` is "module:function" with the signature of ``train``. ``remote``: the workers do not see the store's
    folder, nor perhaps this machine's files. ``cells`` are the runs' cells that are the user's own, with the names that
    they have in the runs' settings, each a ``StoredCell`` as JSON: a worker runs no file that a cell is in. ``devices``
    are the GPUs of this machine that its workers share, as cuda:0; none where runs are computed on the CPU, or remote.
    ``replicates`` are the runs that differ in the seed alone and that a worker with a GPU has at a time, at most.
    """

    source: CorpusSource
    corpus: CorpusRef
    cache: Path | None
    train: str
    session: str
    remote: bool = False
    cells: tuple[tuple[str, bytes], ...] = ()
    execution: ExecutionConfig = ExecutionConfig()
    devices: tuple[str, ...] = ()
    replicates: int = 1

    @property
    def topic(self) -> str:
        """Under which the session's progress is published."""
        return f"cello-run-{self.session}"


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at a run; ``folder`` is where its files are to be in the end.

    ``device`` is the GPU that its worker has; empty where the execution config says it.
    """

    run: PlannedRun
    folder: Path
    setup: Setup
    attempt: int = 0
    device: str = ""

    @property
    def execution(self) -> ExecutionConfig:
        """How this run is computed."""
        execution = self.setup.execution
        return msgspec.structs.replace(execution, device=self.device) if self.device else execution

    @property
    def name(self) -> str:
        """The run's on a machine where other studies' runs lie beside it; a tuning's trials count from 0 in each."""
        key = hashlib.sha256(f"{self.run.config.id} {self.setup.train}".encode()).hexdigest()[:8]
        return f"{self.run.id}-{key}"


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """A progress event of a run: that it started, or an epoch that it finished."""

    run: str
    attempt: int
    pid: int
    host: str
    epoch: Epoch | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended: ``reason`` is empty where it ended well, ``files`` are the run's where they are fetched."""

    reason: str = ""
    files: dict[str, bytes] = {}


class WorkerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A worker of a cluster: ``threads`` is how many runs Dask would give it at once, ``cache`` where it keeps corpora,
    ``corpus`` whether it has the session's. ``processor`` is what computes its runs, a GPU or the CPU; ``resources``
    are what Dask has to give out there.
    """

    versions: dict[str, str]
    source: str
    threads: int
    host: str
    processor: str
    cache: str
    corpus: bool
    gpu: bool = False
    resources: dict[str, float] = {}


class FailureRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``failure.json`` of a run: why it failed, in which session; ``diverged`` where its settings are to blame."""

    session: str = msgspec.field(name="sitting")
    reason: str
    diverged: bool = False


def last_failure(folder: Path) -> FailureRecord | None:
    """Why the run of a folder failed the last time that it did, as far as that could be written down."""
    try:
        return decode_json(read_stored(folder / "failure.json"), FailureRecord)
    except (OSError, DamagedFileError):
        return None


def open_source(made: CorpusSource, cache: Path | None) -> Corpus:
    """The corpus of a source as it is now."""
    corpus = function(made.opener)(made.spec, cache=cache, **made.options)
    if not isinstance(corpus, Corpus):
        raise StudyError(f"{made.opener}({made.spec!r}) gave {type(corpus).__name__}, not a Corpus; check the opener")
    return corpus


def function(name: str) -> Callable[..., Any]:
    """The function that "module:function" names.

    Raises:
        StudyError: there is no such module or function.

    >>> function("math:hypot")(3.0, 4.0)
    5.0
    """
    module, _, attribute = name.partition(":")
    try:
        found: Callable[..., Any] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise StudyError(f"{name!r} cannot be imported: {error}; write it as module:function") from error
    return found
