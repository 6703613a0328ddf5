"""Let passes over a graph recurse as deep as the longest chain of operations."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from cello.cells.trace import LONGEST_CHAIN

CALLS = 6
"""Python calls of a pass for one operation, at most."""


@contextmanager
def deep() -> Iterator[None]:
    """Raise Python's limit of calls inside one another for a while; calls between functions take no C stack."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(before + CALLS * LONGEST_CHAIN)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
