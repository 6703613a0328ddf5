"""What hurts: a file system without locks blamed on the disk, a lock that waits for ever or empties a user's file."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from cello.audio import staging
from cello.audio.staging import locked, unused, using
from cello.errors import CorpusError


@pytest.fixture(autouse=True)
def _left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    held: dict[Path, int] = {}
    monkeypatch.setattr(staging, "_USED", held)
    yield
    for file in held.values():
        os.close(file)


def guards(folder: Path) -> list[AbstractContextManager[None]]:
    return [locked(folder / "pack"), unused(folder)]


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_named_with_what_helps(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: object, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    for guard in guards(tmp_path):
        with pytest.raises(CorpusError) as raised, guard:
            pass
        assert str(raised.value) == (
            f"{str(tmp_path)!r} lies on a file system without locks ({os.strerror(code)}); "
            f"choose a folder on a local disk with --cache"
        )
    using(tmp_path)  # whoever only reads what is there needs no lock
    assert staging._USED == {}


def test_another_failure_to_lock_is_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: object, operation: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", refuse)
    for guard in guards(tmp_path):
        with pytest.raises(CorpusError, match=r"cannot be locked \(Input/output error\); choose another folder"), guard:
            pass


def test_what_lies_in_the_place_of_a_lock_is_neither_waited_for_nor_emptied(tmp_path: Path) -> None:
    precious = tmp_path / "thesis.txt"
    precious.write_text("mine")
    for name in (".pack.lock", ".in-use.lock"):
        (tmp_path / name).symlink_to(precious)
    for guard in guards(tmp_path):
        with pytest.raises(CorpusError, match="cannot"), guard:
            pass
    using(tmp_path)
    assert precious.read_text() == "mine"
    for name in (".pack.lock", ".in-use.lock"):
        (tmp_path / name).unlink()
        os.mkfifo(tmp_path / name)
    for guard in guards(tmp_path):
        with guard:
            pass
    for name in (".pack.lock", ".in-use.lock"):
        (tmp_path / name).unlink()
        (tmp_path / name).write_bytes(b"\xff\0 old")
    for guard in guards(tmp_path):
        with guard:
            pass
