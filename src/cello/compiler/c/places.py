"""Mark the pointers in a kernel's text, which may differ where a step does the same again."""

from __future__ import annotations

from collections.abc import Iterable

OPEN, CLOSE = "\x01", "\x02"


def marked(text: str) -> str:
    """A pointer that may be another one the next time, marked."""
    return f"{OPEN}{text}{CLOSE}"


def unmarked(lines: Iterable[str]) -> list[str]:
    """The lines with every place as it is."""
    return [line.replace(OPEN, "").replace(CLOSE, "") for line in lines]
