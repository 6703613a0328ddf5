"""Run a function in a copy of the tests' process, with torch loaded already, where it may change settings for good."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


def forked(function: Callable[[], Any]) -> Any:
    """What the function gives in a child of this process; an error of it ends the child, and is an error here."""
    context = multiprocessing.get_context("fork")
    there, here = context.Pipe(duplex=False)
    child = context.Process(target=_send, args=(here, function))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)
        child.start()
    here.close()
    try:
        return there.recv()
    except EOFError:
        child.join()
        raise AssertionError(f"the child ended with {child.exitcode}") from None
    finally:
        child.join()


def _send(pipe: Connection, function: Callable[[], Any]) -> None:
    pipe.send(function())
