"""Runs what a study still lacks, on all cores; whatever stops it, the same command goes on."""

from __future__ import annotations

import queue
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import msgspec
from distributed import Client, Future
from distributed.scheduler import KilledWorker

from cello.errors import StudyError
from cello.study.cluster import DEATHS_ALLOWED, cluster, interrupt_calls
from cello.study.fit import check_clips, check_windows
from cello.study.folder import single_writer
from cello.study.live import View, view
from cello.study.outlook import far_off, worker_count
from cello.study.plan import PlannedRun, StudyConfig, plan, sample_rate
from cello.study.store import CorpusSource, Store
from cello.study.worker import TOPIC, News, Task, execute, open_source
from cello.training.config import CorpusRef
from cello.training.result import RunResult

LONELY_SECONDS = 30.0


def run_study(
    study: StudyConfig,
    source: CorpusSource | str,
    out: Path | str,
    *,
    workers: int | None = None,
    cache: Path | None = None,
    train: str = "cello.training.run:train",
    progress: bool = True,
) -> Store:
    """Run every planned run that is not finished in ``out``, each in a process and on one thread of its own.

    A worker that is killed is replaced and its run goes on from its last epoch; a run that raises is noted and does
    not stop the others. ``source`` is a corpus as ``open_corpus`` takes it, with options as a ``CorpusSource``.
    ``workers`` is the number of cores unless said.

    Raises:
        StudyError: a plan that makes no sense or asks for longer windows than the corpus has clips, or runs that failed
            (all others are finished then).
        StoreError: ``out`` holds another study, cannot be written, or is being written.
        KeyboardInterrupt: Ctrl-C; the message says what is finished and that the same command resumes.
    """
    count = worker_count(workers)
    rate, out = sample_rate(study), Path(out)  # mistakes in the plan show before the corpus is made
    if isinstance(source, str):
        source = CorpusSource(spec=source, options={"rate_hz": rate})
    with single_writer(out):
        corpus = open_source(msgspec.json.encode(source), cache)
        reference = CorpusRef(name=corpus.manifest.corpus, checksum=corpus.manifest.checksum)
        planned = plan(study, reference, len(corpus.manifest.labels))
        check_windows(study.name, planned, corpus)
        check_clips(study.name, planned, corpus)
        for sentence in far_off(study, planned, len(corpus.manifest.labels)):
            warnings.warn(sentence, stacklevel=2)
        store = Store.create_or_open(out, study, corpus.manifest, source)
        store.reconcile()
        places = {run.place for run in planned}
        asked = [run for run in store.runs if run.place in places]
        todo = store.pending(asked)
        if todo:
            total = len({run.id for run in asked})
            common: dict[str, Any] = {"source": source, "cache": cache, "train": train, "sitting": uuid4().hex}
            tasks = [Task(run=run, folder=store.run_folder(run).absolute(), **common) for run in todo]
            shown = view(progress, todo, total, min(count, len(todo)))
            try:
                Session(store, shown, tasks).run(min(count, len(todo)))
            except KeyboardInterrupt:
                done = total - len(store.pending(asked))
                raise KeyboardInterrupt(
                    f"stopped: {done} of {total} runs in {str(out)!r} are finished, and those under way keep their "
                    f"last whole epoch; give the same command again to go on"
                ) from None
            finally:
                shown.close()
        _check_all_finished(store, asked)
    return store


class Keeper(Protocol):
    """Where runs are kept: a study's store, or whatever else knows a run's result and has a journal."""

    def note(self, event: str, run: str, reason: str = "", where: Mapping[str, Any] | None = None) -> None: ...
    def result(self, run: PlannedRun) -> RunResult | None: ...


def nothing_more(task: Task) -> list[Task]:
    """What follows from the end of a task where all tasks are known beforehand."""
    return []


