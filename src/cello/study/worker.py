"""What happens in a worker process: open the corpus once, train one run at a time, tell how it goes."""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import msgspec
from distributed import get_worker

from cello.audio.corpus import Corpus
from cello.compiler.memory import keep_freed_memory
from cello.errors import CelloError, DivergenceError, StoreError, StudyError
from cello.files import write_whole
from cello.study.folder import single_writer
from cello.study.plan import PlannedRun
from cello.study.store import CorpusSource, read_result
from cello.training.result import Epoch

TOPIC = "cello-run"
What = Literal["started", "epoch", "ended"]
LOCK_PATIENCE_SECONDS = 20.0


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """All that a worker needs to know about a run.

    ``train`` is "module:function" with the signature of ``train``; ``sitting`` is unique to one call of ``run_study``.
    """

    run: PlannedRun
    folder: Path
    source: CorpusSource
    cache: Path | None
    train: str
    sitting: str


class News(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of a run; ``reason`` is empty where it ended well."""

    what: What
    run: str
    pid: int
    host: str
    epoch: Epoch | None = None
    reason: str = ""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """``failure.json`` of a run: why it failed, in which sitting; ``diverged`` where its settings are to blame."""

    sitting: str
    reason: str
    diverged: bool = False


def execute(task: Task) -> None:
    """Train the task's run in its folder, or go on where it was stopped, and say how it ended.

    The run's folder is locked meanwhile: a worker that outlives its study for a moment is waited for, so that two
    processes never write one run. Dask does a task again when the worker that ended it dies before that is known;
    a run that failed in this sitting is then not tried again.
    """
    _tell(task, "ended", reason=_reason(task))


def _reason(task: Task) -> str:
    """Why the run failed, empty if it did not."""
    try:
        with single_writer(task.folder, LOCK_PATIENCE_SECONDS):
            return _failed_before(task) or _attempt(task)
    except StoreError as error:
        return str(error)


def _attempt(task: Task) -> str:
    try:
        _tell(task, "started")
        _train(task)
    except Exception as error:
        reason = str(error)
        if not isinstance(error, CelloError):
            reason = f"{type(error).__name__}: {error}; its traceback is in {task.folder / 'failure.txt'}"
        # On a full disk the reason must still reach the user.
        with suppress(OSError):
            write_whole(task.folder / "failure.txt", "".join(traceback.format_exception(error)).encode())
            diverged = isinstance(error, DivergenceError)
            failure = Failure(sitting=task.sitting, reason=reason, diverged=diverged)
            write_whole(task.folder / "failure.json", msgspec.json.encode(failure))
        return reason
    return ""


def _failed_before(task: Task) -> str:
    failure = last_failure(task.folder)
    return failure.reason if failure is not None and failure.sitting == task.sitting else ""


def last_failure(folder: Path) -> Failure | None:
    """Why the run of a folder failed the last time that it did, as far as that could be written down."""
    try:
        return msgspec.json.decode((folder / "failure.json").read_bytes(), type=Failure)
    except (OSError, msgspec.DecodeError):
        return None


def _train(task: Task) -> None:
    result = task.folder / "result.json"
    if result.exists():
        if read_result(task.folder, task.run) is not None:
            return
        result.replace(task.folder / "result.json.unusable")
    corpus = open_source(msgspec.json.encode(task.source), task.cache)
    found, planned = corpus.manifest.checksum, task.run.config.corpus.checksum
    if found != planned:
        raise StudyError(
            f"corpus {task.source.spec!r} has checksum {found[:12]} in this worker, but the study was planned with "
            f"{planned[:12]}: its clips changed meanwhile; start the study again"
        )
    keep_freed_memory()
    train = function(task.train)
    train(task.run.config, corpus, task.folder, cache=task.cache, on_epoch=lambda epoch: _tell(task, "epoch", epoch))
    if read_result(task.folder, task.run) is None:
        raise StudyError(f"{task.train} returned without a usable {result}; a run must end with its result")


def _tell(task: Task, what: What, epoch: Epoch | None = None, reason: str = "") -> None:
    news = News(what=what, run=task.run.id, pid=os.getpid(), host=socket.gethostname(), epoch=epoch, reason=reason)
    get_worker().log_event(TOPIC, msgspec.json.encode(news))


@lru_cache(maxsize=1)
def open_source(source: bytes, cache: Path | None) -> Corpus:
    """The corpus of an encoded ``CorpusSource``, kept for the next run of this process."""
    made = msgspec.json.decode(source, type=CorpusSource)
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
