"""Batches made ahead: the same as those made on the spot, no thread left behind, no error lost."""

from __future__ import annotations

import threading
import time

import pytest

from cello.training.ahead import DEPTH, made_ahead


def alive() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "batches"]


@pytest.mark.parametrize("threads", [0, 1])
def test_every_item_comes_once_and_in_order(threads: int) -> None:
    with made_ahead(lambda n: n * n, range(20), threads) as made:
        assert list(made) == [n * n for n in range(20)]
    assert not alive()


def test_the_next_ones_are_made_while_one_is_used_and_no_more_than_fit() -> None:
    done: list[int] = []
    with made_ahead(lambda n: done.append(n) or n, range(20), 1) as made:  # type: ignore[func-returns-value]
        assert next(made) == 0
        deadline = time.monotonic() + 5
        while len(done) < DEPTH + 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        assert len(done) == DEPTH + 2  # one used, two waiting, one that finds no place


@pytest.mark.parametrize("threads", [0, 1])
def test_an_error_is_raised_where_its_item_is_asked_for(threads: int) -> None:
    def make(n: int) -> float:
        return 1 / (2 - n)

    with made_ahead(make, range(5), threads) as made:
        assert [next(made), next(made)] == [0.5, 1.0]
        with pytest.raises(ZeroDivisionError):
            next(made)
    assert not alive()


def test_whoever_stops_early_leaves_no_thread_behind() -> None:
    def use_one() -> None:
        with made_ahead(lambda n: n, range(1000), 1) as made:
            next(made)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        use_one()
    assert not alive()
