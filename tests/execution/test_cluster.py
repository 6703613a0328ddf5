"""On somebody's cluster, where workers die, hang and have none of our files, a study must give what it gives here."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import dask
import msgspec
import pytest
from distributed import Client
from fake_training import timeless

from cello.errors import StudyError
from cello.execution import cluster, run, session
from cello.execution.cluster import incompatibility
from cello.execution.progress import Silent
from cello.execution.run import run_study
from cello.execution.task import WorkerInfo
from cello.execution.workers import Workers
from cello.machine import source as tree
from cello.machine import versions
from cello.study.config import StudyConfig
from cello.study.overrides import override
from cello.study.plan import PlannedRun
from cello.study.space import Dimension, TuneConfig
from cello.study.store import CorpusSource, Store
from cello.training.result import Epoch
from cello.tuning.tune import run_tuning

from .some_cluster import somebodys, table

HERE = Path(__file__).parents[1] / "study"
FAKE = "fake_training:train"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A cluster of two workers, as somebody may have it, with a folder of its own for what they keep."""
    with (
        pytest.MonkeyPatch.context() as patch,
        dask.config.set({"temporary-directory": str(tmp_path_factory.mktemp("workers"))}),
    ):
        patch.syspath_prepend(str(HERE))
        with somebodys(2) as client:
            yield client


class Deadly(Silent):
    """One who ends the cluster at the first epoch."""

    def __init__(self, client: Client) -> None:
        self.end: list[threading.Thread] = [threading.Thread(target=client.cluster.close)]

    def epoch(self, run: PlannedRun, epoch: Epoch) -> None:
        if self.end:
            self.end.pop().start()


@pytest.fixture
def remote(running: Client) -> Workers:
    return Workers(cluster=running.scheduler.address)


class Impatient(Silent):
    """One who gives Ctrl-C at the first epoch."""

    def epoch(self, run: PlannedRun, epoch: Epoch) -> None:
        os.kill(os.getpid(), signal.SIGINT)


def test_a_study_there_equals_one_here_whoever_dies(
    remote: Workers, running: Client, small: StudyConfig, source: CorpusSource, tmp_path: Path
) -> None:
    """Each worker is killed once; the corpus is nowhere but with the client; runs arrive whole, and nothing else."""
    cache = tmp_path / "cache"
    cache.mkdir()
    slow = override(small, settings={"optimiser.learning_rate": 0.1})
    victims = list(running.run(os.getpid).values())
    for seconds, pid in zip((0.5, 1.5), victims, strict=True):
        threading.Timer(seconds, os.kill, (pid, signal.SIGKILL)).start()
    there = run_study(slow, source, tmp_path / "there", workers=remote, cache=cache, train=FAKE, progress=False)
    here = run_study(slow, source, tmp_path / "here", workers=2, train=FAKE, progress=False)
    assert len(there.results()) == 6
    assert [timeless(run.result) for run in there.results()] == [timeless(run.result) for run in here.results()]
    assert [event.event for event in there.events()].count("finished") == 6
    assert {path.name for path in there.run_folder(there.runs[0]).iterdir()} == {"result.json", "predictions.npz"}
    assert (cache / "packs" / ("a" * 32) / "manifest.json").exists()


def test_runs_that_fail_there_are_recorded_with_their_reasons(
    remote: Workers, source: CorpusSource, tmp_path: Path
) -> None:
    """Deaths count only where a run comes no further: one that dies four times, after each epoch, is finished."""
    study = override(table(1, 12, 13, 14, 15, 16, 19), settings={"optimiser.epochs": 5})
    with pytest.raises(StudyError, match="4 of 7 runs failed, the others are finished"):
        run_study(study, source, tmp_path, workers=remote, train=FAKE, progress=False)
    store = Store.open(tmp_path)
    assert {run.row for run in store.results()} == {"1", "14", "19"}
    reasons = {failure.planned.row: failure.reason for failure in store.failures()}
    assert reasons["13"] == "the loss is not finite; lower the learning rate"
    assert reasons["15"] == "its worker process died 4 times (killed, out of memory or crashed)"
    assert reasons["16"].startswith("MemoryError: no room for 9 GB; its traceback is in ")
    told = Path(reasons["12"].removeprefix("ValueError: a bug of ours; its traceback is in "))
    assert told.is_relative_to(tmp_path)
    assert "in misbehave" in told.read_text()
    lost = [event.reason for event in store.events() if event.event == "lost"]
    assert len(lost) == 1 + 3 + 4
    assert all(reason.startswith("its worker tcp://") and reason.endswith(" died") for reason in lost)


def test_a_run_that_hangs_is_done_by_another_worker(remote: Workers, source: CorpusSource, tmp_path: Path) -> None:
    patient = Workers(cluster=remote.cluster, stall_minutes=0.08)
    store = run_study(table(17), source, tmp_path, workers=patient, train=FAKE, progress=False)
    assert len(store.results()) == 1
    lost = [event.reason for event in store.events() if event.event == "lost"]
    assert lost
    assert lost[0].endswith("showed no epoch for 0.08 minutes")


