"""Runs what a study still lacks, on all cores; whatever stops it, the same command goes on."""

from __future__ import annotations

import queue
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import msgspec
from distributed import Future

from cello.audio.corpus import Corpus
from cello.audio.folds import fold_names
from cello.cells.stored import StoredCell
from cello.errors import StudyError
from cello.files import write_whole
from cello.models.config import cell_of
from cello.study.cluster import existing, interrupt_calls, processes
from cello.study.compatibility import check_clips, check_windows
from cello.study.crew import Crew, scheduler_address
from cello.study.estimate import far_off, worker_count
from cello.study.folder import naming, single_writer
from cello.study.live import View, view
from cello.study.plan import PlannedRun, StudyConfig, plan, sample_rate
from cello.study.reading import unusable
from cello.study.roster import Answer, Inbox, Joined, Left, LostError, Message, Roster, Sent, answer, ask, nobody
from cello.study.store import CorpusSource, FailedRun, Store, folded
from cello.study.worker import News, Outcome, Setup, Task, execute, last_failure, open_source
from cello.training.config import CorpusRef
from cello.training.result import RunResult

DEATHS_ALLOWED = 3
DIED = "died"
LOOK_SECONDS = 5.0
LONELY_SECONDS, CLUSTER_SECONDS = 120.0, 300.0
"""How long no worker may be there: processes of this machine are begun at once, a cluster's may wait in a queue."""


def run_study(
    study: StudyConfig,
    source: CorpusSource | str,
    out: Path | str,
    *,
    workers: int | Crew | None = None,
    cache: Path | None = None,
    train: str = "cello.training.run:train",
    progress: bool = True,
) -> Store:
    """Run every planned run that is not finished in ``out``, each in a process and on one thread of its own.

    A worker that is killed is replaced and its run goes on from its last epoch; a run that raises is noted and does
    not stop the others. ``source`` is a corpus as ``open_corpus`` takes it, with options as a ``CorpusSource``.
    ``workers`` is the number of cores unless said; a ``Crew`` also says which cluster is to train, and
    how each run is computed.

    Raises:
        StudyError: a plan that makes no sense or asks for longer windows than the corpus has clips, a cluster that does
            not answer or has no worker that fits, or runs that failed (all others are finished then).
        StoreError: ``out`` holds another study, cannot be written, or is being written.
        KeyboardInterrupt: Ctrl-C; the message says what is finished and that the same command resumes.
    """
    crew = Crew.of(workers)
    rate, out = sample_rate(study), Path(out)  # mistakes in the plan show before the corpus is made
    if isinstance(source, str):
        source = CorpusSource(spec=source, options={"rate_hz": rate})
    source = folded(source, study)
    with single_writer(out):
        corpus = open_source(source, cache)
        reference = CorpusRef(name=corpus.manifest.corpus, checksum=corpus.manifest.checksum)
        planned = plan(study, reference, len(corpus.manifest.labels), folds=fold_names(corpus.manifest))
        check_windows(study.name, planned, corpus)
        check_clips(study.name, planned, corpus)
        for sentence in far_off(study, planned, len(corpus.manifest.labels)):
            warnings.warn(sentence, stacklevel=2)
        store = Store.create_or_open(out, study, corpus.manifest, source)
        store.reconcile()
        places = {run.place for run in planned}
        asked = [run for run in store.runs if run.place in places]
        todo = store.pending(asked)
        _say_unusable(store, todo)
        if todo:
            total = len({run.id for run in asked})
            setup = setup_for(crew, todo, source=source, corpus=reference, cache=cache, train=train)
            tasks = [Task(run=run, folder=store.run_folder(run).absolute(), setup=setup) for run in todo]
            try:
                sit(store, crew, tasks, corpus, len(tasks), lambda count: view(progress, todo, total, count))
            except KeyboardInterrupt:
                done = total - len(store.pending(asked))
                raise KeyboardInterrupt(
                    f"stopped: {done} of {total} runs in {str(out)!r} are finished, and those under way keep their "
                    f"last whole epoch{where_kept(crew)}; give the same command again to go on"
                ) from None
        check_all_finished(store, asked)
    return store


def _say_unusable(store: Store, todo: Iterable[PlannedRun]) -> None:
    """Warn of results that lie there and do not count, for they are trained again."""
    for run in todo:
        reason = unusable(store.run_folder(run), run)
        if reason:
            warnings.warn(f"{run} ({run.id}): {reason}", stacklevel=2)


def where_kept(crew: Crew) -> str:
    """Where a run's epochs lie that was not finished, as a part of a sentence."""
    return "" if crew.cluster is None else " on the machine that trained them"


