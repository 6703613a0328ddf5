"""Compute SHA-256 of many files, cached while the status of a file proves it unchanged.

What ``tar``, ``git``, ``rsync`` and ``touch`` can set (name, size, time of change) proves nothing. The kernel's time of
status change (ctime) cannot be set, so a digest is looked up by device, inode, size, mtime and ctime together, on file
systems that keep a true ctime, and only where ctime was old enough when the file was read that a later write must have
given it another one. Everything else is read again each time.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import msgspec

from cello.audio.staging import used
from cello.files import DamagedFileError, read_stored, seal, unseal, write_whole

FOLDER = "digests"

_THREADS = 4  # for the latency of discs and networks; hashing itself is faster than reading
_FILES_AT_ONCE = 64
_BLOCK_BYTES = 1 << 20
_FEW = 1000
_GRANULARITY_NS = 2_000_000_000  # the coarsest clock of the file systems below is one second
_MOUNTS = Path("/proc/self/mountinfo")
_TRUE_CTIME = frozenset(
    b"bcachefs btrfs ceph ext2 ext3 ext4 f2fs gpfs jfs lustre nfs nfs4 overlay tmpfs xfs zfs".split()
)

Status = tuple[int, int, int, int, int]


class _Memory(msgspec.Struct, frozen=True, array_like=True):
    """Digests by status, as they are kept on disk."""

    format: int
    digests: list[tuple[Status, bytes]]


_FORMAT = 1


def digests(paths: Sequence[Path], root: Path, cache: Path) -> list[bytes]:
    """Compute the SHA-256 of each file; those below ``root`` are remembered in ``cache``.

    A file that cannot be read, or is no regular file, has a digest that says so. A memory that is damaged, or cannot be
    written, is done without.
    """
    memory = cache / FOLDER / hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:32]
    known = _load(memory)
    trusted = _trusted_devices()
    chunks = [paths[at : at + _FILES_AT_ONCE] for at in range(0, len(paths), _FILES_AT_ONCE)]

    def chunk(some: Sequence[Path]) -> list[tuple[bytes, Status | None]]:
        return [_digest(path, known, trusted) for path in some]

    with ThreadPoolExecutor(_THREADS) as pool:
        found = [each for done in pool.map(chunk, chunks) for each in done]
    fresh = {status: digest for digest, status in found if status is not None}
    if not fresh.keys() <= known.keys():
        # Others may have asked for other files below the same root; but what is long gone is not kept for ever.
        _save(memory, {**known, **fresh} if len(known) <= 2 * len(fresh) + _FEW else fresh)
    else:
        used(memory)
    return [digest for digest, _ in found]


def _digest(path: Path, known: dict[Status, bytes], trusted: frozenset[int]) -> tuple[bytes, Status | None]:
    """A file's digest, and the status under which it may be remembered, if it may."""
    now = time.time_ns()
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            before = os.fstat(file)
            if not stat.S_ISREG(before.st_mode):
                return b"no regular file", None
            status = _status(before)
            proven = before.st_dev in trusted and _settled(before.st_ctime_ns, now)
            if proven and status in known:
                return known[status], status
            digest = _read(file)
            return digest, status if proven and _status(os.fstat(file)) == status else None
        finally:
            os.close(file)
    except OSError as error:
        return f"cannot be read: {error.errno}".encode(), None


def _status(found: os.stat_result) -> Status:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _settled(ctime_ns: int, now_ns: int) -> bool:
    """Whether a later write must give another ctime; one of whole seconds was perhaps set by a maker of disc images."""
    return ctime_ns < now_ns - _GRANULARITY_NS and ctime_ns % 1_000_000_000 != 0


def _read(file: int) -> bytes:
    digest = hashlib.sha256()
    while block := os.read(file, _BLOCK_BYTES):
        digest.update(block)
    return digest.digest()


def _trusted_devices() -> frozenset[int]:
    """The mounted file systems that can be written and keep a true ctime; none where that cannot be looked up.

    A read-only one may be an image, whose times are as its maker wished.
    """
    trusted: set[int] = set()
    doubtful: set[int] = set()
    try:
        lines = _MOUNTS.read_bytes().splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        mount, _, system = line.partition(b" - ")
        major, _, minor = mount.split()[2].partition(b":")
        kind, *_, options = system.split()
        good = kind in _TRUE_CTIME and b"ro" not in options.split(b",")
        (trusted if good else doubtful).add(os.makedev(int(major), int(minor)))
    return frozenset(trusted - doubtful)


def _load(memory: Path) -> dict[Status, bytes]:
    try:
        held = msgspec.msgpack.decode(unseal(read_stored(memory)), type=_Memory)
    except (OSError, DamagedFileError, msgspec.DecodeError):
        return {}
    return dict(held.digests) if held.format == _FORMAT else {}


def _save(memory: Path, fresh: dict[Status, bytes]) -> None:
    with suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_whole(memory, seal(msgspec.msgpack.encode(_Memory(_FORMAT, list(fresh.items())))))