class Session:
    """One sitting: hands tasks to the cluster, a task for each worker at a time, and keeps the store and the view told.

    ``then`` is called at the end of each task, and its tasks are added.

    Only as many tasks as workers are out at once, so that the plan's order is kept and a worker's death is counted
    against the one run that it was training. How a run ended is heard as news, not kept as a dask result: that would
    die with the worker that holds it, and the run be done again.
    """

    def __init__(
        self, store: Keeper, shown: View, tasks: list[Task], then: Callable[[Task], list[Task]] = nothing_more
    ) -> None:
        self.store, self.shown, self.then = store, shown, then
        self.waiting = tasks[::-1]
        self.running: dict[str, tuple[Task, Future[None]]] = {}
        self.inbox: queue.SimpleQueue[News | str | None] = queue.SimpleQueue()

    def run(self, workers: int) -> None:
        """Until no task is left, or Ctrl-C."""
        with interrupt_calls(lambda: self.inbox.put(None)), cluster(workers) as client:
            client.subscribe_topic(  # type: ignore[no-untyped-call]
                TOPIC, lambda event: self.inbox.put(msgspec.json.decode(event[1], type=News))
            )
            for _ in range(workers):
                self._hand_out(client)
            while self.running:
                message = self._next_message(client)
                if message is None:
                    raise KeyboardInterrupt
                if isinstance(message, News):
                    self._hear(message)
                elif message in self.running:
                    # Without news of its end: its worker died too often, or dask itself failed.
                    self._end(message, _trouble(self.running[message][1]))
                for _ in range(workers - len(self.running)):
                    self._hand_out(client)

    def _next_message(self, client: Client) -> News | str | None:
        lonely = 0
        while True:
            try:
                return self.inbox.get(timeout=LONELY_SECONDS)
            except queue.Empty:
                lonely = 0 if client.nthreads() else lonely + 1  # type: ignore[no-untyped-call]
                if lonely > 1:
                    raise StudyError(
                        "all worker processes died and none could be started again; look at free memory and "
                        "processes, then give the same command again with fewer --workers"
                    ) from None

    def _hand_out(self, client: Client) -> None:
        if self.waiting:
            task = self.waiting.pop()
            future = client.submit(execute, task, key=f"run-{task.run.id}", pure=False)
            self.running[task.run.id] = task, future
            future.add_done_callback(lambda _: self.inbox.put(task.run.id))  # type: ignore[no-untyped-call]

    def _hear(self, news: News) -> None:
        if news.run not in self.running:
            return
        run = self.running[news.run][0].run
        if news.what == "ended":
            self._end(news.run, news.reason)
        elif news.epoch is not None:
            self.shown.epoch(run, news.epoch)
        else:
            self.store.note("started", run.id, where={"pid": news.pid, "host": news.host})
            self.shown.started(run)

    def _end(self, run_id: str, reason: str) -> None:
        task, future = self.running.pop(run_id)
        future.release()  # type: ignore[no-untyped-call]
        result = None if reason else self.store.result(task.run)
        if result is None:
            reason = reason or f"no usable result in {task.folder}"
            self.store.note("failed", run_id, reason)
            self.shown.failed(task.run, reason)
        else:
            self.store.note("finished", run_id)
            self.shown.finished(task.run, result)
        self.waiting[:0] = self.then(task)[::-1]


def _trouble(future: Future[None]) -> str:
    """Why a future ended by itself; empty where the run's folder is to say how it went."""
    if future.status == "finished":
        return ""
    if future.status != "error":
        return f"the scheduler lost it ({future.status})"
    error = future.exception()  # type: ignore[no-untyped-call]
    if isinstance(error, KilledWorker):
        return f"its worker process died {DEATHS_ALLOWED + 1} times (killed, out of memory or crashed)"
    return f"{type(error).__name__}: {error}"


def _check_all_finished(store: Store, asked: list[PlannedRun]) -> None:
    left = {run.id for run in store.pending(asked)}
    failed = [failure for failure in store.failures() if failure.planned.id in left]
    if failed:
        alike: dict[str, list[str]] = {}
        for failure in failed:
            alike.setdefault(failure.reason, []).append(str(failure.planned))
        listed = "\n".join(f"  {'; '.join(runs)}: {reason}" for reason, runs in alike.items())
        total = len({run.id for run in asked})
        finished = ", the others are finished" if len(left) < total else ""
        raise StudyError(
            f"{len(failed)} of {total} runs failed{finished} in {str(store.folder)!r}:\n{listed}\n"
            f"Give the same command again to try these again."
        )