def setup_for(crew: Crew, runs: Iterable[PlannedRun], **settings: Any) -> Setup:
    """What the runs of a new sitting have in common, with their cells that are the user's own."""
    own = {(run.config.model.cell, run.config.model.equations): run.config.model for run in runs}
    found = {place: cell_of(model) for place, model in sorted(own.items()) if model.equations}
    cells = [(name, msgspec.json.encode(StoredCell.of(cell))) for (name, _), cell in found.items() if cell is not None]
    return Setup(
        sitting=uuid4().hex, remote=crew.cluster is not None, cells=tuple(cells), execution=crew.execution, **settings
    )


class Keeper(Protocol):
    """Where runs are kept: a study's store, or whatever else knows a run's result and has a journal."""

    def note(self, event: str, run: str, reason: str = "", where: Mapping[str, Any] | None = None) -> None: ...
    def result(self, run: PlannedRun) -> RunResult | None: ...


def nothing_more(task: Task) -> list[Task]:
    """What follows from the end of a task where all tasks are known beforehand."""
    return []


def sit(
    keeper: Keeper,
    crew: Crew,
    tasks: list[Task],
    corpus: Corpus,
    ahead: int,
    show: Callable[[int], View],
    then: Callable[[Task], list[Task]] = nothing_more,
) -> None:
    """One sitting, until no task is left: on processes of this machine, or on the crew's cluster.

    ``ahead`` is how many tasks there will be in all; ``show`` makes the view for so many at a time. ``then`` is called
    at the end of each task, and its tasks are added.
    """
    inbox: Inbox = queue.SimpleQueue()
    setup = tasks[0].setup
    with ExitStack() as stack:
        stack.enter_context(interrupt_calls(lambda: inbox.put(None)))
        if crew.cluster is None:
            count = min(worker_count(crew.workers), ahead)
            client = stack.enter_context(processes(count, setup.train.partition(":")[0]))
        else:
            client = stack.enter_context(existing(scheduler_address(crew.cluster)))
            count = min(crew.workers or max(1, len(client.nthreads())), ahead)  # type: ignore[no-untyped-call]
        shown = show(count)
        stack.callback(shown.close)
        Session(keeper, shown, Roster(client, setup, corpus, inbox), crew, tasks, then).run()


class Attempt:
    """A task that a worker has; ``heard`` is when it last said something, in seconds of ``time.monotonic``."""

    def __init__(self, task: Task, address: str, key: str, future: Future[Any]) -> None:
        self.task, self.address, self.key, self.future = task, address, key, future
        self.heard = time.monotonic()


