"""What hurts: another user's module or message in our workers, a port left open, a cause of no start that is hidden."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from distributed import Client

from cello.errors import StudyError
from cello.study import cluster, local, worker
from cello.study.cluster import processes
from cello.study.local import private_folder, socket_folder

EVIL = "from pathlib import Path\nPath(__file__).with_suffix('.executed').touch()\n"
SCRIPT = """
import sys
from cello.study.cluster import processes

def seen(dask_worker):
    import wave
    return wave.__file__, list(sys.path), dask_worker.address

with processes(1, "cello.study.worker") as client:
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
    assert address.startswith("unix://")
    assert sorted(entry.name for entry in shared.iterdir() if entry.is_dir()) == ["dask-scratch-space"]


def test_nobody_else_can_reach_the_processes_and_nothing_of_them_is_left() -> None:
    own = psutil.Process()
    before, path = {each.laddr for each in own.net_connections("inet")}, list(sys.path)
    with processes(1, "cello.study.worker") as client:
        folder = Path(client.scheduler.address.removeprefix("unix://").rpartition(":")[0])
        assert folder.stat().st_mode & 0o777 == 0o700
        there = [own, *own.children(recursive=True)]
        assert len(there) > 1
        assert not {each.laddr for process in there for each in process.net_connections("inet")} - before
        assert sys.path == path
        assert "PYTHONSAFEPATH" in os.environ
        with pytest.raises(OSError, match=r"nobody listens at unix://.*:1: .*No such file|Timed out"):
            Client(f"unix://{folder}:1", timeout=0.5, set_as_default=False)
    assert not folder.exists()
    assert "PYTHONSAFEPATH" not in os.environ


def test_sockets_are_where_their_paths_are_short_and_nobody_else_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(local, "SHORT", str(tmp_path / "none"))
    monkeypatch.setattr(local, "LONGEST_SOCKET", len(str(tmp_path)) + local.ROOM + 40)
    for place, mode, fault in (
        ("t" * 85, 0o700, rf"TMPDIR is too long for sockets \({len(str(tmp_path)) + 86} letters\); set it to a short"),
        ("a:b", 0o700, r"TMPDIR has a colon in it \(.*a:b\)"),
        ("open", 0o777, r"TMPDIR can be changed by other users \(.*open\); set it to a short path of your own"),
        ("none", None, r"TMPDIR cannot be used \(.*No such file"),
    ):
        if mode is not None:
            (tmp_path / place).mkdir()
            (tmp_path / place).chmod(mode)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / place))
        with pytest.raises(StudyError, match=fault):
            socket_folder()
    (tmp_path / "s").mkdir(mode=0o700)
    monkeypatch.setattr(local, "LONGEST_SOCKET", len(str(tmp_path / "s")) + local.ROOM)
    monkeypatch.setattr(local, "SHORT", str(tmp_path / "s"))
    assert socket_folder() == tmp_path / "s"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert socket_folder() == tmp_path
    tmp_path.chmod(0o1777)
    assert socket_folder() == tmp_path


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(StudyError, match=r"no folder for workers can be made in .*none: .*No such file.*; set TMPDIR"),
        private_folder(tmp_path / "none"),
    ):
        pass


def test_what_a_killed_process_left_is_removed_and_what_is_in_use_stays(tmp_path: Path) -> None:
    names = ("stale123", "held1234", "young123")
    stale, held, young = (tmp_path / f"cello-run-{name}" for name in names)
    for folder in (stale, held, young):
        (folder / "dask-scratch-space").mkdir(parents=True)
    link, file = tmp_path / "cello-run-link1234", tmp_path / "cello-run-file1234"
    link.symlink_to(tmp_path / "cello-run-held1234")
    file.touch()
    for folder in (stale, held):
        os.utime(folder, (time.time() - 3600,) * 2)
    lock = os.open(held, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with private_folder(tmp_path) as own:
            assert own.stat().st_mode & 0o777 == 0o700
    finally:
        os.close(lock)
    assert sorted(tmp_path.iterdir()) == sorted([held, young, link, file])


def test_why_no_worker_starts_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(**_: object) -> None:
        try:
            raise OSError("no room for processes")
        except OSError as error:
            raise RuntimeError("Nanny failed to start.") from error

    monkeypatch.setattr(cluster, "SpecCluster", fails)
    with (
        pytest.raises(StudyError, match=r"1 worker process cannot be started: OSError: no room for processes; mend"),
        processes(1, "cello.study.worker"),
    ):
        pass


def test_what_a_cluster_keeps_of_runs_is_in_a_folder_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where somebody else made it, for dask's folder is shared, nothing is taken from there."""
    monkeypatch.setattr(worker, "get_worker", lambda: SimpleNamespace(local_directory=str(tmp_path / "worker-1")))
    kept = tmp_path / "cello-runs"
    kept.mkdir(mode=0o777)
    kept.chmod(0o777)
    assert worker.scratch().stat().st_mode & 0o777 == 0o700
    kept.rename(tmp_path / "elsewhere")
    kept.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StudyError, match=r"folder '.*cello-runs' is not this user's own; start dask worker"):
        worker.scratch()
