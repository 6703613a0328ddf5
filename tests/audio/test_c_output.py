"""Hiding what C code prints: only that, only meanwhile, from any number of threads."""

from __future__ import annotations

import ctypes
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from cello.audio.c_output import hidden_c_output

glibc = pytest.mark.skipif(
    sys.platform != "linux" or not os.confstr("CS_GNU_LIBC_VERSION"), reason="stdout and stderr are not assignable here"
)


def shout(words: bytes) -> None:
    library = ctypes.CDLL(None)
    library.fprintf(ctypes.c_void_p.in_dll(library, "stderr"), words)
    library.printf(words)
    library.fflush(None)


@glibc
def test_only_c_code_is_hidden_and_only_meanwhile(capfd: pytest.CaptureFixture[str]) -> None:
    shout(b"before ")
    with hidden_c_output():
        shout(b"within ")
        os.write(2, b"python ")
        with hidden_c_output():
            shout(b"twice ")
        shout(b"still ")
    shout(b"after")
    assert capfd.readouterr() == ("before after", "before python after")


@glibc
def test_threads_leave_it_as_they_found_it(capfd: pytest.CaptureFixture[str]) -> None:
    def quiet(_: int) -> None:
        with hidden_c_output():
            shout(b"within ")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(quiet, range(200)))
    shout(b"after")
    assert capfd.readouterr() == ("after", "after")
