"""Worker processes on this machine: how they are begun, and how they end."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker

import dask
from distributed import Client, LocalCluster

from cello.errors import StudyError

DEATHS_ALLOWED = 3
CHATTY = ("distributed", "distributed.client", "tornado", "tornado.application")
DASK = {
    "distributed.nanny.pre-spawn-environ": {
        "OMP_NUM_THREADS": 1,
        "MKL_NUM_THREADS": 1,
        "OPENBLAS_NUM_THREADS": 1,
    },
    "distributed.scheduler.allowed-failures": DEATHS_ALLOWED,
    # A worker that keeps the interpreter's lock for minutes (building a kernel) is slow, not dead.
    "distributed.scheduler.worker-ttl": None,
    "distributed.admin.tick.limit": "1h",
}


@contextmanager
def cluster(workers: int) -> Iterator[Client]:
    """That many single-threaded processes on this machine, gone when the block ends, however it ends."""
    with dask.config.set(DASK), _main_module_hidden(), _dask_quiet():
        with _interrupts_blocked():
            try:
                local = LocalCluster(  # type: ignore[no-untyped-call]
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    host="127.0.0.1",
                    # dask serves its state in any case: on a free port, so that two studies do not meet at one
                    scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
                    memory_limit=0,
                    silence_logs=logging.CRITICAL,
                )
            except (OSError, RuntimeError) as error:
                raise StudyError(
                    f"{workers} worker processes cannot be started: {error}; try fewer --workers"
                ) from error
            client = Client(local)  # type: ignore[no-untyped-call]
        try:
            yield client
        finally:
            # Workers are killed, not asked: a run is safe at any moment, and asking waits for its epoch to end.
            for nanny in local.workers.values():
                nanny.close_gracefully()
                if nanny.pid is not None:
                    with suppress(ProcessLookupError):
                        os.kill(nanny.pid, signal.SIGKILL)
            client.close()  # type: ignore[no-untyped-call]
            local.close()


@contextmanager
def _dask_quiet() -> Iterator[None]:
    """Keep dask from telling how it starts, loses and ends workers: that is what it is here for."""
    handlers = [handler for name in CHATTY for handler in logging.getLogger(name).handlers]
    for handler in handlers:
        handler.addFilter(_nothing)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(_nothing)


def _nothing(_: logging.LogRecord) -> bool:
    return False


@contextmanager
def interrupt_calls(stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C calls ``stop`` instead of raising wherever the program happens to be; elsewhere than in the main thread,
    where Python lets nobody have the signal, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: stop())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Threads and processes begun within never see Ctrl-C, which a terminal sends to every process of a command."""
    # Starting multiprocessing's tracker unblocks the signal again, so it is started before.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _main_module_hidden() -> Iterator[None]:
    """Keep new processes from importing the user's script: they do not need it, so it needs no ``__main__`` guard."""
    main = sys.modules["__main__"]
    kept = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
    vars(main).pop("__file__", None)
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(kept)