class Session:
    """Hands tasks to the workers, one at a time to each, and keeps the store and the view told."""

    def __init__(
        self,
        keeper: Keeper,
        shown: View,
        roster: Roster,
        crew: Crew,
        tasks: list[Task],
        then: Callable[[Task], list[Task]],
    ) -> None:
        self.keeper, self.shown, self.roster, self.crew, self.then = keeper, shown, roster, crew, then
        self.inbox = roster.inbox
        self.waiting = tasks[::-1]
        self.running: dict[str, Attempt] = {}
        self.losses: dict[str, list[str]] = {}  # of each run since it last came further than ever
        self.furthest: dict[str, int] = {}

    def run(self) -> None:
        """Until no task is left, or Ctrl-C."""
        client = self.roster.client
        client.subscribe_topic("all", self._membership)  # type: ignore[no-untyped-call]
        client.subscribe_topic(  # type: ignore[no-untyped-call]
            self.roster.setup.topic, lambda event: self.inbox.put(msgspec.json.decode(event[1], type=News))
        )
        try:
            self._look()
            while self.running or self.waiting:
                self._hand_out()
                self._take(self._next_message())
                self._take_from_the_stalled()
        finally:
            for attempt in self.running.values():
                attempt.future.release()  # type: ignore[no-untyped-call]
        self.roster.close()

    def _membership(self, event: tuple[float, Mapping[str, Any]]) -> None:
        action, address = event[1].get("action"), event[1].get("worker", "")
        if action == "add-worker":
            self.inbox.put(Joined(address))
        elif action == "remove-worker":
            self.inbox.put(Left(address))

    def _look(self) -> None:
        try:
            self.roster.look()
        except (OSError, RuntimeError) as error:
            raise StudyError(
                f"the scheduler at {self.crew.cluster or 'this machine'} does not answer any more ({error}); finished "
                f"runs are kept: start it again, and give the same command again"
            ) from error

    def _next_message(self) -> Message:
        patience = CLUSTER_SECONDS if self.crew.cluster else LONELY_SECONDS
        until = time.monotonic() + patience
        while True:
            if self.roster.hopeless(time.monotonic() > until):
                raise nobody(self.roster, self.crew.cluster, patience)
            try:
                return self.inbox.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                if self.roster.size:
                    until = time.monotonic() + patience
                self._look()
                self._take_from_the_stalled()

    def _take(self, message: Message) -> None:
        if message is None:
            raise KeyboardInterrupt
        if isinstance(message, News):
            self._hear(message)
        elif isinstance(message, Joined):
            self.roster.joined(message.address)
        elif isinstance(message, Sent):
            self.roster.sent(*message)
        elif isinstance(message, Left):
            self.roster.left(message.address)
            for attempt in [each for each in self.running.values() if each.address == message.address]:
                self._lose(attempt, DIED)
        else:
            self._answered(message)

    def _hand_out(self) -> None:
        limit = self.crew.workers or sys.maxsize
        while self.waiting and self.roster.free and len(self.running) < limit:
            task, address = self.waiting.pop(), self.roster.take()
            key = f"cello-run-{task.setup.sitting}-{task.run.id}-{task.attempt}"
            future = ask(self.roster.client, address, key, execute, task)
            self.running[task.run.id] = Attempt(task, address, key, future)
            answer(future, key, self.inbox)

    def _hear(self, news: News) -> None:
        attempt = self.running.get(news.run)
        if attempt is None or attempt.task.attempt != news.attempt:
            return
        attempt.heard = time.monotonic()
        run = attempt.task.run
        if news.epoch is not None:
            if news.epoch.epoch > self.furthest.get(run.id, 0):
                self.furthest[run.id] = news.epoch.epoch
                self.losses.pop(run.id, None)
            self.shown.epoch(run, news.epoch)
        else:
            self.keeper.note("started", run.id, where={"pid": news.pid, "host": news.host})
            self.shown.started(run)

    def _answered(self, message: Answer) -> None:
        attempt = next((each for each in self.running.values() if each.key == message.key), None)
        if attempt is None:
            self.roster.answered(*message)
            return
        outcome = message.value
        if isinstance(outcome, LostError):
            self._lose(attempt, DIED)
            self.roster.again(attempt.address)
        elif isinstance(outcome, Exception):
            self._end(attempt, Outcome(reason=f"{type(outcome).__name__}: {outcome}"))
        else:
            self._end(attempt, outcome)

    def _take_from_the_stalled(self) -> None:
        latest = time.monotonic() - 60 * self.crew.stall_minutes
        for attempt in [each for each in self.running.values() if each.heard < latest]:
            self._lose(attempt, f"showed no epoch for {self.crew.stall_minutes:g} minutes")
            self.roster.doubt(attempt.address)

    def _lose(self, attempt: Attempt, how: str) -> None:
        """Its worker died or hangs: another has the run next, unless that happened too often without a new epoch."""
        task = attempt.task
        attempt.future.release()  # type: ignore[no-untyped-call]
        losses = self.losses.setdefault(task.run.id, [])
        losses.append(how)
        if len(losses) > DEATHS_ALLOWED:
            self._end(attempt, Outcome(reason=_lost_too_often(losses)))
            return
        del self.running[task.run.id]
        self.keeper.note("lost", task.run.id, f"its worker {attempt.address} {how}")
        self.waiting.append(msgspec.structs.replace(task, attempt=task.attempt + 1))

    def _end(self, attempt: Attempt, outcome: Outcome) -> None:
        task, run_id, reason = attempt.task, attempt.task.run.id, outcome.reason
        del self.running[run_id]
        attempt.future.release()  # type: ignore[no-untyped-call]
        self.roster.back(attempt.address)
        if outcome.files:
            keep(task.folder, outcome.files)
        result = None if reason else self.keeper.result(task.run)
        if result is None:
            reason = reason or f"no usable result in {task.folder}"
            self.keeper.note("failed", run_id, reason)
            self.shown.failed(task.run, reason)
        else:
            self.keeper.note("finished", run_id)
            self.shown.finished(task.run, result)
            if task.setup.remote:
                self.roster.forget(attempt.address, task.name)
        self.waiting[:0] = self.then(task)[::-1]


def keep(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write what a worker brought of a run into its folder, the result last; a result there that no one can use is
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
        if "result.json" in files:  # epochs of an earlier sitting on this machine
            (folder / "checkpoint.pt").unlink(missing_ok=True)


def _lost_too_often(losses: list[str]) -> str:
    if set(losses) == {DIED}:
        return f"its worker process died {len(losses)} times (killed, out of memory or crashed)"
    counted = ", ".join(f"{losses.count(how)} × its worker {how}" for how in dict.fromkeys(losses))
    return f"it was given up after {len(losses)} tries: {counted}; give more --stall-minutes if its epochs take longer"


def check_all_finished(store: Store, asked: list[PlannedRun]) -> None:
    """Raises StudyError with the runs that failed, those of one reason together, and what is to be done about them."""
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
            f"{_what_next(store, failed)}"
        )


def _what_next(store: Store, failed: list[FailedRun]) -> str:
    """What is to be done about runs that failed: those that diverged would do so again."""
    last = [last_failure(store.run_folder(failure.planned)) for failure in failed]
    diverged = sum(failure is not None and failure.diverged for failure in last)
    again = "Give the same command again to try these again."
    if not diverged:
        return again
    change = "would diverge again: change their settings, and choose another --out"
    return f"They {change}." if diverged == len(failed) else f"{again} The {diverged} that diverged {change}."
