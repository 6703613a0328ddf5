"""Report progress: a label, the amount done and the total, at a bounded number of times."""

from __future__ import annotations

import math
from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done and how much there is (0 while that is not known)."""


def paced(progress: Progress | None, label: str, total: int) -> Callable[[int], None]:
    """Limit a progress callback to about a hundred calls, and the last one.

    Where ``total`` is not known (0), a call is passed on each time ``done`` has grown by a tenth.

    >>> calls = []
    >>> step = paced(lambda label, done, total: calls.append(done), "counting", 100_000)
    >>> for done in range(100_001):
    ...     step(done)
    >>> len(calls), calls[-1]
    (101, 100000)
    """
    due = 0.0

    def step(done: int) -> None:
        nonlocal due
        if progress is None or done < due:
            return
        progress(label, done, total)
        if done >= total > 0:
            due = math.inf
        else:
            due = min(done + max(1, total // 100), total) if total else done + max(1, done // 10)

    return step
