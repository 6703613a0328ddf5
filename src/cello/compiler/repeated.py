"""Find what a step does several times, such as the unfolds of a differential equation, and write it as one loop.

A step is blocks of lines: one a sum of products, one a loop over units. Blocks are the same if they differ only in the
names of their own variables and in places, which the text encloses in marks. Where a series of blocks stands several
times in a row, it is written once, with a pointer for each place that changes from turn to turn:

    for (long turn = 0; turn < 30; turn++) {
        real *const p1 = turn ? h_tile + (turn - 1) * size : old_h;
        ...

What is computed, and its order, stays as it is.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count, pairwise

from cello.compiler.places import CLOSE, OPEN, replaced, unmarked

WORD = re.compile(f"{OPEN}([^{CLOSE}]*){CLOSE}|\\b([^\\W\\d]\\w*)")
TYPE = "vec|mask|long|float|struct term"
OWN = re.compile(rf"\b(?:{TYPE}|const(?! (?:{TYPE})\b)) (\w+)")
"""Where a block's own variables begin, in C and in JavaScript."""
COMMENT = re.compile(r"/\*.*?\*/| *//.*$", flags=re.MULTILINE)
LEAST_TURNS, LEAST_LINES, MANY_TURNS = 3, 40, 16
"""A series is a loop from three turns on if that saves many lines, and from sixteen on in any case."""
LEAST_CHAINED = 20
"""Lines that are many where turns follow from one another and nothing else is made a loop."""
LONGEST_SERIES = 400
"""Blocks of one turn, at most."""
EDGES = ((0, 0), (1, 0), (0, 1), (1, 1))
"""How many of the first and of the last turns may have places that their number does not say."""


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

    @property
    def chained(self) -> bool:
        """Whether turns go on from what those before them found, as unfolds do and gates side by side do not."""
        changing = [texts for texts in self.places if len({*texts}) > 1]
        each = [{*texts} for texts in zip(*changing, strict=True)]
        return any(not before.isdisjoint(after) for before, after in pairwise(each))


Part = Block | Series


def found(blocks: Sequence[Block], *, chained: bool = False) -> list[Part]:
    """The blocks, in order, with what repeats as series; if asked, only where turns follow from one another."""
    numbers: dict[str, int] = {}
    keys = [numbers.setdefault(block.key, len(numbers)) for block in blocks]
    lines = [len(block.lines) for block in blocks]
    parts, at = list[Part](), 0
    while at < len(blocks):
        period, turns = _longest(keys, at, lines, LEAST_CHAINED if chained else LEAST_LINES)
        ends = range(at, at + period * turns, period)
        series = Series(tuple(tuple(blocks[k : k + period]) for k in ends))
        if turns and (series.chained or not chained):
            parts.append(series)
            at += period * turns
        else:
            parts.append(blocks[at])
            at += 1
    return parts


