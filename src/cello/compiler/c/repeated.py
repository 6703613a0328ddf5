"""Write what a step does several times, such as the unfolds of a differential equation, as one loop in C.

A step is blocks of lines: one a sum of products, one a loop over units. Blocks are the same if they differ only in the
names of their own variables and in places: pointers, which the text encloses in marks. Where a series of blocks stands
several times in a row, it is written once, with a pointer for each place that changes from turn to turn:

    for (long turn = 0; turn < 30; turn++) {
        real *const p1 = turn ? h_tile + (turn - 1) * size : old_h;
        ...

What is computed, and its order, stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from cello.compiler.c.places import CLOSE, OPEN, unmarked
from cello.compiler.c.source import Workspace
from cello.compiler.step_names import indented

MARKED = re.compile(f"{OPEN}([^{CLOSE}]*){CLOSE}")
WORD = re.compile(f"{OPEN}([^{CLOSE}]*){CLOSE}|\\b([^\\W\\d]\\w*)")
OWN = re.compile(r"\b(?:vec|mask|long|struct term) (\w+)")
COMMENT = re.compile(r" *//.*$", flags=re.MULTILINE)
NUMBER = re.compile(r"(?<![\w.])(\d+)(?![\w.])")
LEAST_TURNS, LEAST_LINES, MANY_TURNS = 3, 40, 16
"""A series is a loop from three turns on if that saves many lines, and from sixteen on in any case."""
LONGEST_SERIES = 400
"""Blocks of one turn, at most."""


def words(lines: Iterable[str]) -> set[str]:
    """All names in these lines."""
    return {name for line in lines for name in re.findall(r"\w+", line)}


@dataclass(frozen=True)
class Block:
    """Lines whose variables nothing else reads."""

    lines: tuple[str, ...]

    @cached_property
    def _found(self) -> tuple[str, tuple[str, ...]]:
        text = COMMENT.sub("", "\n".join(self.lines))
        own: dict[str, str] = {}
        for name in OWN.findall(text):
            own.setdefault(name, f"{OPEN}v{len(own)}{CLOSE}")
        places: dict[str, int] = {}

        def renamed(match: re.Match[str]) -> str:
            found, name = match.groups()
            return own.get(name, name) if found is None else f"{OPEN}{places.setdefault(found, len(places))}{CLOSE}"

        return WORD.sub(renamed, text), tuple(places)

    @property
    def key(self) -> str:
        """The same for blocks that do the same with other places."""
        return self._found[0]

    @property
    def places(self) -> tuple[str, ...]:
        """The block's places, by their first mention."""
        return self._found[1]


@dataclass(frozen=True)
class Series:
    """Blocks that stand there several times: those of each turn."""

    turns: tuple[tuple[Block, ...], ...]

    @property
    def places(self) -> list[tuple[str, ...]]:
        """Every place of a turn's, as it is at each turn."""
        each = [[text for block in turn for text in block.places] for turn in self.turns]
        return [*dict.fromkeys(zip(*each, strict=True))]


Part = Block | Series


def found(blocks: Sequence[Block]) -> list[Part]:
    """The blocks, in order, with what repeats as series."""
    numbers: dict[str, int] = {}
    keys = [numbers.setdefault(block.key, len(numbers)) for block in blocks]
    lines = [len(block.lines) for block in blocks]
    parts, at = list[Part](), 0
    while at < len(blocks):
        period, turns = _longest(keys, at, lines)
        if turns:
            ends = range(at, at + period * turns, period)
            parts.append(Series(tuple(tuple(blocks[k : k + period]) for k in ends)))
            at += period * turns
        else:
            parts.append(blocks[at])
            at += 1
    return parts


