"""Give runs to workers, one at a time to each, and start those again whose worker dies or hangs.

A run is pinned to one worker. Where Dask chooses, runs wait behind one that kills its worker, and Dask counts that
death against all of them and gives them up (see docs/cluster.md).
"""

from __future__ import annotations

import pickle
import queue
import sys
import threading
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import distributed
import msgspec
from distributed import Client, Future

from cello.audio.corpus import Corpus
from cello.errors import StudyError
from cello.execution.cluster import address_of, call, send_corpus, worker_info
from cello.execution.progress import View
from cello.execution.task import Outcome, Progress, Setup, Task
from cello.execution.worker import execute, forget
from cello.execution.workers import Workers
from cello.files import write_whole
from cello.study.folder import naming
from cello.study.plan import PlannedRun, replicates
from cello.training.result import RunResult

DEATHS_ALLOWED = 3
LOSSES_TOGETHER = 2
DIED = "died"
POLL_SECONDS = 5.0
LOCAL_SECONDS, CLUSTER_SECONDS = 120.0, 300.0
"""How long no worker may be there: processes of this machine are started at once, a cluster's may wait in a queue."""
FETCH_SECONDS = 300.0
RESTART_SECONDS = 30.0
"""A hanging worker is killed 4 s after it was asked to end; one that is not gone within this time is never replaced."""
FAILED_STARTS_ALLOWED = 9
TRANSFERS = 16
GPU = "GPU"
"""The resource that workers announce by it, as ``dask worker --resources GPU=1``; a run takes one."""


class RunRecord(Protocol):
    """Where runs are kept: a study's store, or whatever else knows a run's result and has a journal."""

    def note(self, event: str, run: str, reason: str = "", where: Mapping[str, Any] | None = None) -> None: ...
    def result(self, run: PlannedRun) -> RunResult | None: ...


