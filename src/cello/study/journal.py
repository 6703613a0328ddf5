"""Append to and replay a study's journal: runs started, lost, finished or failed, when and where."""

from __future__ import annotations

import os
import socket
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from cello.files import DamagedFileError, decode_json, read_stored, seal_json

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


def line(event: Event) -> bytes:
    """An event as one line of a journal, with its checksum."""
    return seal_json(msgspec.json.encode(event)) + NEWLINE


def append(path: Path, event: Event) -> None:
    """Add one line with a single write that is on the disk when this returns.

    A last line torn by a crash is cut off first. The caller holds the store's lock: there is one writer.

    Raises:
        OSError: the line could not be written whole, or a link stands there, through which nothing is written.
    """
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    try:
        _cut_torn(file)
        text = line(event)
        written = os.write(file, text)
        if written < len(text):
            os.write(file, text[written:])
        os.fsync(file)
    finally:
        os.close(file)


def _cut_torn(file: int) -> None:
    """End a journal after its last whole line; one that lacks its newline alone is given it."""
    size = os.fstat(file).st_size
    if not size or os.pread(file, 1, size - 1) == NEWLINE:
        return
    text = os.pread(file, size, 0)
    start = text.rfind(NEWLINE) + 1
    try:
        decode_json(text[start:], Event)
    except DamagedFileError:
        os.ftruncate(file, start)
    else:
        os.write(file, NEWLINE)


def note(path: Path, event: str, run: str, reason: str = "", where: Mapping[str, Any] | None = None) -> None:
    """Append what happened to a run just now; ``where`` is the pid and host it happened at, this process's unless said.

    Raises:
        OSError: as ``append`` does.
    """
    place = {"pid": os.getpid(), "host": socket.gethostname(), **(where or {})}
    append(path, msgspec.convert({"event": event, "run": run, "time": time.time(), "reason": reason, **place}, Event))


def replay(path: Path) -> tuple[Event, ...]:
    """All whole events in order; a missing file is an empty history.

    A last line torn by a crash is passed over; it counts without its newline if it is whole, for the beginning of a
    JSON object is never one itself. Any other damaged line is passed over with a warning.

    Raises:
        DamagedFileError: it is no regular file.
    """
    try:
        lines = read_stored(path).split(NEWLINE)
    except FileNotFoundError:
        return ()
    events: list[Event] = []
    damaged: list[int] = []
    for number, text in enumerate(lines, 1):
        try:
            events.append(decode_json(text, Event))
        except DamagedFileError:
            if text.strip() and number < len(lines):
                damaged.append(number)
    if damaged:
        warnings.warn(_lost(path, damaged), stacklevel=2)
    return tuple(events)


def _lost(path: Path, damaged: list[int]) -> str:
    named = ", ".join(map(str, damaged[:3])) + (", …" if len(damaged) > 3 else "")
    return (
        f"{path}: {len(damaged)} of its lines ({named}) cannot be read and count as not written; at most the reason of "
        f"a failed run is lost, no result"
    )