def _longest(keys: Sequence[int], at: int, lines: Sequence[int], least: int) -> tuple[int, int]:
    """The blocks of one turn, and the turns, of the series from here that saves the most lines; no turns: none does.

    Series of few turns save ``least`` lines.
    """
    best, saved = (1, 0), 0
    for period in range(1, min((len(keys) - at) // LEAST_TURNS, LONGEST_SERIES) + 1):
        end = at
        while end + period < len(keys) and keys[end] == keys[end + period]:
            end += 1
        turns = (end - at) // period + 1
        saves = (turns - 1) * sum(lines[at : at + period])
        if saves > saved and (turns >= MANY_TURNS or (turns >= LEAST_TURNS and saves >= least)):
            best, saved = (period, turns), saves
    return best


def has_series(parts: Sequence[Part]) -> bool:
    """Whether something repeats."""
    return any(isinstance(part, Series) for part in parts)


def lines_of(parts: Sequence[Part]) -> int:
    """The lines of blocks, and of one turn of each series."""
    every = [block for part in parts for block in (part.turns[0] if isinstance(part, Series) else (part,))]
    return sum(len(block.lines) for block in every)


class LoopWriter(ABC):
    """Writes blocks and series in one language."""

    remark: str
    loop: str
    end: str
    indent: str

    def write(self, parts: Sequence[Part]) -> list[str]:
        """The lines of blocks and series."""
        lines: list[str] = []
        for part in parts:
            lines += unmarked(part.lines) if isinstance(part, Block) else self._series(part)
        return lines

    def _series(self, series: Series) -> list[str]:
        turns, first = len(series.turns), series.turns[0]
        changing = [texts for texts in series.places if len({*texts}) > 1]
        called = dict(zip(changing, self.names("p"), strict=False))
        tables, lines = list[str](), list[str]()
        for texts, name in called.items():
            table, line = self._pointer(name, texts)
            tables += table
            lines.append(line)
        for number, block in enumerate(first):
            each = [*zip(*(turn[number].places for turn in series.turns), strict=True)]
            names = {texts[0]: called.get(texts, texts[0]) for texts in each}
            lines += unmarked(replaced(block.lines, names))
        return [
            *tables,
            self.remark.format(f"{turns} times; values are called as they are the first time"),
            self.loop.format(turns),
            *(f"{self.indent}{line}" for line in lines),
            self.end,
        ]

    def names(self, letter: str) -> Iterator[str]:
        """Names that begin with this letter and that no value has."""
        return (f"{letter}{n}" for n in count(1))

    def _pointer(self, name: str, texts: Sequence[str]) -> tuple[list[str], str]:
        """The line for a place that changes: found by the number of the turn, if it can be, or in a table.

        Before it the lines that stand before the loop.
        """
        for front, back in EDGES:
            end = len(texts) - back
            core = self.by_number(texts[front:end], front)
            if core is not None:
                core = f"({core})" if " ? " in core and front + back else core
                core = f"turn < {end} ? {core} : {texts[-1]}" if back else core
                core = f"turn ? {core} : {texts[0]}" if front else core
                return [], self.declared(name, texts, core)
        return self.in_table(name, texts)

    @abstractmethod
    def by_number(self, texts: Sequence[str], front: int) -> str | None:
        """An expression in ``turn`` for these places, the first at turn ``front``."""

    @abstractmethod
    def declared(self, name: str, texts: Sequence[str], value: str) -> str:
        """The line that declares a pointer to one of these places."""

    @abstractmethod
    def in_table(self, name: str, texts: Sequence[str]) -> tuple[list[str], str]:
        """As :meth:`_pointer` for any places."""


def longest_core(texts: Sequence[str], fit: Callable[[Sequence[str]], bool]) -> Sequence[str] | None:
    """The longest run of these places that fit, without the first or the last if those do not."""
    every = (texts[front : len(texts) - back] for front, back in EDGES)
    return next((core for core in every if len(core) > 1 and fit(core)), None)


class Alternating(LoopWriter):
    """Where a place is one of two in turn, after :func:`share_memory`."""

    def by_number(self, texts: Sequence[str], front: int) -> str | None:
        if len({*texts}) == 1:
            return texts[0]
        if len(texts) < LEAST_TURNS or any(text != texts[number % 2] for number, text in enumerate(texts)):
            return None
        return f"turn % 2 ? {texts[1 - front]} : {texts[front]}"


def share_memory(parts: Sequence[Part], sizes: Mapping[str, object]) -> tuple[list[Part], dict[str, str]]:
    """Let places of series share memory where no turn reads what an earlier one has written there.

    Args:
        parts: of a step
        sizes: of the places that nothing but these parts reads or writes

    Returns:
        The parts, and for the places that are gone those that stand instead.
    """
    first, last = dict[str, int](), dict[str, int]()
    for number, block in enumerate(_blocks(parts)):
        for text in block.places:
            first.setdefault(text, number)
            last[text] = number

    def fit(core: Sequence[str]) -> bool:
        return len({*core}) == len(core) and all(text in sizes for text in core) and len({*map(sizes.get, core)}) == 1

    instead: dict[str, str] = {}
    every = [
        core
        for part in parts
        if isinstance(part, Series)
        for texts in part.places
        if (core := longest_core(texts, fit))
    ]
    for core in sorted(every, key=len, reverse=True):
        if instead.keys().isdisjoint(core):
            turns = _turns_apart(core, first, last)
            instead |= {text: core[number % turns] for number, text in enumerate(core)}
    return [_replaced(part, instead) for part in parts], {a: b for a, b in instead.items() if a != b}


def _turns_apart(core: Sequence[str], first: Mapping[str, int], last: Mapping[str, int]) -> int:
    """After how many turns a place is free to be written again."""
    for turns in range(1, len(core)):
        if all(last[a] < first[b] for a, b in zip(core, core[turns:], strict=False)):
            return turns
    return len(core)


def _blocks(parts: Sequence[Part]) -> Iterator[Block]:
    for part in parts:
        yield from (block for turn in part.turns for block in turn) if isinstance(part, Series) else (part,)


def _replaced(part: Part, instead: Mapping[str, str]) -> Part:
    if isinstance(part, Series):
        return Series(tuple(tuple(Block((*replaced(b.lines, instead),)) for b in turn) for turn in part.turns))
    return Block((*replaced(part.lines, instead),))
