"""What happens in a worker process: open the corpus once, train one run at a time, tell how it goes."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import stat
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from distributed import get_worker

from cello.audio.carry import find
from cello.audio.corpus import Corpus
from cello.cache import cache_root
from cello.cells.load import remember
from cello.cells.stored import StoredCell
from cello.compiler.memory import keep_freed_memory
from cello.errors import CelloError, DivergenceError, StoreError, StudyError
from cello.files import DamagedFileError, decode_json, read_stored, seal_json, write_whole
from cello.machine import processor, source, versions
from cello.study.folder import single_writer
from cello.study.plan import PlannedRun
from cello.study.reading import read_result
from cello.study.store import CorpusSource
from cello.training.config import CorpusRef
from cello.training.execution import ExecutionConfig
from cello.training.result import FINISHED, Epoch

TOPIC = "cello-run"
LOCK_PATIENCE_SECONDS = 20.0
FAILED = ("config.json", "failure.txt", "failure.json")
DEFAULT_OPENER = CorpusSource(spec="").opener


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What all runs of one sitting have in common, a sitting being one call of ``run_study``.

    ``train`` is "module:function" with the signature of ``train``. ``remote``: the workers do not see the store's
    folder, nor perhaps this machine's files. ``cells`` are the runs' cells that are the user's own, with the names that
    they have in the runs' settings, each a ``StoredCell`` as JSON: a worker runs no file that a cell is in.
    """

    source: CorpusSource
    corpus: CorpusRef
    cache: Path | None
    train: str
    sitting: str
    remote: bool = False
    cells: tuple[tuple[str, bytes], ...] = ()
    execution: ExecutionConfig = ExecutionConfig()

    @property
    def topic(self) -> str:
        """Under which the sitting's news are told."""
        return f"{TOPIC}-{self.sitting}"


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at a run; ``folder`` is where its files are to be in the end."""

    run: PlannedRun
    folder: Path
    setup: Setup
    attempt: int = 0

    @property
    def name(self) -> str:
        """The run's on a machine where other studies' runs lie beside it; a tuning's trials count from 0 in each."""
        key = hashlib.sha256(f"{self.run.config.id} {self.setup.train}".encode()).hexdigest()[:8]
        return f"{self.run.id}-{key}"


