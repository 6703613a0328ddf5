"""What hurts: a kernel that ends each process that tries it, one that is blamed for a process that somebody ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cello.compiler.triton import verdicts
from cello.compiler.triton.verdicts import Verdict, being_tried, ended, folder, remember, remembered

TRIES = """
import sys
from cello.compiler.triton.verdicts import being_tried
with being_tried("key", sys.argv[1]):
    print("tries", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CELLO_CACHE", str(tmp_path))


@contextmanager
def process(way: str = "forward") -> Iterator[subprocess.Popen[str]]:
    """One that tries kernels until it is ended."""
    command = [sys.executable, "-c", TRIES, way]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as one:
        assert one.stdout is not None
        assert one.stdout.readline() == "tries\n"
        yield one
        one.kill()


def test_what_was_found_is_remembered_and_what_was_changed_is_not_believed() -> None:
    verdict = Verdict("backward", "gives wrong numbers", "derivatives of U are not finite")
    remember("key", verdict)
    assert remembered("key") == verdict
    assert remembered("another") is None
    file = folder() / "key.json"
    file.write_bytes(file.read_bytes().replace(b"backward", b"right"))
    assert remembered("key") is None


@pytest.mark.parametrize("way", ["forward", "backward"])
def test_the_mark_of_a_process_that_ended_is_found_once(way: str) -> None:
    with process(way) as one:
        assert ended("key") is None  # while it runs
        one.send_signal(signal.SIGKILL)
        one.wait()
        assert ended("another") is None
        assert ended("key") == way
    assert ended("key") is None
    assert not [*folder().iterdir()]


def test_a_process_that_goes_on_leaves_no_mark_by_whatever_end_of_the_trial() -> None:
    with being_tried("key", "forward"):
        assert len([*folder().iterdir()]) == 1
    with pytest.raises(KeyboardInterrupt), being_tried("key", "forward"):
        raise KeyboardInterrupt
    assert not [*folder().iterdir()]


def test_several_processes_that_try_the_same_do_not_take_each_other_for_ended() -> None:
    with process() as one, process() as other, being_tried("key", "forward"):
        assert ended("key") is None
        one.send_signal(signal.SIGKILL)
        one.wait()
        assert ended("key") == "forward"
        assert ended("key") is None
        assert other.poll() is None
        assert len([*folder().iterdir()]) == 2


def test_a_mark_that_is_removed_while_it_is_looked_at_is_none_of_an_ended_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    acquire = verdicts.acquire

    def removed(file: int, **how: float) -> None:
        acquire(file, **how)  # type: ignore[arg-type]
        if "shared" in how:
            for path in folder().iterdir():
                path.unlink()

    with process() as one:
        one.send_signal(signal.SIGKILL)
        one.wait()
        monkeypatch.setattr(verdicts, "acquire", removed)
        assert ended("key") is None


def test_marks_of_another_machine_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with process() as one:
        one.send_signal(signal.SIGKILL)
        one.wait()
        with monkeypatch.context() as there:
            there.setattr(verdicts.platform, "node", lambda: "another.machine/..")
            assert ended("key") is None
            with being_tried("key", "forward"):
                pass
        assert ended("key") == "forward"


def test_where_nothing_can_be_written_or_locked_kernels_are_tried_without_a_mark(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(file: int, **how: object) -> None:
        raise OSError(38, os.strerror(38))

    with monkeypatch.context() as unlocked:
        unlocked.setattr(verdicts, "acquire", refuse)
        with being_tried("key", "forward"):
            assert not [*folder().iterdir()]
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("CELLO_CACHE", str(tmp_path / "file"))
    with being_tried("key", "forward"):
        remember("key", Verdict("right"))
        assert remembered("key") is None
        assert ended("key") is None
    monkeypatch.delenv("CELLO_CACHE")
    monkeypatch.setattr("cello.native.cache.cache_root", no_home)
    with being_tried("key", "forward"):
        remember("key", Verdict("right"))
        assert remembered("key") is None
        assert ended("key") is None


def no_home() -> Path:
    from cello.errors import CelloError

    raise CelloError("there is no home folder")
