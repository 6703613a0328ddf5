"""Train a run at a time in a worker process, or several that differ in the seed alone, and report their progress."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import traceback
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from distributed import Worker, get_worker

from cello.audio.corpus import Corpus
from cello.audio.transfer import find
from cello.cache import cache_root
from cello.cells.load import remember
from cello.cells.stored import StoredCell
from cello.compiler.memory import keep_freed_memory
from cello.errors import CelloError, DivergenceError, StoreError, StudyError
from cello.execution.task import (
    FailureRecord,
    Outcome,
    Progress,
    Setup,
    Task,
    WorkerInfo,
    function,
    last_failure,
    open_source,
)
from cello.files import seal_json, write_whole
from cello.machine import processor, source, versions
from cello.study.folder import single_writer
from cello.study.reading import read_result
from cello.study.store import CorpusSource
from cello.training.result import FINISHED, Epoch

LOCK_PATIENCE_SECONDS = 20.0
TOGETHER = "cello.training.replicates:train_together"
FAILED = ("config.json", "failure.txt", "failure.json")


class _AbandonedError(Exception):
    """The study is gone, or has given the run to another worker."""


def handshake(setup: Setup, dask_worker: Worker) -> dict[str, Any]:
    """Load what the runs need, and tell the fields of a ``WorkerInfo``; the scheduler between may have no Cello."""
    try:
        corpus = bool(_corpus(setup).manifest)
    except LookupError:
        corpus = False
    with suppress(StudyError):  # a run says it, and is recorded with it
        function(setup.train)  # loads torch, so that the first run need not wait for it
    device = function("cello.training.device:choose")(setup.execution)
    info = WorkerInfo(
        versions=versions(),
        source=source(),
        threads=dask_worker.state.nthreads,
        host=socket.gethostname(),
        processor=device.facts.get("gpu") or processor(),
        cache=str(_cache(setup)),
        corpus=corpus,
        gpu=device.torch.type == "cuda",
        resources=dict(dask_worker.state.total_resources),
    )
    return msgspec.structs.asdict(info)


def execute(tasks: list[Task]) -> list[Outcome]:
    """Train the tasks' runs from their last whole epoch on, several together, and say how each ended.

    A run's folder is locked meanwhile, so that two processes never write one run: a worker that outlives its study
    for a moment is waited for.
    """
    folders = [_place(task) for task in tasks]
    reasons = _reasons(tasks, folders)
    return [_outcome(*one) for one in zip(tasks, folders, reasons, strict=True)]


def _place(task: Task) -> Path:
    """Where this machine keeps the run."""
    if not task.setup.remote:
        return task.folder
    folder = _scratch(get_worker()) / task.name
    if _is_locked(folder):  # by a worker that was given up, and hangs
        folder = folder.with_name(f"{task.name}-{uuid4().hex[:8]}")
    return folder


def _outcome(task: Task, folder: Path, reason: str) -> Outcome:
    if not task.setup.remote:
        return Outcome(reason=reason)
    names = FAILED if reason else FINISHED
    files = {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}
    return Outcome(reason=reason.replace(str(folder), str(task.folder)), files=files)


def forget(name: str, dask_worker: Worker) -> None:
    """Remove what this machine keeps of a run whose files have arrived."""
    for folder in _scratch(dask_worker).glob(f"{name}*"):
        if not _is_locked(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _scratch(worker: Worker) -> Path:
    """Where this machine keeps runs until they are fetched, found again by any worker with the same local directory."""
    folder = Path(worker.local_directory).parent / "cello-runs"
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
    try:
        with single_writer(folder):
            return False
    except StoreError:
        return True


def _reasons(tasks: list[Task], folders: list[Path]) -> list[str]:
    """Why each run failed, empty if it did not.

    A run whose worker dies after it has failed, before that is known, is not tried again in the same session.
    """
    found: dict[str, str] = {}
    todo: list[tuple[Task, Path]] = []
    with ExitStack() as locks:
        for task, folder in zip(tasks, folders, strict=True):
            try:
                locks.enter_context(single_writer(folder, LOCK_PATIENCE_SECONDS))
                before = last_failure(folder)
            except StoreError as error:
                found[task.run.id] = str(error)
                continue
            if before is not None and before.session == task.setup.session:
                found[task.run.id] = before.reason
            else:
                todo.append((task, folder))
        faults = _attempt(todo)
        for (task, folder), fault in zip(todo, faults, strict=True):
            found[task.run.id] = "" if fault is None else _failed(task, folder, fault)
    return [found[task.run.id] for task in tasks]


def _attempt(runs: list[tuple[Task, Path]]) -> Sequence[Exception | None]:
    """Train runs that differ in the seed alone; what each raised, if it did."""
    try:
        for task, _ in runs:
            _report(task)
        return _train(runs)
    except Exception as error:
        return [error] * len(runs)


def _failed(task: Task, folder: Path, error: Exception) -> str:
    """Why a run failed, which its folder records too."""
    if isinstance(error, _AbandonedError):
        return "it was given up by its study"
    reason = str(error)
    if not isinstance(error, CelloError):
        reason = f"{type(error).__name__}: {error}; its traceback is in {folder / 'failure.txt'}"
    # On a full disk the reason must still reach the user.
    with suppress(OSError):
        write_whole(folder / "failure.txt", "".join(traceback.format_exception(error)).encode())
        diverged = isinstance(error, DivergenceError)
        failure = FailureRecord(session=task.setup.session, reason=reason, diverged=diverged)
        write_whole(folder / "failure.json", seal_json(msgspec.json.encode(failure)))
    return reason


def _train(runs: list[tuple[Task, Path]]) -> list[Exception | None]:
    todo = [(task, folder) for task, folder in runs if not _is_finished(task, folder)]
    if not todo:
        return [None] * len(runs)
    setup = todo[0][0].setup
    for name, cell in setup.cells:
        remember(name, msgspec.json.decode(cell, type=StoredCell).cell())
    corpus = _checked_corpus(todo[0][0])
    keep_freed_memory()
    faults: dict[str, Exception] = {}
    if len(todo) == 1:
        _train_alone(*todo[0], corpus)
    else:
        faults = _train_together(todo, corpus)
    for task, folder in todo:
        if task.run.id not in faults and read_result(folder, task.run) is None:
            unusable = (
                f"{setup.train} returned without a usable {folder / 'result.json'}; a run must end with its result"
            )
            faults[task.run.id] = StudyError(unusable)
    return [faults.get(task.run.id) for task, _ in runs]


def _is_finished(task: Task, folder: Path) -> bool:
    """Whether a run has its result; one that no one can use is put aside."""
    result = folder / "result.json"
    if result.exists():
        if read_result(folder, task.run) is not None:
            return True
        result.replace(folder / "result.json.unusable")
    return False


def _checked_corpus(task: Task) -> Corpus:
    setup = task.setup
    corpus = _corpus(setup)
    planned, found = task.run.config.corpus.checksum, corpus.manifest.checksum
    if found != planned:
        raise StudyError(
            f"corpus {setup.source.spec!r} has checksum {found[:12]} in this worker, but the study was planned with "
            f"{planned[:12]}: its clips changed meanwhile; start the study again"
        )
    return corpus


def _train_alone(task: Task, folder: Path, corpus: Corpus) -> None:
    setup = task.setup
    function(setup.train)(
        task.run.config,
        corpus,
        folder,
        cache=_cache(setup),
        on_epoch=lambda epoch: _report(task, epoch),
        execution=task.execution,
    )


def _train_together(runs: list[tuple[Task, Path]], corpus: Corpus) -> dict[str, Exception]:
    """Train runs that differ in the seed alone; why each of those failed that did, by its id."""
    first, of_seed = runs[0][0], {task.run.config.seed: task for task, _ in runs}
    asked = [(task.run.config, folder) for task, folder in runs]
    found = function(TOGETHER)(
        asked,
        corpus,
        cache=_cache(first.setup),
        on_epoch=lambda config, epoch: _report(of_seed[config.seed], epoch),
        execution=first.execution,
    )
    pairs = zip(runs, found, strict=True)
    return {task.run.id: fault for (task, _), fault in pairs if isinstance(fault, Exception)}


def _report(task: Task, epoch: Epoch | None = None) -> None:
    """Publish how far the run is.

    Raises:
        _AbandonedError: nobody waits for it any more, so its worker is free for others; its last epoch is kept.
    """
    worker = get_worker()
    known = worker.state.tasks.get(worker.get_current_task())
    if known is None or known.state == "cancelled":
        raise _AbandonedError
    progress = Progress(run=task.run.id, attempt=task.attempt, pid=os.getpid(), host=socket.gethostname(), epoch=epoch)
    worker.log_event(task.setup.topic, msgspec.json.encode(progress))


def _cache(setup: Setup) -> Path | None:
    """The cache that was asked for; where that is not on this machine, this user's own."""
    asked = setup.cache
    return cache_root(asked if asked is not None and asked.is_dir() else None) if setup.remote else asked


def _corpus(setup: Setup) -> Corpus:
    """The session's corpus.

    Raises:
        LookupError: this machine does not have it; nothing is downloaded or rendered for that.
    """
    return _kept_corpus(
        msgspec.json.encode(setup.source), setup.corpus.name, setup.corpus.checksum, _cache(setup), setup.remote
    )


@lru_cache(maxsize=1)
def _kept_corpus(source: bytes, name: str, checksum: str, cache: Path | None, remote: bool) -> Corpus:
    """A source's corpus, kept for this process's next run as long as that asks for the same clips."""
    if not remote:
        return open_source(msgspec.json.decode(source, type=CorpusSource), cache)
    found = find(cache_root(cache), name, checksum)
    if found is None:
        raise LookupError(checksum)
    return found
