"""Two writers in one folder, a half-written file, or an error that does not say what to do would cost a study."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cello.errors import StoreError
from cello.files import write_whole
from cello.study.folder import below, naming, single_writer


def test_a_second_writer_is_refused_with_the_first_ones_pid(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from cello.study.folder import single_writer\n"
        "with single_writer(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], **pipes, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match=rf"another process \(pid {first.pid}\); wait for it, stop it, or choose"):
            single_writer(tmp_path).__enter__()
        first.kill()
    with single_writer(tmp_path):
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_the_lock_is_waited_for(tmp_path: Path) -> None:
    with single_writer(tmp_path), pytest.raises(StoreError, match=f"pid {os.getpid()}"):
        single_writer(tmp_path, patience_seconds=0.15).__enter__()
    with single_writer(tmp_path, patience_seconds=0.15):
        pass


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.EINVAL])
def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(file: object, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StoreError, match=r"is on a file system without locks; choose a folder on a local disk"):
        single_writer(tmp_path).__enter__()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_says_how_much_is_free_and_that_nothing_is_lost(tmp_path: Path) -> None:
    with (
        pytest.raises(
            StoreError, match=r"the disk of '.*' is full \(\d+ MB free\); make room and give the same command"
        ),
        naming(tmp_path / "not" / "there"),
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        full.write(b"x")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            FileNotFoundError(errno.ENOENT, "No such file", "/proc/x"),
            r"cannot be used: no such file \('/proc/x'\); choose a folder you",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "/a"), "cannot be used: permission denied.*with --out"),
        (OSError(errno.EROFS, "Read-only file system", "/a"), "cannot be used: read-only file system"),
        (
            OSError(errno.ENOLCK, "No locks available"),
            "'/a' is on a file system without locks; choose a folder on a local",
        ),
        (OSError(errno.ENOSYS, "Function not implemented"), "'/a' is on a file system without locks"),
        (
            NotADirectoryError(errno.ENOTDIR, "Not a directory", "/a/b"),
            "'/a/b' is a file, not a folder; choose another",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No such file", "/a/study.json"),
            "no study at .*'/a/study.json' does not exist",
        ),
    ],
)
def test_what_the_system_refuses_is_named(error: OSError, message: str) -> None:
    with pytest.raises(StoreError, match=message), naming(Path("/a")):
        raise error


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "study.json"
    write_whole(path, b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            write_whole(path, b"new")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("study.json", b"old")]
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_lock_that_is_a_link_is_refused_and_what_it_leads_to_is_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "lock").symlink_to(tmp_path / "thesis.tex")
    message = r"lock' is a link, through which nothing is written; put the file itself there"
    with pytest.raises(StoreError, match=message), single_writer(tmp_path / "out"):
        pass
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("name", ["runs", "runs/0123456789abcdef"])
def test_runs_that_lead_out_of_the_study_are_not_written_through(tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "out" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "elsewhere")
    message = rf"{name}' is a link, through which nothing is written; put the folder itself there"
    with pytest.raises(StoreError, match=message), single_writer(tmp_path / "out"):
        pass
    (tmp_path / "report").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match=r"report' is a link, .*; say where to write with --out"):
        below(tmp_path, "report")
    assert below(tmp_path, "export") == tmp_path / "export"
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_studys_own_folder_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    with single_writer(tmp_path / "out"):
        assert (tmp_path / "disk" / "lock").exists()


def test_a_temporary_name_that_is_a_link_is_not_written_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with monkeypatch.context() as guessed:
        guessed.setattr("secrets.token_hex", lambda count: "guessed")
        (tmp_path / f".study.json.{os.getpid()}-guessed.part").symlink_to(tmp_path / "thesis.tex")
        with pytest.raises(FileExistsError):
            write_whole(tmp_path / "study.json", b"{}")
    write_whole(tmp_path / "study.json", b"{}")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    assert (tmp_path / "study.json").read_bytes() == b"{}"
