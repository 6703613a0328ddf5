"""Train the runs that a study still lacks; whatever stops it, the same command goes on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from cello.audio.corpus import Corpus
from cello.audio.folds import fold_names
from cello.cells.stored import StoredCell
from cello.errors import StudyError
from cello.execution.cluster import connected
from cello.execution.gpus import runs_at_once, shared_devices
from cello.execution.local import local_cluster
from cello.execution.progress import View, view
from cello.execution.session import RunRecord, Session
from cello.execution.task import Setup, Task, last_failure, open_source
from cello.execution.workers import Workers, scheduler_address
from cello.models.config import cell_of
from cello.study.compatibility import check_clips, check_windows
from cello.study.config import StudyConfig
from cello.study.estimate import far_off
from cello.study.folder import naming, single_writer
from cello.study.plan import PlannedRun, plan, sample_rate
from cello.study.reading import unusable
from cello.study.single import write_source
from cello.study.store import CorpusSource, FailedRun, Store, folded
from cello.training.config import CorpusRef

TRAIN = "cello.training.run:train"
"""What trains a study's runs; of another function nothing tells that it can train several together."""


def run_study(
    study: StudyConfig,
    source: CorpusSource | str,
    out: Path | str,
    *,
    workers: int | Workers | None = None,
    cache: Path | None = None,
    train: str = TRAIN,
    progress: bool = True,
) -> Store:
    """Run every planned run that is not finished in ``out``, each in a process and on one thread of its own.

    On a GPU, runs that differ in the seed alone are trained together, as ``ExecutionConfig.replicates`` says.

    A worker that is killed is replaced and its run goes on from its last epoch; a run that raises is noted and does
    not stop the others. ``source`` is a corpus as ``open_corpus`` takes it, with options as a ``CorpusSource``.
    ``workers`` is the number of cores unless said; a ``Workers`` also says which cluster is to train, and
    how each run is computed.

    Raises:
        StudyError: a plan that makes no sense or asks for longer windows than the corpus has clips, a cluster that does
            not answer or has no compatible worker, or runs that failed (all others are finished then).
        StoreError: ``out`` holds another study, cannot be written, or is being written.
        KeyboardInterrupt: Ctrl-C; the message says what is finished and that the same command resumes.
    """
    workers = Workers.of(workers)
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
        store = _begun(out, study, corpus, source)
        places = {run.place for run in planned}
        asked = [run for run in store.runs if run.place in places]
        todo = store.pending(asked)
        _say_unusable(store, todo)
        if todo:
            total = len({run.id for run in asked})
            setup = setup_for(workers, todo, source=source, corpus=reference, cache=cache, train=train)
            tasks = [Task(run=run, folder=store.run_folder(run).absolute(), setup=setup) for run in todo]
            show = partial(view, progress, todo, total)
            try:
                run_tasks(store, workers, tasks, corpus, len(tasks), show)
            except KeyboardInterrupt:
                done = total - len(store.pending(asked))
                raise KeyboardInterrupt(
                    f"stopped: {done} of {total} runs in {str(out)!r} are finished, and those under way keep their "
                    f"last whole epoch{where_kept(workers)}; give the same command again to go on"
                ) from None
        check_all_finished(store, asked)
    return store


def _begun(out: Path, study: StudyConfig, corpus: Corpus, source: CorpusSource) -> Store:
    store = Store.create_or_open(out, study, corpus.manifest, source)
    with naming(out):
        write_source(out, source)
    store.reconcile()
    return store


def _say_unusable(store: Store, todo: Iterable[PlannedRun]) -> None:
    """Warn of results that lie there and do not count, for they are trained again."""
    for run in todo:
        reason = unusable(store.run_folder(run), run)
        if reason:
            warnings.warn(f"{run} ({run.id}): {reason}", stacklevel=2)


def where_kept(workers: Workers) -> str:
    """Where a run's epochs lie that was not finished, as a part of a sentence."""
    return "" if workers.cluster is None else " on the machine that trained them"


def setup_for(workers: Workers, runs: Sequence[PlannedRun], **settings: Any) -> Setup:
    """What the runs of a new session share, with their cells that are the user's own."""
    own = {(run.config.model.cell, run.config.model.equations): run.config.model for run in runs}
    found = {place: cell_of(model) for place, model in sorted(own.items()) if model.equations}
    devices = shared_devices(workers.execution) if workers.cluster is None else ()
    at_once = min(runs_at_once(workers.count, devices), len(runs)) if workers.cluster is None else None
    execution = workers.execution if at_once is None else workers.execution.beside(at_once)
    cells = [(name, msgspec.json.encode(StoredCell.of(cell))) for (name, _), cell in found.items() if cell is not None]
    return Setup(
        session=uuid4().hex,
        remote=workers.cluster is not None,
        cells=tuple(cells),
        execution=execution,
        devices=devices,
        replicates=workers.execution.most_replicates if settings["train"] == TRAIN else 1,
        **settings,
    )


def nothing_more(task: Task) -> list[Task]:
    """What follows from the end of a task where all tasks are known beforehand."""
    return []


def run_tasks(
    record: RunRecord,
    workers: Workers,
    tasks: list[Task],
    corpus: Corpus,
    ahead: int,
    show: Callable[[int], View],
    then: Callable[[Task], list[Task]] = nothing_more,
) -> None:
    """One session, until no task is left: on processes of this machine, or on a cluster.

    ``ahead`` is how many tasks there will be in all; ``show`` makes the view for so many at a time. ``then`` is called
    at the end of each task, and its tasks are added.
    """
    setup = tasks[0].setup
    if workers.cluster is None:
        count = min(runs_at_once(workers.count, setup.devices), ahead)
        place = local_cluster(count, setup.train.partition(":")[0])
    else:
        place = connected(scheduler_address(workers.cluster))
    with place as client:
        if workers.cluster is not None:
            count = min(workers.count or max(1, len(client.nthreads())), ahead)  # type: ignore[no-untyped-call]
        with closing(show(count)) as shown:
            Session(client, setup, workers, corpus, record, shown).run(tasks, then)


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
    again = "Give the same command again to run these again."
    if not diverged:
        return again
    change = "would diverge again: change their settings, and choose another --out"
    return f"They {change}." if diverged == len(failed) else f"{again} The {diverged} that diverged {change}."
