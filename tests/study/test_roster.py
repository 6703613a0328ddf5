"""A worker that would give other numbers must not be used, and whoever started it must be told how to start it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from cello.machine import source, versions
from cello.study.roster import _misfit, nobody
from cello.study.worker import Facts

ADDRESS = "tcp://node:8786"
FIT = Facts(versions=versions(), threads=1, host="a", processor="p", cache="/c", corpus=True)


@pytest.mark.parametrize("name", ["cello", "torch", "python"])
def test_other_versions_are_named_with_ours(name: str) -> None:
    other = msgspec.structs.replace(FIT, versions={**versions(), name: "0.0.7"})
    assert _misfit(ADDRESS, other) == (
        f"it has {name} 0.0.7, and this side {name} {versions()[name]}; a run's numbers depend on that, so give it the "
        f"same environment"
    )


def test_another_tree_of_the_same_version_is_told_apart() -> None:
    assert _misfit(ADDRESS, msgspec.structs.replace(FIT, source=source())) == ""
    assert _misfit(ADDRESS, msgspec.structs.replace(FIT, source="0123456789ab")) == (
        f"its Cello {versions()['cello']} is of other source files (0123456789ab) than this side's ({source()}); a "
        f"run's numbers may depend on that, so install the same one on both"
    )


def test_a_worker_that_cannot_train_is_told_how_to_be_started() -> None:
    assert _misfit(ADDRESS, FIT) == ""
    assert _misfit(ADDRESS, msgspec.structs.replace(FIT, threads=4)) == (
        "it has 4 threads, and a run is one process on one thread; start it as dask worker tcp://node:8786 --nthreads "
        "1 --nworkers 4"
    )
    missing = _misfit(ADDRESS, ModuleNotFoundError("No module named 'cello'"))
    assert missing.startswith("it cannot import Cello (No module named 'cello'); install cello-rnn==")
    assert _misfit(ADDRESS, OSError("disk")) == "it cannot be made ready: OSError: disk"


def test_where_nobody_can_train_the_reasons_are_said() -> None:
    roster: Any = SimpleNamespace(address=ADDRESS, unfit={}, stillborn=0)
    assert "start some with dask worker tcp://node:8786 --nthreads 1" in str(nobody(roster, ADDRESS, 300))
    roster.unfit = {"tcp://a:1": "it has torch 1"}
    assert str(nobody(roster, ADDRESS, 300)).endswith("no worker that can be used:\n  tcp://a:1: it has torch 1")
    assert str(nobody(roster, None, 60)).endswith("give the same command again with fewer --workers")
    roster.stillborn = 10
    assert str(nobody(roster, None, 60)).startswith(
        "10 workers in a row died before they could train; look at the free"
    )
