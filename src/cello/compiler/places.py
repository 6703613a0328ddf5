"""Mark the places in a written step, pointers or arrays, which may differ where a step does the same again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

OPEN, CLOSE = "\x01", "\x02"
MARKED = re.compile(f"{OPEN}([^{CLOSE}]*){CLOSE}")


def marked(text: str) -> str:
    """A place that may be another one the next time, marked."""
    return f"{OPEN}{text}{CLOSE}"


def unmarked(lines: Iterable[str]) -> list[str]:
    """The lines with every place as it is."""
    return [line.replace(OPEN, "").replace(CLOSE, "") for line in lines]


def replaced(lines: Iterable[str], others: Mapping[str, str]) -> list[str]:
    """The lines with these places instead of those, which stay marked."""
    return [MARKED.sub(lambda match: marked(others.get(match[1], match[1])), line) for line in lines]
