"""Map a function over many things on all cores, where forking is safe."""

from __future__ import annotations

import gc
import multiprocessing
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, thread
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from cello.errors import ReportError
from cello.machine import usable_cores

Thing = TypeVar("Thing")
Result = TypeVar("Result")
MOST = 4
MANY_RUNS = 500
"""From how many runs on what is done with them is worth several processes."""

_work: list[tuple[Callable[[Any], Any], Sequence[Any]]] = []


def on_all_cores(function: Callable[[Thing], Result], things: Sequence[Thing], worth: bool = True) -> list[Result]:
    """``[function(thing) for thing in things]``; only the results travel between processes, so only they are pickled.

    A forked child begins with all that this process has read, so even a second of work can be shared. Where it is not
    ``worth`` it, where other threads are at work, whose locks a fork would copy, and on other systems than Linux, whose
    own libraries do not survive a fork, nothing is forked.

    Raises:
        ReportError: the system killed a child.

    >>> on_all_cores(str.upper, ["a", "b"])
    ['A', 'B']
    """
    hands = min(usable_cores(), len(things), MOST) if worth else 1
    if hands < 2 or sys.platform != "linux" or not _others_wait():
        return [function(thing) for thing in things]
    forks = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(hands, mp_context=forks, initializer=_begin, initargs=(function, things))
    try:
        with warnings.catch_warnings():
            # of numpy's own threads, which numpy ends before a fork; Python's are counted above
            warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)
            return list(pool.map(_one, range(len(things))))
    except BrokenProcessPool as error:
        raise ReportError(
            "the system killed one of the processes that write the report, most often because memory ran out; close "
            "other programs, or write one format at a time (--format md)"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _others_wait() -> bool:
    """Whether every other thread waits in a pool for work, as a study leaves two; it holds no lock then, and none of
    them can be given work but by this one.
    """
    frames, waiting = sys._current_frames(), getattr(getattr(thread, "_worker", None), "__code__", None)
    others = {each.ident or 0 for each in threading.enumerate()} - {threading.get_ident()}
    return all(other in frames and frames[other].f_code is waiting for other in others)


def _begin(function: Callable[[Any], Any], things: Sequence[Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    gc.freeze()  # what is inherited stays: looking through it for garbage would take longer than the work
    _work.append((function, things))


def _one(index: int) -> Any:
    function, things = _work[-1]
    return function(things[index])
