"""What hurts: other answers with two processes than with one, a dead child waited for, a fork beside other threads."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from cello.report import parallel
from cello.report.parallel import on_all_cores

FORKED = sys.platform == "linux"


def alone(code: str) -> str:
    """What a new process without other threads prints, which has two cores for sure."""
    begin = "import os, signal\nfrom cello.report import parallel\nparallel.usable_cores = lambda: 2\n"
    found = subprocess.run([sys.executable, "-c", begin + code], capture_output=True, text=True, timeout=60, check=True)
    return found.stdout.strip()


def test_answers_come_in_order_from_other_processes_and_nothing_but_them_is_pickled() -> None:
    code = "print([(n, pid != os.getpid()) for n, pid in parallel.on_all_cores(lambda x: (x, os.getpid()), range(7))])"
    assert alone(code) == str([(n, FORKED) for n in range(7)])


def test_what_is_not_worth_a_fork_stays_here() -> None:
    assert (
        alone("print(set(parallel.on_all_cores(lambda x: os.getpid(), range(5), worth=False)) == {os.getpid()})")
        == "True"
    )


def test_an_error_in_a_child_is_raised_here() -> None:
    code = "try: parallel.on_all_cores(lambda x: 1 / x, [1, 0, 2])\nexcept ZeroDivisionError: print('raised')"
    assert alone(code) == "raised"


@pytest.mark.skipif(not FORKED, reason="nothing is forked on this system")
def test_a_killed_child_is_an_error_and_no_endless_wait() -> None:
    code = "try: parallel.on_all_cores(lambda x: os.kill(os.getpid(), signal.SIGKILL), range(4))\n"
    assert alone(f"{code}except parallel.ReportError as error: print(error)") == (
        "the system killed one of the processes that write the report, most often because memory ran out; close other "
        "programs, or write one format at a time (--format md)"
    )


def test_nothing_is_forked_beside_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "usable_cores", lambda: 2)
    monkeypatch.setattr(parallel, "ProcessPoolExecutor", None)
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        assert on_all_cores(str.upper, ["a", "b"]) == ["A", "B"]
    finally:
        stop.set()
        thread.join()


POOL = "import threading\nfrom concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(1)\n"


@pytest.mark.skipif(not FORKED, reason="nothing is forked on this system")
def test_a_pool_s_thread_that_waits_for_work_as_a_study_leaves_hinders_no_fork() -> None:
    wait = "pool.submit(int).result()\nwhile not parallel._others_wait(): pass\n"
    code = "print(os.getpid() in parallel.on_all_cores(lambda x: os.getpid(), range(4)), threading.active_count() > 1)"
    assert alone(POOL + wait + code) == "False True"


def test_nothing_is_forked_beside_a_pool_s_thread_at_work() -> None:
    begin = "stop = threading.Event()\npool.submit(stop.wait)\n"
    code = "print(set(parallel.on_all_cores(lambda x: os.getpid(), range(4))) == {os.getpid()})\nstop.set()"
    assert alone(POOL + begin + code) == "True"
