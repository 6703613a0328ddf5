"""Start the process that local workers are forked from, early: it loads torch while the command gets ready.

A worker that takes the place of a killed one is then there in a fraction of a second, without loading it again.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker

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
    """Threads and processes started within never see Ctrl-C, which a terminal sends to every process of a command."""
    resource_tracker.ensure_running()  # its start would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