def test_a_cell_of_ones_own_travels(
    remote: Workers, running: Client, source: CorpusSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found though no worker has its file; and once the run has come, no worker keeps anything of it."""
    (tmp_path / "mine.py").write_text(
        "from cello.cells.definition import cell\nfrom cello.cells.functions import tanh\n\n\n"
        "@cell\ndef mine(x, h, W, U):\n    return tanh(W.a @ x + U.a @ h)\n"
    )
    monkeypatch.chdir(tmp_path)
    study = table(18, extra='model.cell = "mine.py:mine"\n')
    store = run_study(study, source, Path("out"), workers=remote, train=FAKE, progress=False)
    assert [run.row for run in store.results()] == ["18"]
    local = running.run(lambda dask_worker: dask_worker.local_directory)
    kept = Path(next(iter(local.values()))).parent / "cello-runs"
    assert list(kept.glob(f"{store.runs[0].id}*")) == []


def test_trials_are_the_same_there(remote: Workers, source: CorpusSource, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    tune = TuneConfig(trials=3, epochs=1, space={"model.dropout": Dimension(low=0.0, high=0.5)})
    there, here = (
        run_tuning(table(100, 101), tune, source, tmp_path / name, workers=workers, train=FAKE, progress=False)
        for name, workers in (("there", remote), ("here", 2))
    )
    assert len(there.trials) == 6
    assert there.trials == here.trials


def test_a_study_that_is_stopped_leaves_the_workers_to_others(
    remote: Workers, small: StudyConfig, source: CorpusSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = override(small, seeds=[0], settings={"optimiser.epochs": 100_000})
    monkeypatch.setattr(run, "view", lambda *_: Impatient())
    with pytest.raises(
        KeyboardInterrupt, match=r"0 of 3 runs .* keep their last whole epoch on the machine that trained"
    ):
        run_study(endless, source, tmp_path / "a", workers=remote, train=FAKE, progress=False)
    monkeypatch.undo()
    assert (
        len(run_study(table(1, 2), source, tmp_path / "b", workers=remote, train=FAKE, progress=False).results()) == 2
    )


def test_a_scheduler_that_dies_ends_the_study_with_a_sentence(
    small: StudyConfig, source: CorpusSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1.0)
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}), somebodys(1) as doomed:
        monkeypatch.setattr(run, "view", lambda *_: Deadly(doomed))
        with pytest.raises(StudyError, match=r"the scheduler at tcp://.* does not answer any more .*; finished runs"):
            run_study(
                override(small, settings={"optimiser.epochs": 500}),
                source,
                tmp_path,
                workers=Workers(cluster=doomed.scheduler.address),
                train=FAKE,
                progress=False,
            )


def test_a_cluster_that_cannot_be_used_says_why(
    small: StudyConfig, source: CorpusSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1.0)
    with pytest.raises(StudyError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1: .*; check the addr"):
        run_study(small, source, tmp_path / "a", workers=Workers(cluster="127.0.0.1:1"), train=FAKE, progress=False)
    monkeypatch.setattr(session, "CLUSTER_SECONDS", 0.2)
    monkeypatch.setattr(session, "POLL_SECONDS", 0.1)
    with somebodys(0) as empty:
        remote = Workers(cluster=empty.scheduler.address)
        with pytest.raises(StudyError, match=r"has had no worker for 0 s; start some with dask worker tcp://127"):
            run_study(small, source, tmp_path / "b", workers=remote, train=FAKE, progress=False)


ADDRESS = "tcp://node:8786"
FIT = WorkerInfo(versions=versions(), source=tree(), threads=1, host="a", processor="p", cache="/c", corpus=True)


@pytest.mark.parametrize("name", ["cello", "torch", "python"])
def test_other_versions_are_named_with_ours(name: str) -> None:
    other = msgspec.structs.replace(FIT, versions={**versions(), name: "0.0.7"})
    assert incompatibility(other, ADDRESS) == (
        f"it has {name} 0.0.7, and this side {name} {versions()[name]}; results depend on the versions, so give it the "
        f"same environment"
    )


def test_another_tree_of_the_same_version_is_told_apart() -> None:
    assert incompatibility(msgspec.structs.replace(FIT, source=tree()), ADDRESS) == ""
    assert incompatibility(msgspec.structs.replace(FIT, source="0123456789ab"), ADDRESS) == (
        f"its Cello {versions()['cello']} is of other source files (0123456789ab) than this side's ({tree()}); a "
        f"run's numbers may depend on that, so install the same one on both"
    )


def test_a_worker_that_cannot_train_is_told_how_to_be_started() -> None:
    assert incompatibility(FIT, ADDRESS) == ""
    assert incompatibility(msgspec.structs.replace(FIT, threads=4), ADDRESS) == (
        "it has 4 threads, and a run is one process on one thread; start it as dask worker tcp://node:8786 --nthreads "
        "1 --nworkers 4"
    )
