"""What hurts: two holders of one lock, a reader that keeps readers out, a lock file that leads elsewhere."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cello.locks import acquire, open_lock


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Two openings of one lock file, as of two processes."""
    files = open_lock(tmp_path / "lock"), open_lock(tmp_path / "lock")
    yield files
    for file in files:
        os.close(file)


def test_one_alone_holds_a_lock_and_many_share_one(pair: tuple[int, int]) -> None:
    acquire(pair[0])
    for shared in (False, True):
        with pytest.raises(BlockingIOError):
            acquire(pair[1], shared=shared, patience_seconds=0)
    acquire(pair[0], shared=True)
    acquire(pair[1], shared=True, patience_seconds=0)
    with pytest.raises(BlockingIOError):
        acquire(pair[0], patience_seconds=0)


@pytest.mark.parametrize("patience_seconds", [None, 10.0])
def test_a_lock_is_waited_for_until_its_holder_gives_it_up(
    tmp_path: Path, pair: tuple[int, int], patience_seconds: float | None
) -> None:
    holder = open_lock(tmp_path / "lock")
    acquire(holder)
    began = time.monotonic()
    threading.Timer(0.1, os.close, [holder]).start()
    acquire(pair[0], patience_seconds=patience_seconds)
    assert 0.09 < time.monotonic() - began < 5


def test_patience_has_an_end(pair: tuple[int, int]) -> None:
    acquire(pair[0])
    began = time.monotonic()
    with pytest.raises(BlockingIOError):
        acquire(pair[1], patience_seconds=0.1)
    assert 0.1 <= time.monotonic() - began < 5


def test_a_link_is_refused_and_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "link").symlink_to(tmp_path / "thesis.tex")
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        open_lock(tmp_path / "link")
    os.mkfifo(tmp_path / "pipe")
    os.close(open_lock(tmp_path / "pipe"))
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
