"""Lock files between processes with flock(2); a lock ends with the process that holds it.

Locks hold between processes of one machine on local file systems, and between machines on NFS since Linux 2.6.12. A
file system without locks answers with one of ``UNSUPPORTED``: there, nothing is locked and the caller has to say so.
Lock files are never removed: a new file of the same name would let two processes hold "the" lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

UNSUPPORTED = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL})
"""What flock(2) answers on file systems without locks: NFS without its lock service, Lustre without ``-o flock``."""
POLL_SECONDS = 0.05


def open_lock(path: Path) -> int:
    """Open a lock file, made if missing; a link is refused, and a pipe of that name is not waited for.

    Raises:
        OSError: it cannot be opened or made; ``ELOOP`` for a link.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)


def acquire(file: int, *, shared: bool = False, patience_seconds: float | None = None) -> None:
    """Lock an open file until it is closed; many may hold it ``shared``, one alone otherwise.

    ``patience_seconds`` is how long to wait for other holders; None waits without end.

    Raises:
        BlockingIOError: others hold it for longer than that.
        OSError: it cannot be locked; with an ``errno`` of ``UNSUPPORTED``, no file of that file system can.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    if patience_seconds is None:
        fcntl.flock(file, kind)
        return
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(POLL_SECONDS)
        else:
            return
