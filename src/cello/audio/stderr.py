"""Keep a C library's warnings off the terminal while it decodes."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock


class _Stderr:
    """The C library's ``stderr`` variable, which points to an open file; Python's own ``sys.stderr`` is another."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._users = 0
        self._variable: ctypes.c_void_p | None = None
        self._nowhere: int | None = None
        self._shown: int | None = None
        with suppress(AttributeError, OSError, ValueError):
            # glibc documents it as assignable; in other C libraries it may lie in read-only memory
            if os.confstr("CS_GNU_LIBC_VERSION"):
                library = ctypes.CDLL(None)
                library.fopen.restype = ctypes.c_void_p
                self._nowhere = library.fopen(os.devnull.encode(), b"we")
                self._variable = ctypes.c_void_p.in_dll(library, "stderr")

    def hide(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1 and self._variable is not None and self._nowhere:
                self._shown, self._variable.value = self._variable.value, self._nowhere

    def show(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._variable is not None and self._shown:
                self._variable.value = self._shown


_STDERR = _Stderr()


@contextmanager
def hidden_c_stderr() -> Iterator[None]:
    """Throw away what C code prints to ``stderr`` meanwhile, in all threads; Python's own messages are not touched.

    libmpg123 prints warnings of files that decode well, and libsndfile has no switch for it. File descriptor 2 stays as
    it is, so tracebacks, crashes and other programs are seen as ever. Where there is no glibc nothing is hidden.
    """
    _STDERR.hide()
    try:
        yield
    finally:
        _STDERR.show()
