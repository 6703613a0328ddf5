"""Where workers come from: processes of this machine, begun here and ended here, or a cluster that is there."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

import dask
from distributed import Client, SpecCluster
from distributed.utils import get_mp_context

from cello.errors import StudyError
from cello.study.local import private_folder, socket_folder, specification

CONNECT_SECONDS = 20.0
THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
CHATTY = ("distributed", "distributed.client", "tornado", "tornado.application")
DASK = {
    "distributed.nanny.pre-spawn-environ": THREADS,
    # A worker that takes the place of a killed one is forked from a process that has loaded torch: that saves the
    # seconds which loading takes. Elsewhere than on Linux, system libraries do not bear it.
    "distributed.worker.multiprocessing-method": "forkserver" if sys.platform == "linux" else "spawn",
    # A worker that keeps the interpreter's lock for minutes (building a kernel) is slow, not dead.
    "distributed.scheduler.worker-ttl": None,
    "distributed.admin.tick.limit": "1h",
}


@contextmanager
def processes(workers: int, module: str) -> Iterator[Client]:
    """That many single-threaded processes on this machine that have ``module`` loaded, gone when the block ends,
    however it ends. Nobody but this user can talk to them, nor put modules before theirs.

    Raises:
        StudyError: they cannot be started, with the cause; nothing of them is left then.
    """
    base = socket_folder()
    with (
        private_folder(base) as folder,
        dask.config.set({**DASK, "temporary-directory": str(folder)}),
        _main_module_hidden(),
        _dask_quiet(),
        _safe_path(),
    ):
        context = get_mp_context()  # type: ignore[no-untyped-call]
        if context.get_start_method() == "forkserver":
            context.set_forkserver_preload(["cello.study.local", "cello.study.worker", module])
        with _interrupts_blocked():
            try:
                if context.get_start_method() == "forkserver":
                    _start_forkserver(base)
                # the process that is forked may be older than what has been set since
                wanted = specification(folder, {**os.environ, **THREADS})
                local = SpecCluster(  # type: ignore[no-untyped-call]
                    **wanted, workers=dict.fromkeys(range(workers), wanted["worker"]), silence_logs=logging.CRITICAL
                )
            except (OSError, RuntimeError) as error:
                raise _not_started(workers, error) from error
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


def _start_forkserver(base: Path) -> None:
    """Start the process that workers are forked from, with its socket where the path to it is short enough."""
    before, tempfile.tempdir = tempfile.tempdir, str(base)
    try:
        forkserver.ensure_running()
    finally:
        tempfile.tempdir = before


def _not_started(workers: int, error: BaseException) -> StudyError:
    cause = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__  # type: ignore[assignment]
    count = "1 worker process" if workers == 1 else f"{workers} worker processes"
    return StudyError(f"{count} cannot be started: {type(cause).__name__}: {cause}; mend that, or try fewer --workers")


@contextmanager
def _safe_path() -> Iterator[None]:
    """New Python processes do not look for modules in the current folder, which may be anybody's."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        os.environ.pop("PYTHONSAFEPATH")
        if before is not None:
            os.environ["PYTHONSAFEPATH"] = before


@contextmanager
def existing(address: str) -> Iterator[Client]:
    """A connection to a cluster that is there, and is left as it was.

    Raises:
        StudyError: no scheduler answers at the address.
    """
    with _dask_quiet(), _safe_path(), _interrupts_blocked():
        try:
            client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]
        except (OSError, ValueError) as error:
            raise StudyError(
                f"no Dask scheduler answers at {address}: {error}; check the address, and that dask scheduler runs "
                f"there and can be reached from this machine"
            ) from error
    with _dask_quiet():
        try:
            yield client
        finally:
            client.close()  # type: ignore[no-untyped-call]


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