class _Call(NamedTuple):
    """Pickles to a call: whoever unpickles it gets what the function returns.

    So Dask is only asked to unpickle bytes, and its scheduler, which unpickles every task, needs no Cello.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.arguments


class Attempt:
    """Tasks that a worker has, replicates where there are several; ``reported`` is when it last did, in seconds of
    ``time.monotonic``."""

    def __init__(self, tasks: list[Task], worker: str, future: Future[Any]) -> None:
        self.tasks, self.worker, self.future = tasks, worker, future
        self.reported = time.monotonic()


class Session:
    """Trains tasks until none is left; everything but preparing workers happens in the thread that calls ``run``."""

    def __init__(
        self, client: Client, setup: Setup, workers: Workers, corpus: Corpus, record: RunRecord, view: View
    ) -> None:
        self.client, self.setup, self.workers, self.corpus = client, setup, workers, corpus
        self.record, self.view = record, view
        self.inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.background = ThreadPoolExecutor(TRANSFERS)
        self.transfers: defaultdict[tuple[str, str], threading.Lock] = defaultdict(threading.Lock)
        self.states: dict[str, Literal["preparing", "ready", "restarting", "incompatible"]] = {}
        self.free: list[str] = []  # those that are ready and have no run
        self.reasons: dict[str, str] = {}  # of the incompatible ones
        self.processors: set[str] = set()
        self.devices: dict[str, str] = {}  # the GPU of each worker, where they share those of this machine
        self.resources: dict[str, dict[str, float]] = {}  # that a run takes of its worker, as Dask counts them
        self.failed_starts = 0  # in a row, of workers that died before they could train
        self.waiting: list[Task] = []
        self.running: dict[str, Attempt] = {}
        self.losses: defaultdict[str, list[str]] = defaultdict(list)  # of each run since its last new epoch
        self.furthest: defaultdict[str, int] = defaultdict(int)

    def run(self, tasks: list[Task], then: Callable[[Task], list[Task]]) -> None:
        """Train the tasks, and those that ``then`` gives at the end of each."""
        self.waiting, self.then = tasks[::-1], then
        self.client.subscribe_topic("all", self._worker_event)  # type: ignore[no-untyped-call]
        self.client.subscribe_topic(  # type: ignore[no-untyped-call]
            self.setup.topic,
            lambda event: self._put(self._progress, msgspec.json.decode(event[1], type=Progress)),
        )
        finished = False
        try:
            self._poll()
            while self.running or self.waiting:
                self._start_runs()
                self._next_message()()
                self._restart_stalled()
            finished = True
        finally:
            for attempt in self._attempts():
                attempt.future.release()  # type: ignore[no-untyped-call]
            self.background.shutdown(wait=finished, cancel_futures=not finished)

    def _put(self, method: Callable[..., None], *arguments: Any) -> None:
        self.inbox.put(partial(method, *arguments))

    def _worker_event(self, event: tuple[float, Mapping[str, Any]]) -> None:
        methods = {"add-worker": self._joined, "remove-worker": self._left}
        if method := methods.get(event[1].get("action", "")):
            self._put(method, event[1]["worker"])

    def _next_message(self) -> Callable[[], None]:
        patience = CLUSTER_SECONDS if self.setup.remote else LOCAL_SECONDS
        until = time.monotonic() + patience
        while True:
            if not self._usable() and self.reasons:
                self._poll()  # one of them may have died and be replaced
            there = self._usable()
            hopeless = not there and (self.reasons or time.monotonic() > until)
            if hopeless or self.failed_starts > FAILED_STARTS_ALLOWED:
                raise self._no_workers(patience)
            try:
                return self.inbox.get(timeout=POLL_SECONDS)
            except queue.Empty:
                until = time.monotonic() + patience if there else until
                self._poll()
                self._restart_stalled()

    def _usable(self) -> bool:
        """Whether there is a worker that trains, or may come to."""
        return len(self.states) > len(self.reasons)

    def _poll(self) -> None:
        """Compare with the workers that the scheduler knows now."""
        try:
            there = set(self.client.nthreads())  # type: ignore[no-untyped-call]
        except (OSError, RuntimeError) as error:
            raise StudyError(
                f"the scheduler at {self.workers.cluster or 'this machine'} does not answer any more ({error}); "
                f"finished runs are kept: start it again, and give the same command again"
            ) from error
        for worker in self.states.keys() - there:
            self._left(worker)
        for worker in sorted(there):
            self._joined(worker)

    def _joined(self, worker: str) -> None:
        if worker in self.states:
            return
        self.states[worker] = "preparing"
        if self.setup.remote:
            self.background.submit(self._prepare, worker)
        else:
            self._prepared(worker, "", "")

    def _prepare(self, worker: str) -> None:
        """Check a worker of a cluster and bring it the corpus; once for each machine and cache folder."""
        reason = processor = ""
        gpu = False
        try:
            info = worker_info(self.client, worker, self.setup)
            if isinstance(info, str):
                reason = info
            else:
                processor = info.processor
                gpu = info.gpu and info.resources.get(GPU, 0) >= 1
                if not info.corpus:
                    self._bring_corpus(worker, info.host, info.cache)
        except Exception as error:
            reason = f"the corpus could not be sent to it: {error or type(error).__name__}"
        self._put(self._prepared, worker, reason, processor, gpu)

    def _bring_corpus(self, worker: str, host: str, cache: str) -> None:
        with self.transfers[host, cache]:
            info = worker_info(self.client, worker, self.setup)
            if not isinstance(info, str) and not info.corpus:
                send_corpus(self.client, worker, cache, self.corpus)

    def _prepared(self, worker: str, reason: str, processor: str, gpu: bool = False) -> None:
        if self.states.get(worker) != "preparing":  # it has died meanwhile
            return
        if reason:
            self.states[worker], self.reasons[worker] = "incompatible", reason
            if self._usable():
                warnings.warn(f"worker {worker} is not used: {reason}", stacklevel=2)
            return
        self.failed_starts = 0
        self.states[worker] = "ready"
        self.resources[worker] = {GPU: 1} if gpu else {}
        self.free.append(worker)
        if processor not in self.processors and self.processors:
            warnings.warn(
                f"workers have different processors ({', '.join(sorted({*self.processors, processor}))}): a run's last "
                f"digits and its times depend on where it is trained; each result names its processor",
                stacklevel=2,
            )
        self.processors.add(processor)

    def _left(self, worker: str) -> None:
        self.failed_starts += self.states.pop(worker, "") == "preparing"
        for facts in (self.reasons, self.devices, self.resources):
            facts.pop(worker, None)
        if worker in self.free:
            self.free.remove(worker)
        for attempt in [each for each in self._attempts() if each.worker == worker]:
            self._lose(attempt, DIED)

    def _start_runs(self) -> None:
        limit = self.workers.count or sys.maxsize
        while self.waiting and self.free and (room := limit - len(self._attempts())) > 0:
            worker = self.free.pop(0)
            device = self._device_of(worker)
            idle = min(len(self.free), room - 1)
            tasks = [msgspec.structs.replace(task, device=device) for task in self._next_tasks(worker, idle)]
            key = f"cello-run-{self.setup.session}-{tasks[0].run.id}-{tasks[0].attempt}"
            blob = pickle.dumps(_Call(execute, (tasks,)))
            resources = self.resources.get(worker) or None
            future = self.client.submit(pickle.loads, blob, key=key, workers=[worker], resources=resources, pure=False)
            attempt = Attempt(tasks, worker, future)
            self.running |= {task.run.id: attempt for task in tasks}
            future.add_done_callback(  # type: ignore[no-untyped-call]
                lambda done, attempt=attempt: self._put(self._ended, attempt, _outcomes(done, len(attempt.tasks)))
            )

    def _attempts(self) -> list[Attempt]:
        """Those that are under way."""
        return [*dict.fromkeys(self.running.values())]

    def _next_tasks(self, worker: str, idle: int) -> list[Task]:
        """The next task and, for a GPU, its replicates, as long as there is work for the ``idle`` workers too.

        Those that were lost twice in a row are trained alone, so that one that kills its worker takes no other with it.
        """
        first = self.waiting.pop()
        on_gpu = bool(self.devices.get(worker) or self.resources.get(worker))
        if not on_gpu or self.setup.replicates == 1 or self._lost(first) >= LOSSES_TOGETHER:
            return [first]
        most = min(self.setup.replicates, -(-(len(self.waiting) + 1) // (idle + 1)))
        alike = [
            task
            for task in reversed(self.waiting)
            if replicates(task.run, first.run) and self._lost(task) < LOSSES_TOGETHER
        ]
        tasks = [first, *alike[: most - 1]]
        taken = {task.run.id for task in tasks}
        self.waiting = [task for task in self.waiting if task.run.id not in taken]
        return tasks

    def _lost(self, task: Task) -> int:
        return len(self.losses.get(task.run.id, ()))

    def _device_of(self, worker: str) -> str:
        """The GPU of a worker, the same for all its runs: the one that the fewest others have."""
        if self.setup.devices and worker not in self.devices:
            taken = Counter(self.devices.values())
            self.devices[worker] = min(self.setup.devices, key=lambda device: taken[device])
        return self.devices.get(worker, "")

    def _progress(self, event: Progress) -> None:
        attempt = self.running.get(event.run)
        task = None if attempt is None else next(task for task in attempt.tasks if task.run.id == event.run)
        if attempt is None or task is None or task.attempt != event.attempt:
            return
        attempt.reported = time.monotonic()
        run = task.run
        if event.epoch is None:
            self.record.note("started", run.id, where={"pid": event.pid, "host": event.host})
            self.view.started(run)
            return
        if event.epoch.epoch > self.furthest[run.id]:
            self.furthest[run.id] = event.epoch.epoch
            self.losses.pop(run.id, None)
        self.view.epoch(run, event.epoch)

    def _restart_stalled(self) -> None:
        latest = time.monotonic() - 60 * self.workers.stall_minutes
        for attempt in [each for each in self._attempts() if each.reported < latest]:
            self.states[attempt.worker] = "restarting"
            self._lose(attempt, f"showed no epoch for {self.workers.stall_minutes:g} minutes")
            self.background.submit(self._restart, attempt.worker)

    def _restart(self, worker: str) -> None:
        with suppress(Exception):
            self.client.restart_workers([worker], timeout=RESTART_SECONDS, raise_for_error=False)
        self._put(self._left, worker)  # if it could not be restarted, it is found again, and used when it answers

    def _lose(self, attempt: Attempt, how: str) -> None:
        """Its worker died or hangs: another has its runs next, but those lost too often without a new epoch."""
        attempt.future.release()  # type: ignore[no-untyped-call]
        for task in reversed(attempt.tasks):
            losses = self.losses[task.run.id]
            losses.append(how)
            if len(losses) > DEATHS_ALLOWED:
                self._end(attempt, task, Outcome(reason=_lost_too_often(losses)))
                continue
            del self.running[task.run.id]
            self.record.note("lost", task.run.id, f"its worker {attempt.worker} {how}")
            self.waiting.append(msgspec.structs.replace(task, attempt=task.attempt + 1))

    def _ended(self, attempt: Attempt, outcomes: list[Outcome] | None) -> None:
        if self.running.get(attempt.tasks[0].run.id) is not attempt:
            return
        if outcomes is None:  # Dask lost it; its worker is used again if it is still there
            self._left(attempt.worker)
            self._poll()
            return
        attempt.future.release()  # type: ignore[no-untyped-call]
        for task, outcome in zip(attempt.tasks, outcomes, strict=True):
            self._end(attempt, task, outcome)
        if self.states.get(attempt.worker) == "ready":
            self.free.append(attempt.worker)

    def _end(self, attempt: Attempt, task: Task, outcome: Outcome) -> None:
        run, reason = task.run, outcome.reason
        del self.running[run.id]
        keep(task.folder, outcome.files)
        result = None if reason else self.record.result(run)
        if result is None:
            reason = reason or f"no usable result in {task.folder}"
            self.record.note("failed", run.id, reason)
            self.view.failed(run, reason)
        else:
            self.record.note("finished", run.id)
            self.view.finished(run, result)
            if self.setup.remote:
                self.background.submit(call, self.client, attempt.worker, forget, task.name)
        self.waiting[:0] = self.then(task)[::-1]

    def _no_workers(self, seconds: float) -> StudyError:
        """The error where no worker is left that may train."""
        if self.failed_starts > FAILED_STARTS_ALLOWED:
            return StudyError(
                f"{self.failed_starts} workers in a row died before they could train; look at the free memory of their "
                f"machine, and whether python -c 'import torch' ends well there"
            )
        if not self.setup.remote:
            return StudyError(
                "all worker processes died and none could be started again; look at free memory and processes, then "
                "give the same command again with fewer --workers"
            )
        address = address_of(self.client)
        if self.reasons:
            listed = "\n".join(f"  {worker}: {reason}" for worker, reason in self.reasons.items())
            return StudyError(f"the cluster at {address} has no worker that can be used:\n{listed}")
        return StudyError(
            f"the cluster at {address} has had no worker for {seconds:.0f} s; start some with dask worker {address} "
            f"--nthreads 1 --nworkers N, or wait until your queue has started them, and give the same command again: "
            f"finished runs are kept"
        )


def _outcomes(future: Future[Any], tasks: int) -> list[Outcome] | None:
    """How each task of an attempt ended; None if Dask lost it, or its worker."""
    if future.status not in ("finished", "error"):
        return None
    try:
        outcomes: list[Outcome] = future.result(timeout=FETCH_SECONDS)
        return outcomes
    except (distributed.TimeoutError, distributed.CancelledError, distributed.KilledWorker, OSError):
        return None
    except Exception as error:
        return [Outcome(reason=f"{type(error).__name__}: {error}")] * tasks


def _lost_too_often(losses: list[str]) -> str:
    if set(losses) == {DIED}:
        return f"its worker process died {len(losses)} times (killed, out of memory or crashed)"
    counted = ", ".join(f"{losses.count(how)} × its worker {how}" for how in dict.fromkeys(losses))
    return (
        f"it was given up after {len(losses)} attempts: {counted}; give more --stall-minutes if its epochs take longer"
    )


def keep(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write what a worker sent of a run into its folder, the result last; a result there that no one can use is
    kept under another name.

    Raises:
        StoreError: the folder cannot be written, or the disk is full.
    """
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in sorted(files, key="result.json".__eq__):
            if name == "result.json" and (folder / name).exists():
                (folder / name).replace(folder / "result.json.unusable")
            write_whole(folder / name, files[name])
        if "result.json" in files:  # epochs of an earlier session on this machine
            (folder / "checkpoint.pt").unlink(missing_ok=True)
