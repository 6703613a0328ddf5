"""A Dask cluster as somebody may have it, and a study for it."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager

import dask
from distributed import Client, LocalCluster

from cello.execution import local
from cello.study.config import StudyConfig
from cello.study.study_file import parse_study


@contextmanager
def somebodys(workers: int, threads: int = 1) -> Iterator[Client]:
    """A cluster as somebody may have it, reached by TCP."""
    names = ("distributed.worker.multiprocessing-method", "distributed.deploy.lost-worker-timeout")
    method = local.DASK[names[0]]
    context = multiprocessing.get_context(method)
    if context.get_start_method() == "forkserver":  # a worker begun anew is there at once, on a busy machine too
        context.set_forkserver_preload(["cello.execution.worker", "cello.training.run"])
    with (
        dask.config.set({name: local.DASK[name] for name in names}),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=threads,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
            silence_logs=logging.CRITICAL,
        ) as there,
        Client(there) as client,
    ):
        yield client


def table(*hidden: int, extra: str = "") -> StudyConfig:
    rows = "".join(f'[[rows]]\nname = "{size}"\nmodel.hidden = {size}\n{extra}' for size in hidden)
    return parse_study(f'name = "t"\n[base.optimiser]\nepochs = 3\nlearning_rate = 0.01\n{rows}', "t.toml")
