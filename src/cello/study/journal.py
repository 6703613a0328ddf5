"""The append-only history of a study: what was started, lost, finished or failed, when and where."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

NEWLINE = b"\n"


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened to a run; ``time`` in seconds since 1970, ``reason`` only where it failed or was lost.

    A run is lost with its worker, and then started anew on another.
    """

    event: Literal["started", "lost", "finished", "failed"]
    run: str
    time: float
    pid: int
    host: str
    reason: str = ""


def append(path: Path, event: Event) -> None:
    """Add one line with a single write that is on the disk when this returns.

    A last line torn by a crash is ended first, so that it stays the only line lost. The caller holds the store's
    lock: there is one writer.

    Raises:
        OSError: the line could not be written whole.
    """
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(file).st_size
        torn = size > 0 and os.pread(file, 1, size - 1) != NEWLINE
        line = (NEWLINE if torn else b"") + msgspec.json.encode(event) + NEWLINE
        written = os.write(file, line)
        if written < len(line):
            os.write(file, line[written:])
        os.fsync(file)
    finally:
        os.close(file)


def note(path: Path, event: str, run: str, reason: str = "", where: Mapping[str, Any] | None = None) -> None:
    """Append what happened to a run just now; ``where`` is the pid and host it happened at, this process's unless said.

    Raises:
        OSError: as ``append`` does.
    """
    place = {"pid": os.getpid(), "host": socket.gethostname(), **(where or {})}
    append(path, msgspec.convert({"event": event, "run": run, "time": time.time(), "reason": reason, **place}, Event))


def replay(path: Path) -> tuple[Event, ...]:
    """All whole events in order; lines torn by a crash are passed over, a missing file is an empty history.

    The last line counts without its newline if it is whole: the beginning of a JSON object is never one itself.
    """
    try:
        lines = path.read_bytes().split(NEWLINE)
    except FileNotFoundError:
        return ()
    events: list[Event] = []
    for line in lines:
        try:
            events.append(msgspec.json.decode(line, type=Event))
        except msgspec.DecodeError:
            continue
    return tuple(events)
