"""What hurts: a study on a GPU whose seeds take turns, or a store that tells seeds trained together from others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from as_device import as_device
from cello.audio.corpus import Corpus
from cello.errors import StudyError
from cello.execution import run as running
from cello.execution import session as sessions
from cello.execution import worker
from cello.execution.run import run_study
from cello.execution.session import Attempt, Session
from cello.execution.task import Progress, Task
from cello.execution.workers import Workers
from cello.study.store import CorpusSource, Store
from cello.study.study_file import parse_study
from cello.training.execution import ExecutionConfig
from cello.training.result import RunResult
from cello.training.run import train
from cello.training.trainer import Together

Patch = pytest.MonkeyPatch
STUDY = parse_study(
    """
name = "t"
seeds = [0, 1, 2]
[base.features]
window_ms = 80
[base.optimiser]
epochs = 2
batch = 16
[[rows]]
name = "gru"
[rows.model]
cell = "gru"
hidden = 4
dropout = 0.2
[[rows]]
name = "rnn"
[rows.model]
cell = "rnn"
hidden = 3
""",
    "t.toml",
)
SOURCE = CorpusSource(spec="tones")
PLAIN = ExecutionConfig(backend="plain")


class Done:
    """A future that has ended."""

    status = "finished"

    def __init__(self, found: Any) -> None:
        self.found = found

    def result(self, timeout: float) -> Any:
        return self.found

    def release(self) -> None: ...

    def add_done_callback(self, call: Any) -> None:
        call(self)


class Here:
    """Stands for Dask, with one worker that is this process."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}
        self.subscribe_topic = self.handlers.__setitem__
        self.sizes: list[int] = []

    def nthreads(self) -> dict[str, int]:
        return {"tcp://here": 1}

    def submit(self, call: Any, blob: bytes, **settings: Any) -> Done:
        outcomes = call(blob)
        self.sizes.append(len(outcomes))
        return Done(outcomes)

    def report(self, task: Task, epoch: Any = None) -> None:
        event = Progress(run=task.run.id, attempt=task.attempt, pid=1, host="here", epoch=epoch)
        self.handlers[task.setup.topic]((0.0, msgspec.json.encode(event)))


@pytest.fixture
def here(tone_corpus: Corpus, monkeypatch: Patch) -> Here:
    """A study's session in this process, on a GPU for which the CPU stands."""
    found = Here()

    @contextmanager
    def local_cluster(*_: Any) -> Iterator[Any]:
        yield found

    as_device(monkeypatch)
    for name, value in {
        "local_cluster": local_cluster,
        "shared_devices": lambda execution: ("cuda:0",),
        "open_source": lambda *_: tone_corpus,
    }.items():
        monkeypatch.setattr(running, name, value)
    monkeypatch.setattr(worker, "_report", found.report)
    monkeypatch.setattr(worker, "_corpus", lambda setup: tone_corpus)
    return found


def figures(result: RunResult) -> list[float]:
    curves = [(e.train_loss, e.validation_loss) for e in result.history]
    return [figure for each in curves for figure in each] + [result.test.loss, result.train.loss]


def check_whole(store: Store, corpus: Corpus, folder: Path) -> None:
    """Every run is there once, with the numbers and files that it has alone."""
    assert len(store.results()) == 6
    finished = Counter(event.run for event in store.events() if event.event == "finished")
    assert finished == {run.id: 1 for run in store.runs}
    assert {event.run for event in store.events() if event.event == "started"} == set(finished)
    for stored in store.results():
        alone = train(stored.planned.config, corpus, folder / stored.id, execution=PLAIN)
        assert figures(stored.result) == pytest.approx(figures(alone), abs=1e-5)
        assert stored.result.config == alone.config
        names = {file.name for file in store.run_folder(stored.planned).iterdir()} - {"lock"}
        assert names == {file.name for file in (folder / stored.id).iterdir()}


def test_seeds_of_a_row_are_trained_together_on_a_gpu(here: Here, tone_corpus: Corpus, tmp_path: Path) -> None:
    store = run_study(STUDY, SOURCE, tmp_path / "out", workers=Workers(execution=PLAIN), progress=False)
    assert here.sizes == [3, 3]
    check_whole(store, tone_corpus, tmp_path)


@pytest.mark.parametrize(("replicates", "sizes"), [(1, [1] * 6), (2, [2, 2, 1, 1])])
def test_how_many_can_be_said(here: Here, tmp_path: Path, replicates: int, sizes: list[int]) -> None:
    how = Workers(execution=msgspec.structs.replace(PLAIN, replicates=replicates))
    run_study(STUDY, SOURCE, tmp_path / "out", workers=how, progress=False)
    assert sorted(here.sizes) == sorted(sizes)


