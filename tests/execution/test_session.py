"""What hurts: a run that is given up for another's faults, and a wait for workers that will never train."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from distributed import Client, KilledWorker

from cello.errors import StudyError
from cello.execution.local import local_cluster
from cello.execution.run import run_study
from cello.execution.session import Session
from cello.execution.workers import Workers
from cello.study.config import StudyConfig
from cello.study.store import CorpusSource, Store

from .some_cluster import somebodys, table

HERE = Path(__file__).parents[1] / "study"
FAKE = "fake_training:train"
ADDRESS = "tcp://node:8786"
WITHOUT_CELLO = "import sys; sys.modules['cello'] = None; sys.argv[0] = 'dask'; "
SCHEDULER = "from distributed.cli.dask_scheduler import main; main()"
WORKER = "from distributed.cli.dask_worker import main; main()"


def test_a_run_that_kills_its_workers_takes_no_other_with_it(
    source: CorpusSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left to Dask, the run that waits behind it is given up too: this is why a run is pinned to its worker."""
    with local_cluster(1, "cello.execution.worker") as client:
        deadly = client.submit(lambda: (time.sleep(0.2), os._exit(9)), pure=False, priority=1)
        innocent = client.submit(abs, -1, pure=False)
        assert isinstance(deadly.exception(), KilledWorker)
        assert isinstance(innocent.exception(), KilledWorker)
    monkeypatch.syspath_prepend(str(HERE))
    with pytest.raises(StudyError, match="1 of 3 runs failed, the others are finished"):
        run_study(table(15, 1, 2), source, tmp_path, workers=1, train=FAKE, progress=False)
    assert {run.row for run in Store.open(tmp_path).results()} == {"1", "2"}


@contextmanager
def processes(root: Path, *programs: str) -> Iterator[None]:
    """A Dask scheduler and workers as commands, each with the program it is given."""
    own = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(root / "cache")}
    options = ["--scheduler-file", str(root / "scheduler.json"), "--no-dashboard", "--host", "127.0.0.1"]
    places = ["--nthreads", "1", "--no-nanny", "--local-directory", str(root / "local")]
    started = []
    try:
        for program in programs:
            end = places if program.endswith(WORKER) else ["--port", "0"]
            command = [sys.executable, "-c", program, *options, *end]
            started.append(subprocess.Popen(command, env=own, cwd=root, stderr=subprocess.DEVNULL))
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_a_scheduler_needs_no_cello_and_a_worker_without_it_is_named(source: CorpusSource, tmp_path: Path) -> None:
    with processes(tmp_path, WITHOUT_CELLO + SCHEDULER, WITHOUT_CELLO + WORKER, WORKER):
        while not (tmp_path / "scheduler.json").exists():
            time.sleep(0.05)
        with Client(scheduler_file=str(tmp_path / "scheduler.json"), set_as_default=False) as client:
            client.wait_for_workers(2)
        remote = Workers(cluster=str(tmp_path / "scheduler.json"))
        with pytest.warns(UserWarning, match=r"tcp://\S+ is not used: it cannot import Cello .*"):
            store = run_study(table(1, 2), source, tmp_path / "out", workers=remote, train=FAKE, progress=False)
    assert len(store.results()) == 2


def test_a_cluster_whose_workers_have_many_threads_is_refused(
    small: StudyConfig, source: CorpusSource, tmp_path: Path
) -> None:
    with somebodys(1, threads=2) as client:
        remote = Workers(cluster=client.scheduler.address)
        with pytest.raises(StudyError, match=r"has no worker that can be used:\n  tcp://\S+: it has 2 threads, "):
            run_study(small, source, tmp_path, workers=remote, train=FAKE, progress=False)


def session(remote: bool) -> Any:
    client: Any = SimpleNamespace(scheduler=SimpleNamespace(address=ADDRESS))
    unused: Any = None
    return Session(client, SimpleNamespace(remote=remote), Workers(), unused, unused, unused)  # type: ignore[arg-type]


def test_where_nobody_can_train_the_reasons_are_said() -> None:
    there, here = session(True), session(False)
    assert "start some with dask worker tcp://node:8786 --nthreads 1" in str(there._no_workers(300))
    assert str(here._no_workers(60)).endswith("give the same command again with fewer --workers")


def test_workers_that_die_before_they_train_are_not_waited_for() -> None:
    there = session(True)
    there.background = SimpleNamespace(submit=lambda *_: None)
    for number in range(10):
        assert there.failed_starts == number
        there._joined(f"tcp://a:{number}")
        there._left(f"tcp://a:{number}")
    with pytest.raises(StudyError, match=r"^10 workers in a row died before they could train; look at the free memory"):
        there._next_message()
