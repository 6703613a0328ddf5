"""Start the process that local workers are forked from, early: it loads torch while the command gets ready.

A worker that takes the place of a killed one is then there in a fraction of a second, without loading it again.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from types import FrameType

METHOD = "forkserver" if sys.platform == "linux" else "spawn"
"""Elsewhere than on Linux, system libraries do not bear a fork."""
SHORT = "/tmp"
"""Not TMPDIR, whose path may be too long for a socket, and which other users may be able to change."""
SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""New Python processes do not look for modules in the current folder, which may be anybody's."""
PROCESSES = {**SAFE_PATH, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def start_forkserver(module: str = "cello.training.run") -> None:
    """Start the process that has ``module`` loaded, unless it is there, or there is none on this system.

    Raises:
        OSError: it cannot be started.
    """
    if METHOD != "forkserver":
        return
    forkserver.set_forkserver_preload(["distributed.nanny", "cello.execution.worker", module])
    before, tempfile.tempdir = tempfile.tempdir, SHORT  # for the socket
    try:
        with environment(PROCESSES), interrupts_blocked():
            forkserver.ensure_running()
    finally:
        tempfile.tempdir = before


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the processes that are started within."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Threads and processes started within never see Ctrl-C, which a terminal sends to every process of a command.

    It is answered when the block ends. A thread that is older may take the signal though it is blocked here, and then
    Python answers it in the main thread: what is half started would be left to itself.
    """
    resource_tracker.ensure_running()  # its start would unblock the signal
    with _interrupts_deferred():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _interrupts_deferred() -> Iterator[None]:
    """Answer Ctrl-C when the block ends, as it would have been answered within."""
    answer = signal.getsignal(signal.SIGINT)
    if not callable(answer) or threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, answer)
        if came:
            answer(*came[0])
