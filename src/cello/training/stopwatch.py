"""Time the phases of an epoch: the making of data apart from the training steps, however they interleave."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

Made = TypeVar("Made")
Phase = Literal["data", "train", "validation"]


class Stopwatch:
    """Measures each phase of an epoch without the phases that begin inside it, and the epoch as a whole.

    Wall time is what passes; a phase's CPU time is that of the thread that made the stopwatch, and the epoch's is that
    of the whole process, all its threads. In any other thread ``phase`` measures nothing, so that the making of a
    batch may be marked wherever it happens: made by the thread that trains, its time is taken off that thread's
    training; made beside it, only the wait for it is.
    """

    def __init__(self) -> None:
        self.seconds: dict[Phase, float] = {"data": 0.0, "train": 0.0, "validation": 0.0}
        self.cpu_seconds: dict[Phase, float] = {"data": 0.0, "train": 0.0, "validation": 0.0}
        self._phase: Phase | None = None
        self._thread = threading.get_ident()
        self._began, self._process = time.perf_counter(), time.process_time()
        self._mark = self._began, time.thread_time()

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Count what happens within as ``name``; the phase around it, if any, stands still."""
        if threading.get_ident() != self._thread:
            yield
            return
        outer = self._phase
        self._change(name)
        try:
            yield
        finally:
            self._change(outer)

    def _change(self, phase: Phase | None) -> None:
        wall, cpu = time.perf_counter(), time.thread_time()
        if self._phase is not None:
            self.seconds[self._phase] += wall - self._mark[0]
            self.cpu_seconds[self._phase] += cpu - self._mark[1]
        self._phase, self._mark = phase, (wall, cpu)

    def shares(self, runs: int) -> Iterator[Stopwatch]:
        """A stopwatch for each of so many runs, made when it is asked for, with its share of the time until now."""
        lasted, worked = self.epoch_seconds(), self.epoch_cpu_seconds()
        for _ in range(runs):
            own = Stopwatch()
            own.seconds = {phase: seconds / runs for phase, seconds in self.seconds.items()}
            own.cpu_seconds = {phase: seconds / runs for phase, seconds in self.cpu_seconds.items()}
            own._began -= lasted / runs
            own._process -= worked / runs
            yield own

    def epoch_seconds(self) -> float:
        """Wall time since the stopwatch was made."""
        return time.perf_counter() - self._began

    def epoch_cpu_seconds(self) -> float:
        """CPU time of the process, all its threads, since the stopwatch was made."""
        return time.process_time() - self._process


def marked(made: Iterable[Made], watch: Stopwatch) -> Iterator[Made]:
    """What is made, the time until each is there counted as data."""
    each = iter(made)
    while True:
        with watch.phase("data"):
            found = next(each, None)
        if found is None:
            return
        yield found
