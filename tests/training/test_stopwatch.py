"""What hurts: the making of batches in the time of training steps, a second counted twice or by another thread."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import pytest

from cello.training import stopwatch
from cello.training.stopwatch import Stopwatch


class Clocks:
    """The three clocks, moved by hand: ``work`` moves wall and both CPU times, ``wait`` the wall alone."""

    def __init__(self) -> None:
        self.wall = self.cpu = self.process = 0.0

    def perf_counter(self) -> float:
        return self.wall

    def thread_time(self) -> float:
        return self.cpu

    def process_time(self) -> float:
        return self.process

    def work(self, seconds: float) -> None:
        self.wall += seconds
        self.cpu += seconds
        self.process += seconds

    def wait(self, seconds: float, others: float = 0.0) -> None:
        self.wall += seconds
        self.process += others


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    moved = Clocks()
    monkeypatch.setattr(stopwatch, "time", moved)
    return moved


def test_batches_made_between_the_steps_are_no_training(clocks: Clocks) -> None:
    watch = Stopwatch()
    with watch.phase("data"):
        clocks.work(1)
    with watch.phase("train"):
        for _ in range(3):
            with watch.phase("data"):
                clocks.work(10)
            clocks.work(100)
    with watch.phase("validation"):
        clocks.work(1000)
    clocks.work(0.5)  # in no phase
    assert watch.seconds == watch.cpu_seconds == {"data": 31, "train": 300, "validation": 1000}
    assert watch.epoch_seconds() == watch.epoch_cpu_seconds() == 1331.5


def test_waiting_for_batches_that_another_thread_makes_is_wall_time_of_data(clocks: Clocks) -> None:
    watch = Stopwatch()
    with watch.phase("train"):
        with watch.phase("data"):
            clocks.wait(2, others=2)
        clocks.work(5)
    assert watch.seconds == {"data": 2, "train": 5, "validation": 0}
    assert watch.cpu_seconds == {"data": 0, "train": 5, "validation": 0}
    assert (watch.epoch_seconds(), watch.epoch_cpu_seconds()) == (7, 7)


def test_a_phase_that_fails_ends(clocks: Clocks) -> None:
    watch = Stopwatch()
    with watch.phase("train"):
        with suppress(ValueError), watch.phase("data"):
            clocks.work(1)
            raise ValueError
        clocks.work(3)
    assert watch.seconds == {"data": 1, "train": 3, "validation": 0}


def test_another_thread_measures_nothing_and_its_work_is_in_the_process_alone() -> None:
    watch = Stopwatch()

    def make() -> None:
        with watch.phase("data"):
            end = time.thread_time() + 0.02
            while time.thread_time() < end:
                pass

    with watch.phase("train"):
        maker = threading.Thread(target=make)
        maker.start()
        maker.join()
    assert watch.seconds["data"] == watch.cpu_seconds["data"] == 0
    assert watch.cpu_seconds["train"] < 0.02 <= watch.epoch_cpu_seconds()
