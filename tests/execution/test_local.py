"""What hurts: another user's module or message in our workers, a cause of no start that is hidden."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import psutil
import pytest
from dask.utils import parse_timedelta
from distributed import Client, LocalCluster, Security

from cello.errors import StudyError
from cello.execution import local, session, worker
from cello.execution.local import local_cluster

EVIL = "from pathlib import Path\nPath(__file__).with_suffix('.executed').touch()\n"
SCRIPT = """
import sys
from cello.execution.local import local_cluster

def seen(dask_worker):
    import wave
    return wave.__file__, list(sys.path), dask_worker.address

with local_cluster(1, "cello.execution.worker") as client:
    ((file, path, address),) = client.run(seen).values()
print(file, path, address, sep="\\n")
"""


def test_no_module_of_the_current_or_of_a_shared_folder_is_run_and_a_long_tmpdir_does_no_harm(tmp_path: Path) -> None:
    """Modules that Python, dask and training look for lie in both; TMPDIR has 85 letters or more."""
    here, shared = tmp_path / "here", tmp_path / ("t" * max(20, 85 - len(str(tmp_path))))
    for folder in (here, shared / "dask-scratch-space", shared):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)
        for name in ("wave", "gilknocker", "random", "multiprocessing", "distributed", "sitecustomize"):
            (folder / f"{name}.py").write_text(EVIL)
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-P", str(tmp_path / "script.py")]
    environment = {**os.environ, "TMPDIR": str(shared)}
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    file, path, address = done.stdout.splitlines()
    assert not list(tmp_path.rglob("*.executed"))
    assert str(tmp_path) not in file + path + address
    assert sorted(entry.name for entry in shared.iterdir() if entry.is_dir()) == ["dask-scratch-space"]


def nothing_served(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=1)
    except urllib.error.HTTPError as error:
        return error.code == 404
    except OSError:  # a socket that speaks TLS alone
        return True
    return False


def scratch(dask_worker: Any) -> Path:
    return Path(dask_worker.local_directory)


def test_nobody_without_the_key_can_reach_the_processes_and_nothing_of_them_is_left() -> None:
    own = psutil.Process()
    before, path = {each.laddr for each in own.net_connections("inet")}, list(sys.path)
    with local_cluster(1, "cello.execution.worker") as client:
        address = client.scheduler.address
        assert address.startswith("tls://127.0.0.1:")
        with pytest.raises(OSError, match=r"TLS certificate does not match|Timed out"):
            Client(address, security=Security.temporary(), timeout=0.5, set_as_default=False)
        with pytest.raises(OSError, match=r"Timed out|reset by peer"):
            Client(address.replace("tls", "tcp"), timeout=0.5, set_as_default=False)
        (folder,) = client.run(scratch).values()
        private = next(above for above in folder.parents if above.parent == Path("/tmp"))
        assert private.stat().st_mode & 0o777 == 0o700
        for added in set(sys.path) - set(path):
            assert Path(added).is_relative_to(private)
        there = [own, *own.children(recursive=True)]
        assert len(there) > 1
        listening = [each.laddr for one in there for each in one.net_connections("inet") if each.status == "LISTEN"]
        for ip, port in set(listening) - before:
            assert ip == "127.0.0.1"
            assert nothing_served(f"http://{ip}:{port}/")
        assert "PYTHONSAFEPATH" in os.environ
    assert not private.exists()
    assert "PYTHONSAFEPATH" not in os.environ
    assert sys.path == path


def test_why_no_worker_starts_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(**_: object) -> None:
        try:
            raise OSError("no room for processes")
        except OSError as error:
            raise RuntimeError("Nanny failed to start.") from error

    monkeypatch.setattr(local, "LocalCluster", fails)
    with (
        pytest.raises(StudyError, match=r"1 worker process cannot be started: OSError: no room for processes; fix"),
        local_cluster(1, "cello.execution.worker"),
    ):
        pass
    monkeypatch.setattr(local, "SHORT", str(tmp_path / "none"))
    with (
        pytest.raises(StudyError, match=r"2 worker processes cannot be started: FileNotFoundError: .*/none/cello-"),
        local_cluster(2, "cello.execution.worker"),
    ):
        pass


def test_what_a_cluster_keeps_of_runs_is_in_a_folder_of_ones_own(tmp_path: Path) -> None:
    """Where somebody else made it, for dask's folder is shared, nothing is taken from there."""
    there: Any = SimpleNamespace(local_directory=str(tmp_path / "worker-1"))
    kept = tmp_path / "cello-runs"
    kept.mkdir(mode=0o777)
    kept.chmod(0o777)
    assert worker._scratch(there).stat().st_mode & 0o777 == 0o700
    kept.rename(tmp_path / "elsewhere")
    kept.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StudyError, match=r"folder '.*cello-runs' is not this user's own; start dask worker"):
        worker._scratch(there)


def test_a_worker_that_dies_again_while_its_first_death_is_looked_into_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A LocalCluster looks some time after each death whether the worker is there, and ends its place if it is not."""
    looks: list[float] = []

    def note(self: Any, op: str, told: Any) -> None:
        looks.append(parse_timedelta(dask.config.get("distributed.deploy.lost-worker-timeout")))
        super(LocalCluster, self)._update_worker_status(op, told)

    with local_cluster(1, "cello.execution.worker") as client:
        monkeypatch.setattr(LocalCluster, "_update_worker_status", note, raising=False)
        (pid,) = client.run(os.getpid).values()
        os.kill(pid, signal.SIGKILL)
        client.wait_for_workers(1, timeout=60)
        until = time.monotonic() + 60
        while not looks and time.monotonic() < until:
            time.sleep(0.05)
    assert looks
    assert min(looks) > 10 * session.LOCAL_SECONDS


def test_ctrl_c_while_workers_start_closes_what_has_started_and_stays_quiet_until_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The signal reaches a thread that is older than the block, and so Python's main thread in the midst of it."""
    told: list[str] = []

    @contextmanager
    def noted(name: str) -> Iterator[str]:
        told.append(f"{name} begins")
        try:
            yield name
        finally:
            told.append(f"{name} ends")

    def started(count: int) -> AbstractContextManager[str]:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)  # where it would be answered
        return noted("cluster")

    over = threading.Event()
    older = threading.Thread(target=over.wait)
    older.start()
    monkeypatch.setattr(local, "start_forkserver", lambda module: None)
    monkeypatch.setattr(local, "quiet", lambda: noted("quiet"))
    monkeypatch.setattr(local, "_cluster", started)
    monkeypatch.setattr(local, "Client", lambda cluster, **settings: noted("client"))
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt), local_cluster(1, "cello"):
            told.append("never")
    finally:
        over.set()
        older.join()
    assert told == ["quiet begins", "cluster begins", "client begins", "client ends", "cluster ends", "quiet ends"]
    assert signal.getsignal(signal.SIGINT) is before
