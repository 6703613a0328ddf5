"""Start single-threaded worker processes on this machine, which only this user can reach.

Whoever reaches a Dask scheduler can run code in it. So all connections of a local study use TLS with a key that is made
for it and never leaves its processes, and nothing is served over HTTP.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import dask
from distributed import Client, LocalCluster, Security
from distributed.utils import silence_logging_cmgr

from cello.errors import StudyError
from cello.execution.forkserver import METHOD, PROCESSES, SHORT, environment, interrupts_blocked, start_forkserver

SILENT = logging.CRITICAL + 1
LOGGERS = ("distributed", "distributed.client", "tornado", "tornado.application")
DASK: dict[str, Any] = {
    "distributed.worker.multiprocessing-method": METHOD,
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.admin.tick.limit": "1h",
    # a LocalCluster ends for good whatever worker is not there so long after a death, even if it died again just then;
    # each is replaced anyway, and the session has a limit of its own
    "distributed.deploy.lost-worker-timeout": "24h",
}


@contextmanager
def local_cluster(count: int, module: str) -> Iterator[Client]:
    """Start ``count`` workers that have ``module`` loaded; all of them are gone when the block ends, however it ends.

    Raises:
        StudyError: they cannot be started, with the cause; nothing of them is left then.
    """
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="cello-", dir=SHORT, ignore_cleanup_errors=True)
            )
            stack.enter_context(dask.config.set({**DASK, "temporary-directory": folder}))
            for block in (main_module_hidden(), quiet(), environment(PROCESSES)):
                stack.enter_context(block)
            with interrupts_blocked():
                start_forkserver(module)
                cluster = stack.enter_context(_cluster(count))
                client = stack.enter_context(Client(cluster, set_as_default=False))  # type: ignore[no-untyped-call]
        except (OSError, RuntimeError) as error:
            raise _not_started(count, error) from error
        yield client


def _cluster(count: int) -> LocalCluster:
    return LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=count,
        threads_per_worker=1,
        security=Security.temporary(),  # type: ignore[no-untyped-call]
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
        memory_limit=0,
        silence_logs=SILENT,
        env=dict(os.environ),  # the process that is forked may be older than what has been set since
    )


def _not_started(workers: int, error: BaseException) -> StudyError:
    cause = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__  # type: ignore[assignment]
    count = "1 worker process" if workers == 1 else f"{workers} worker processes"
    return StudyError(f"{count} cannot be started: {type(cause).__name__}: {cause}; fix that, or give fewer --workers")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Dask from logging how it starts, loses and ends workers: that is expected here."""
    with ExitStack() as stack:
        for name in LOGGERS:
            stack.enter_context(silence_logging_cmgr(SILENT, name))
        yield


@contextmanager
def main_module_hidden() -> Iterator[None]:
    """Keep new processes from importing the user's script, so that it needs no ``__main__`` guard."""
    main = sys.modules["__main__"]
    kept = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
    vars(main).pop("__file__", None)
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(kept)