def _longest(keys: Sequence[int], at: int, lines: Sequence[int]) -> tuple[int, int]:
    """The blocks of one turn, and the turns, of the series from here that saves the most lines; no turns: none does."""
    best, saved = (0, 0), 0
    for period in range(1, min((len(keys) - at) // LEAST_TURNS, LONGEST_SERIES) + 1):
        end = at
        while end + period < len(keys) and keys[end] == keys[end + period]:
            end += 1
        turns = (end - at) // period + 1
        saves = (turns - 1) * sum(lines[at : at + period])
        if saves > saved and (turns >= MANY_TURNS or (turns >= LEAST_TURNS and saves >= LEAST_LINES)):
            best, saved = (period, turns), saves
    return best


class Places:
    """The pointers of a function: its workspace, and ``others``, names of places in it or in the arguments' memory.

    Series have their values side by side in the workspace, so that those of a turn lie where its number says.
    """

    def __init__(self, workspace: Workspace, others: Mapping[str, str]) -> None:
        self.workspace, self.others = workspace, others
        self.of_group: dict[str, tuple[str, int]] = {}

    def write(self, parts: Sequence[Part]) -> list[str]:
        """The lines of blocks and series."""
        lines: list[str] = []
        for part in parts:
            lines += unmarked(part.lines) if isinstance(part, Block) else self._series(part)
        return lines

    def group(self, parts: Sequence[Part]) -> None:
        """Lay side by side what series go through."""
        ranges = [
            core
            for part in parts
            if isinstance(part, Series)
            for texts in part.places
            if (core := next(filter(self._side_by_side, _cores(texts)), None))
        ]
        for core in sorted(ranges, key=len, reverse=True):
            names = [self._split(text)[0] for text in core]
            if self.of_group.keys().isdisjoint(names):
                self.of_group |= {name: (names[0], n) for n, name in enumerate(names)}
                self.workspace.groups.append(names)

    def _side_by_side(self, core: Sequence[str]) -> bool:
        """Whether these are places of the workspace that can lie one after another."""
        split = [self._split(text) for text in core]
        names, rests = {name for name, _ in split}, {rest for _, rest in split}
        sizes = {self.workspace.sizes.get(name) for name in names}
        return len(names) == len(core) and len(rests) == 1 and len(sizes) == 1 and None not in sizes

    def _split(self, text: str) -> tuple[str, str]:
        """The name that a place begins with, and what is added to it."""
        name, blank, rest = self.others.get(text, text).partition(" ")
        return name, blank + rest

    def _series(self, series: Series) -> list[str]:
        count, first = len(series.turns), series.turns[0]
        changing = [texts for texts in series.places if len({*texts}) > 1]
        called = {texts: f"p{n}" for n, texts in enumerate(changing, start=1)}
        lines = [self._pointer(name, texts) for texts, name in called.items()]
        for number, block in enumerate(first):
            each = [*zip(*(turn[number].places for turn in series.turns), strict=True)]
            names = {texts[0]: called.get(texts, texts[0]) for texts in each}
            lines += MARKED.sub(partial(_called, names), "\n".join(block.lines)).split("\n")
        return [
            f"    // {count} times; values are called as they are the first time",
            f"    for (long turn = 0; turn < {count}; turn++) {{",
            *indented(lines),
            "    }",
        ]

    def _pointer(self, name: str, texts: Sequence[str]) -> str:
        """The line for a place that changes: found by the number of the turn, if it can be, or in a table."""
        for front, back in EDGES:
            end = len(texts) - back
            core = self._by_number(texts[front:end], front)
            if core is not None:
                core = f"turn < {end} ? {core} : {texts[-1]}" if back else core
                core = f"turn ? {core} : {texts[0]}" if front else core
                return f"    real *const {name} = {core};"
        return f"    real *const {name} = (real *const[]){{{', '.join(texts)}}}[turn];"

    def _by_number(self, texts: Sequence[str], front: int) -> str | None:
        """An expression in ``turn`` for these places, the first at turn ``front``."""
        split = [self._split(text) for text in texts]
        names = [name for name, _ in split]
        rest = _progression([rest for _, rest in split], front)
        if rest is None:
            return None
        if len({*names}) == 1:
            return names[0] + rest
        if any(name not in self.of_group for name in names) or len({self.of_group[name][0] for name in names}) > 1:
            return None
        first = self.of_group[names[0]][0]
        index = _linear([self.of_group[name][1] for name in names], front)
        return index and f"{first} + {index} * ({self.workspace.sizes[first]}){rest}"


def _called(names: Mapping[str, str], match: re.Match[str]) -> str:
    return names[match[1]]


EDGES = ((0, 0), (1, 0), (0, 1), (1, 1))
"""How many of the first and of the last turns may have places that their number does not say."""


def _cores(texts: Sequence[str]) -> list[Sequence[str]]:
    return [core for front, back in EDGES if len(core := texts[front : len(texts) - back]) > 1]


def _progression(texts: Sequence[str], front: int) -> str | None:
    """One text for these, which may differ in numbers that grow evenly."""
    split = [NUMBER.split(text) for text in texts]
    if len({tuple(parts[::2]) for parts in split}) > 1:
        return None
    numbers = [_linear([int(parts[k]) for parts in split], front) for k in range(1, len(split[0]), 2)]
    if any(number is None for number in numbers):
        return None
    return "".join(text + (number or "") for text, number in zip(split[0][::2], [*numbers, ""], strict=True))


def _linear(values: Sequence[int], front: int) -> str | None:
    """An expression in ``turn`` for these numbers, the first at turn ``front``."""
    step = values[1] - values[0] if len(values) > 1 else 0
    if any(value != values[0] + k * step for k, value in enumerate(values)):
        return None
    begin = values[0] - front * step
    turns = "turn" if abs(step) == 1 else f"{abs(step)} * turn"
    if not step:
        return str(begin)
    if not begin and step > 0:
        return turns if step == 1 else f"({turns})"
    return f"({begin} {'+' if step > 0 else '-'} {turns})"