class News(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of a run while it trains: that it started, if there is no epoch."""

    run: str
    attempt: int
    pid: int
    host: str
    epoch: Epoch | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended: ``reason`` is empty where it ended well, ``files`` are the run's where they are brought."""

    reason: str = ""
    files: dict[str, bytes] = {}


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of itself: ``threads`` is how many runs dask would give it at once, ``cache`` where it keeps
    corpora, ``corpus`` whether it has the one that is asked for. ``source`` is left empty on this machine.
    """

    versions: dict[str, str]
    source: str = ""
    threads: int
    host: str
    processor: str
    cache: str
    corpus: bool


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """``failure.json`` of a run: why it failed, in which sitting; ``diverged`` where its settings are to blame."""

    sitting: str
    reason: str
    diverged: bool = False


class _AbandonedError(Exception):
    """The study is gone, or has given the run to another worker."""


def welcome(setup: Setup) -> Facts:
    """Make ready for the sitting's runs, and say what this worker is."""
    corpus = True
    if setup.remote:
        try:
            _brought_corpus(setup)
        except LookupError:
            corpus = False
    with suppress(StudyError):  # a run says it, and is recorded with it
        function(setup.train)  # loads torch, so that the first run need not wait for it
    return Facts(
        versions=versions(),
        source=source() if setup.remote else "",
        threads=get_worker().state.nthreads,
        host=socket.gethostname(),
        processor=processor(),
        cache=str(_own_cache(setup)),
        corpus=corpus,
    )


def execute(task: Task) -> Outcome:
    """Train the task's run, or go on where it was stopped, and say how it ended.

    The run's folder is locked meanwhile: a worker that outlives its study for a moment is waited for, so that two
    processes never write one run. When the worker that ended a run dies before that is known, the run is given to
    another; if it failed in this sitting, it is then not tried again.
    """
    if not task.setup.remote:
        return Outcome(reason=_reason(task, task.folder))
    folder = scratch() / task.name
    if _is_locked(folder):  # by a worker that was given up, and hangs
        folder = folder.with_name(f"{task.name}-{uuid4().hex[:8]}")
    reason = _reason(task, folder)
    names = FAILED if reason else FINISHED
    files = {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}
    return Outcome(reason=reason.replace(str(folder), str(task.folder)), files=files)


def forget(name: str) -> None:
    """Remove what this machine keeps of a run whose files have arrived."""
    for folder in scratch().glob(f"{name}*"):
        if not _is_locked(folder):
            shutil.rmtree(folder, ignore_errors=True)


def scratch() -> Path:
    """Where this machine keeps runs until they are brought, found again by any worker with the same local directory."""
    folder = Path(get_worker().local_directory).parent / "cello-runs"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise StudyError(
            f"the worker's folder {str(folder)!r} is not this user's own; start dask worker with --local-directory"
        )
    if status.st_mode & 0o077:  # made by an older version
        folder.chmod(0o700)
    return folder


def _is_locked(folder: Path) -> bool:
    if not folder.exists():
        return False
    try:
        with single_writer(folder):
            return False
    except StoreError:
        return True


def _reason(task: Task, folder: Path) -> str:
    """Why the run failed, empty if it did not."""
    try:
        with single_writer(folder, LOCK_PATIENCE_SECONDS):
            return _failed_before(task, folder) or _attempt(task, folder)
    except StoreError as error:
        return str(error)


def _attempt(task: Task, folder: Path) -> str:
    try:
        _tell(task)
        _train(task, folder)
    except _AbandonedError:
        return "it was given up by its study"
    except Exception as error:
        reason = str(error)
        if not isinstance(error, CelloError):
            reason = f"{type(error).__name__}: {error}; its traceback is in {folder / 'failure.txt'}"
        # On a full disk the reason must still reach the user.
        with suppress(OSError):
            write_whole(folder / "failure.txt", "".join(traceback.format_exception(error)).encode())
            diverged = isinstance(error, DivergenceError)
            failure = Failure(sitting=task.setup.sitting, reason=reason, diverged=diverged)
            write_whole(folder / "failure.json", seal_json(msgspec.json.encode(failure)))
        return reason
    return ""


def _failed_before(task: Task, folder: Path) -> str:
    failure = last_failure(folder)
    return failure.reason if failure is not None and failure.sitting == task.setup.sitting else ""


def last_failure(folder: Path) -> Failure | None:
    """Why the run of a folder failed the last time that it did, as far as that could be written down."""
    try:
        return decode_json(read_stored(folder / "failure.json"), Failure)
    except (OSError, DamagedFileError):
        return None


def _train(task: Task, folder: Path) -> None:
    setup, result = task.setup, folder / "result.json"
    for name, cell in setup.cells:
        remember(name, msgspec.json.decode(cell, type=StoredCell).cell())
    if result.exists():
        if read_result(folder, task.run) is not None:
            return
        result.replace(folder / "result.json.unusable")
    planned = task.run.config.corpus.checksum
    corpus = _brought_corpus(setup) if setup.remote else _kept_corpus(setup.source, setup.cache, planned)
    found = corpus.manifest.checksum
    if found != planned:
        raise StudyError(
            f"corpus {setup.source.spec!r} has checksum {found[:12]} in this worker, but the study was planned with "
            f"{planned[:12]}: its clips changed meanwhile; start the study again"
        )
    keep_freed_memory()
    train = function(setup.train)
    cache = _own_cache(setup) if setup.remote else setup.cache
    train(
        task.run.config,
        corpus,
        folder,
        cache=cache,
        on_epoch=lambda epoch: _tell(task, epoch),
        execution=setup.execution,
    )
    if read_result(folder, task.run) is None:
        raise StudyError(f"{setup.train} returned without a usable {result}; a run must end with its result")


def _tell(task: Task, epoch: Epoch | None = None) -> None:
    """Say how far the run is.

    Raises:
        _AbandonedError: nobody waits for it any more, so its worker is free for others; its last epoch is kept.
    """
    worker = get_worker()
    known = worker.state.tasks.get(worker.get_current_task())
    if known is None or known.state == "cancelled":
        raise _AbandonedError
    news = News(run=task.run.id, attempt=task.attempt, pid=os.getpid(), host=socket.gethostname(), epoch=epoch)
    worker.log_event(task.setup.topic, msgspec.json.encode(news))


def _own_cache(setup: Setup) -> Path:
    """The cache that was asked for where it is there, else this user's own."""
    asked = setup.cache
    return cache_root(asked if asked is not None and asked.is_dir() else None)


def _brought_corpus(setup: Setup) -> Corpus:
    """The sitting's corpus on a machine that may not have it.

    Raises:
        LookupError: it must be sent. Nothing is downloaded or rendered here for that.
    """
    return _found_corpus(msgspec.json.encode(setup.source), setup.corpus, _own_cache(setup))


@lru_cache(maxsize=1)
def _found_corpus(source: bytes, corpus: CorpusRef, cache: Path) -> Corpus:
    """The corpus of this checksum: from the cache or from the path that states it; kept for this process's next run."""
    found = find(cache, corpus.name, corpus.checksum)
    if found is not None:
        return found
    if _lies_here(msgspec.json.decode(source, type=CorpusSource)):
        with suppress(CelloError):
            opened = open_source(msgspec.json.decode(source, type=CorpusSource), cache)
            if opened.manifest.checksum == corpus.checksum:
                return opened
    raise LookupError(corpus.checksum)


def _lies_here(source: CorpusSource) -> bool:
    """Whether the corpus is stated by a path, and that path is there."""
    kind, _, rest = source.spec.partition(":")
    path = rest if kind in ("folder", "speech-commands") else source.spec
    return source.opener == DEFAULT_OPENER and "/" in path and Path(path).expanduser().exists()


_KEPT: dict[bytes, Corpus] = {}


def _kept_corpus(source: CorpusSource, cache: Path | None, checksum: str) -> Corpus:
    """A source's corpus, kept for this process's next run as long as that asks for the same clips."""
    key = msgspec.json.encode((source, str(cache)))
    kept = _KEPT.get(key)
    if kept is None or kept.manifest.checksum != checksum:
        _KEPT.clear()  # before the other is opened: both may not fit
        kept = _KEPT[key] = open_source(source, cache)
    return kept


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
