"""Make the next batches in a thread while the kernels, which release the interpreter, train on this one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")

DEPTH = 2
"""Batches that wait to be used: one is made while one is used, and a slow one finds one in store."""


@contextmanager
def made_ahead(make: Callable[[Item], Made], items: Sequence[Item], threads: int) -> Iterator[Iterator[Made]]:
    """What ``make`` gives of each item, in order: in a thread of its own, or here when asked for where there is none.

    An error that ``make`` raises is raised where its item is asked for. Leaving the context ends the thread.
    """
    if not threads:
        yield map(make, items)
        return
    maker = _Maker(make, items)
    try:
        yield maker.results()
    finally:
        maker.stop()


class _Maker(Generic[Item, Made]):
    def __init__(self, make: Callable[[Item], Made], items: Sequence[Item]) -> None:
        self._make, self._items = make, items
        self._waiting: queue.Queue[tuple[Made | None, BaseException | None]] = queue.Queue(DEPTH)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        for item in self._items:
            try:
                made, fault = self._make(item), None
            except BaseException as error:
                made, fault = None, error
            if not self._put(made, fault) or fault is not None:
                return

    def _put(self, made: Made | None, fault: BaseException | None) -> bool:
        while not self._stopped.is_set():
            try:
                self._waiting.put((made, fault), timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def results(self) -> Iterator[Made]:
        for _ in self._items:
            made, fault = self._waiting.get()
            if fault is not None:
                raise fault
            yield made  # type: ignore[misc]

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
