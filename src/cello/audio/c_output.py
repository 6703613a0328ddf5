"""Keep what C libraries print while they decode off the terminal."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock


class _Streams:
    """The C library's variables ``stdout`` and ``stderr``, each a pointer to an open file; Python's own are others."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._users = 0
        self._variables: list[ctypes.c_void_p] = []
        self._shown: list[int | None] = []
        self._nowhere: int | None = None
        with suppress(AttributeError, OSError, ValueError):
            # glibc documents them as assignable; in other C libraries they may lie in read-only memory
            if os.confstr("CS_GNU_LIBC_VERSION"):
                library = ctypes.CDLL(None)
                library.fopen.restype = ctypes.c_void_p
                self._nowhere = library.fopen(os.devnull.encode(), b"we")
                self._variables = [ctypes.c_void_p.in_dll(library, name) for name in ("stdout", "stderr")]

    def hide(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1 and self._nowhere:
                self._shown = [variable.value for variable in self._variables]
                self._point([self._nowhere] * len(self._variables))

    def show(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._nowhere:
                self._point(self._shown)

    def _point(self, files: list[int] | list[int | None]) -> None:
        for variable, file in zip(self._variables, files, strict=True):
            variable.value = file


_STREAMS = _Streams()


@contextmanager
def hidden_c_output() -> Iterator[None]:
    """Discard what C code prints meanwhile, in all threads; Python's own output is kept.

    libmpg123 warns of files that decode well, and libsndfile prints what it finds wrong in ALAC; neither has a switch
    for it. The file descriptors 1 and 2 stay as they are, so tracebacks, crashes and other programs are seen as ever.
    Where there is no glibc nothing is hidden.
    """
    _STREAMS.hide()
    try:
        yield
    finally:
        _STREAMS.show()
