"""What hurts: two files taken for the same because their times are, or one read again a thousand times for nothing."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from cello.audio import digests as module
from cello.audio.digests import FOLDER, digests

Reads = Callable[[], int]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """How many files were read since the last call."""
    seen: list[int] = []
    real = module._read

    def counted(file: int) -> bytes:
        seen.append(file)
        return real(file)

    def since() -> int:
        count = len(seen)
        seen.clear()
        return count

    monkeypatch.setattr(module, "_read", counted)
    return since


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every file counts as written long ago, on a file system that keeps a true ctime."""
    monkeypatch.setattr(module, "_settled", lambda ctime, now: True)
    monkeypatch.setattr(module, "_trusted_devices", lambda: frozenset([tmp_path.stat().st_dev]))


def made(tmp_path: Path, count: int = 5) -> list[Path]:
    root = tmp_path / "root"
    root.mkdir()
    paths = [root / f"{number}.wav" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * 100)
    return paths


def found(paths: list[Path], tmp_path: Path) -> list[bytes]:
    return digests(paths, tmp_path / "root", tmp_path / "cache")


def expected(paths: list[Path]) -> list[bytes]:
    return [hashlib.sha256(path.read_bytes()).digest() for path in paths]


def memory(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "cache" / FOLDER).iterdir()
    return path


@pytest.mark.usefixtures("settled")
def test_a_file_is_read_once_and_again_when_its_status_changes(tmp_path: Path, reads: Reads) -> None:
    paths = made(tmp_path)
    assert found(paths, tmp_path) == expected(paths)
    assert reads() == 5
    assert found(paths, tmp_path) == expected(paths)
    assert reads() == 0
    status = paths[2].stat()
    paths[2].write_bytes(b"x" * 100)
    os.utime(paths[2], ns=(status.st_atime_ns, status.st_mtime_ns))
    assert found(paths, tmp_path) == expected(paths)
    assert reads() == 1
    paths[3].chmod(0o600)
    assert found(paths, tmp_path) == expected(paths)
    assert reads() == 1
    paths[4].unlink()
    assert found(paths, tmp_path)[4] == b"cannot be read: 2"


@pytest.mark.usefixtures("settled")
def test_a_link_is_what_it_leads_to(tmp_path: Path, reads: Reads) -> None:
    paths = made(tmp_path, 2)
    link, twin = tmp_path / "root" / "link.wav", tmp_path / "root" / "twin.wav"
    link.symlink_to(paths[0])
    twin.hardlink_to(paths[1])
    both = [link, twin]
    assert found(both, tmp_path) == expected(paths)
    reads()
    link.unlink()
    link.symlink_to(paths[1])
    assert found(both, tmp_path) == [expected(paths)[1]] * 2
    paths[1].write_bytes(b"y" * 100)  # under its other name
    assert found(both, tmp_path) == expected(both)


def test_what_was_written_a_moment_ago_is_not_trusted_to_its_times(tmp_path: Path, reads: Reads) -> None:
    paths = made(tmp_path)
    found(paths, tmp_path)
    found(paths, tmp_path)
    assert reads() == 10
    now = 1_700_000_000_123_456_789
    assert module._settled(now - 3_000_000_000, now)
    assert not module._settled(now - 1_000_000_000, now)
    assert not module._settled(now + 5, now)  # another machine's clock
    assert not module._settled(1_000_000_000, now)  # a disc image of a fixed date


MOUNTS = b"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
28 27 7:0 / /image ro,relatime - squashfs /dev/loop0 ro
29 27 7:1 / /disc rw,relatime - ext4 /dev/loop1 ro
30 27 254:1 / /usb rw,relatime - vfat /dev/sda rw
31 27 0:50 / /net rw master:1 propagate_from:2 - nfs4 host:/x rw,vers=4.2
"""


def test_only_file_systems_with_a_true_ctime_are_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mounts").write_bytes(MOUNTS)
    monkeypatch.setattr(module, "_MOUNTS", tmp_path / "mounts")
    assert module._trusted_devices() == {os.makedev(254, 0), os.makedev(0, 50)}
    monkeypatch.setattr(module, "_MOUNTS", tmp_path / "none")
    assert module._trusted_devices() == frozenset()


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    paths = made(tmp_path, 1)
    os.mkfifo(tmp_path / "root" / "pipe")
    assert found([tmp_path / "root" / "pipe", tmp_path / "root", *paths], tmp_path) == [
        *[b"no regular file"] * 2,
        *expected(paths),
    ]


@pytest.mark.usefixtures("settled")
def test_some_files_asked_for_do_not_make_others_forgotten_but_the_memory_stays_small(
    tmp_path: Path, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FEW", 10)
    paths = made(tmp_path)
    for some in (paths[:2], paths[2:], paths):
        found(some, tmp_path)
    assert reads() == 5
    sizes = []
    for number in range(20):
        for path in paths:
            path.write_bytes(b"%d" % number)
        found(paths, tmp_path)
        sizes.append(memory(tmp_path).stat().st_size)
    assert max(sizes) < 8 * sizes[0]


@pytest.mark.usefixtures("settled")
def test_a_damaged_memory_is_done_without(tmp_path: Path) -> None:
    paths = made(tmp_path)
    right = found(paths, tmp_path)
    whole = memory(tmp_path).read_bytes()
    rng = random.Random(12)
    for _ in range(100):
        broken = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        memory(tmp_path).write_bytes(broken[: rng.choice([len(broken), rng.randrange(len(broken))])])
        assert found(paths, tmp_path) == right
        assert memory(tmp_path).read_bytes() == whole


@pytest.mark.usefixtures("settled")
def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    paths = made(tmp_path)
    (tmp_path / "cache").touch()
    assert found(paths, tmp_path) == expected(paths)