def test_a_study_that_was_stopped_goes_on_with_the_seeds_that_are_missing(
    here: Here, tone_corpus: Corpus, tmp_path: Path, monkeypatch: Patch
) -> None:
    kept, epochs = Together.train_epoch, [0]

    def train_epoch(self: Together) -> Any:
        epochs[0] += 1
        if epochs[0] == 4:  # the last of the second group
            raise KeyboardInterrupt
        return kept(self)

    one = STUDY.__class__(**{**msgspec.structs.asdict(STUDY), "seeds": (1,)})
    run_study(one, SOURCE, tmp_path / "out", workers=Workers(execution=PLAIN), progress=False)
    epochs[0] = 0
    monkeypatch.setattr(Together, "train_epoch", train_epoch)
    with pytest.raises(KeyboardInterrupt, match="stopped: 4 of 6 runs"):
        run_study(STUDY, SOURCE, tmp_path / "out", workers=Workers(execution=PLAIN), progress=False)
    store = run_study(STUDY, SOURCE, tmp_path / "out", workers=Workers(execution=PLAIN), progress=False)
    assert here.sizes == [1, 1, 2, 2]
    check_whole(store, tone_corpus, tmp_path)


def test_a_seed_that_diverges_is_recorded_and_the_others_finish(here: Here, tmp_path: Path, monkeypatch: Patch) -> None:
    kept = Together.train_epoch

    def train_epoch(self: Together) -> Any:
        for trainer in self.trainers:
            if trainer.config.seed == 1 and trainer.config.model.cell == "rnn":
                trainer.optimiser.parameters[0].data.fill_(float("nan"))
        return kept(self)

    monkeypatch.setattr(Together, "train_epoch", train_epoch)
    with pytest.raises(StudyError, match=r"^1 of 6 runs failed, the others are finished.*\n.*rnn, seed 1.*: the train"):
        run_study(STUDY, SOURCE, tmp_path / "out", workers=Workers(execution=PLAIN), progress=False)
    store = Store.open(tmp_path / "out")
    assert len(store.results()) == 5
    (failed,) = store.failures()
    assert (failed.planned.row, failed.planned.seed) == ("rnn", 1)
    assert (store.run_folder(failed.planned) / "failure.json").exists()


def planned(seeds: int, rows: str = "ab") -> list[Any]:
    return [SimpleNamespace(id=f"{row}{seed}", seed=seed, row=row) for seed in range(seeds) for row in rows]


def session(patch: Patch, runs: list[Any], **settings: Any) -> Session:
    patch.setattr(sessions, "replicates", lambda one, other: one.row == other.row)
    unused: Any = None
    notes: Any = SimpleNamespace(note=lambda *_, **__: None)
    setup: Any = SimpleNamespace(devices=("cuda:0",), remote=False, session="s", replicates=16, **settings)
    there = Session(unused, setup, Workers(), unused, notes, unused)
    there.waiting = [Task(run=run, folder=Path(), setup=setup) for run in runs][::-1]
    there.devices = {"w": "cuda:0"}
    return there


def names(tasks: list[Task]) -> list[str]:
    return [task.run.id for task in tasks]


def test_the_cpu_takes_one_run_at_a_time_and_a_gpu_all_seeds(monkeypatch: Patch) -> None:
    there = session(monkeypatch, planned(3))
    assert names(there._next_tasks("elsewhere", 0)) == ["a0"]
    assert names(there._next_tasks("w", 0)) == ["b0", "b1", "b2"]
    assert names(there._next_tasks("w", 0)) == ["a1", "a2"]
    assert there.waiting == []


def test_no_gpu_is_left_idle_for_a_large_group(monkeypatch: Patch) -> None:
    there = session(monkeypatch, planned(5, "a"))
    assert names(there._next_tasks("w", 1)) == ["a0", "a1", "a2"]
    assert names(there._next_tasks("w", 0)) == ["a3", "a4"]


def test_runs_that_were_lost_twice_are_trained_alone(monkeypatch: Patch) -> None:
    """One that kills its worker takes the others with it only so often."""
    there = session(monkeypatch, planned(3, "a"))
    released: Any = SimpleNamespace(release=lambda: None)
    for round_ in range(2):
        tasks = there._next_tasks("w", 0)
        assert (names(tasks), [task.attempt for task in tasks]) == (["a0", "a1", "a2"], [round_] * 3)
        attempt = Attempt(tasks, "w", released)
        there.running |= {task.run.id: attempt for task in tasks}
        there._lose(attempt, "died")
        assert there.running == {}
    assert names(there._next_tasks("w", 0)) == ["a0"]
    assert names(there._next_tasks("w", 0)) == ["a1"]
