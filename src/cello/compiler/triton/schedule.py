"""Order a step's statements so that registers hold fewer tiles: writes as soon as they can be, some values as late."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

WORD = re.compile(r"[^\W\d]\w*")
ASSIGNED = re.compile(r"([^\W\d]\w*(?:, [^\W\d]\w*)*) (\+?)= (.*)")
WRITES = re.compile(r"store(_tile|_blocks|\d)\(saved ")


@dataclass(frozen=True)
class _Statement:
    """Lines that stay together, with the variables that they set and read."""

    lines: tuple[str, ...]
    sets: frozenset[str]
    reads: frozenset[str]


def parts(line: str) -> tuple[set[str], set[str]]:
    """The variables that a line sets, and those it reads."""
    found = ASSIGNED.fullmatch(line)
    if found is None:
        return set(), {*WORD.findall(line)}
    names = {*found[1].split(", ")}
    return names, {*WORD.findall(found[3])} | (names if found[2] else set())


def ordered(lines: Sequence[str], late: Container[str]) -> list[str]:
    """The same step: what sets one of the variables ``late`` stands right before what reads it, and what
    backward reads is written as soon as it is there."""
    found = _moved(_statements(lines)[::-1], lambda each: _is_late(each, late), up=False)[::-1]
    return [line for each in _moved(found, _is_early, up=True) for line in each.lines]


def _is_late(statement: _Statement, late: Container[str]) -> bool:
    return len(statement.sets) == 1 and all(name in late for name in statement.sets)


def _is_early(statement: _Statement) -> bool:
    return WRITES.match(statement.lines[-1].strip()) is not None


def _moved(given: Sequence[_Statement], chosen: Callable[[_Statement], bool], *, up: bool) -> list[_Statement]:
    """Each chosen statement moved towards the first, as far as those that it depends on, or that depend on it, let it;
    of several that stand there they keep their order."""
    found: list[_Statement] = []
    for each in given:
        place = len(found)
        if chosen(each):
            while place and not _in_order(*((found[place - 1], each) if up else (each, found[place - 1]))):
                place -= 1
        found.insert(place, each)
    return found


def _in_order(first: _Statement, second: _Statement) -> bool:
    """Whether the second statement has to follow the first."""
    return bool(first.sets & (second.reads | second.sets) or first.reads & second.sets)


def _statements(lines: Sequence[str]) -> list[_Statement]:
    """Comments stay above the line that they are of, and a block with the line that opens it."""
    found: list[_Statement] = []
    waiting: list[str] = []
    for n, line in enumerate(lines):
        waiting.append(line)
        after = lines[n + 1] if n + 1 < len(lines) else ""
        if line.startswith("#") or after.startswith(" "):
            continue
        pairs = [parts(each.strip()) for each in waiting if not each.startswith("#")]
        sets, reads = (frozenset().union(*part) for part in zip(*pairs, strict=True))
        found.append(_Statement(tuple(waiting), sets, reads))
        waiting = []
    return found
