"""Write what a kernel's step does several times as one loop, with pointers into the kernel's workspace."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from cello.compiler.c.source import Workspace
from cello.compiler.repeated import LoopWriter, Part, Series, longest_core

NUMBER = re.compile(r"(?<![\w.])(\d+)(?![\w.])")


def words(lines: Iterable[str]) -> set[str]:
    """All names in these lines."""
    return {name for line in lines for name in re.findall(r"\w+", line)}


class Places(LoopWriter):
    """The pointers of a function: its workspace, and ``others``, names of places in it or in the arguments' memory.

    Series have their values side by side in the workspace, so that those of a turn lie where its number says.
    """

    remark, loop, end = "    // {}", "    for (long turn = 0; turn < {}; turn++) {{", "    }"
    indent = "    "

    def __init__(self, workspace: Workspace, others: Mapping[str, str]) -> None:
        self.workspace, self.others = workspace, others
        self.of_group: dict[str, tuple[str, int]] = {}

    def group(self, parts: Sequence[Part]) -> None:
        """Lay side by side what series go through."""
        ranges = [
            core
            for part in parts
            if isinstance(part, Series)
            for texts in part.places
            if (core := longest_core(texts, self._side_by_side))
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

    def declared(self, name: str, texts: Sequence[str], value: str) -> str:
        return f"    real *const {name} = {value};"

    def in_table(self, name: str, texts: Sequence[str]) -> tuple[list[str], str]:
        return [], self.declared(name, texts, f"(real *const[]){{{', '.join(texts)}}}[turn]")

    def by_number(self, texts: Sequence[str], front: int) -> str | None:
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
