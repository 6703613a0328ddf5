"""Define the sizes of a kernel's tiles: each shape of a value has constants of its own in the kernel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TypeVar

from cello.cells.definition import Cell
from cello.cells.graph import Node, Shape
from cello.cells.sizes import ONE, UNITS, share, size

ONCE: Shape = (ONE,)
"""The shape of what is one number a step."""
VECTOR: Shape = (UNITS,)
LEAST = 16
"""Rows and columns below which tensor cores multiply nothing."""
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Space:
    """A shape of values, and what the kernel calls its elements, their number rounded up to a power of two, those of
    one program, and whether nothing was rounded up.

    A value of several elements is a tile of rows by elements; matrices lie in it row by row. Programs that share the
    units of some clips share the elements of every such value, but each has all of what is ``common``: one number a
    step, vectors along the rows of matrices (H, N), and vectors of few elements. Of another vector there are at most as
    many ``parts`` as have 16 elements; further programs compute what others do too, the same bits. ``columns`` are the
    N of a matrix (H, N), and ``padded`` those of its tile, rounded up to a power of two. Matrices in blocks all have
    these, and ``head``, the rows of one head, or all H, and ``head_padded``, those in its tile.
    """

    shape: Shape
    elements: str
    units: str
    own: str
    whole: str
    part: str = "part"
    columns: str = ""
    padded: str = ""
    parts: str = "SPLIT"
    head: str = ""
    head_padded: str = ""

    @property
    def common(self) -> bool:
        """Whether each program has all elements."""
        return self.part == "0"

    @property
    def in_rows(self) -> str:
        """Further arguments of what reads or writes a tile whose rows are longer than those in memory."""
        return "".join(f", {each}" for each in self._of_rows)

    @property
    def _of_rows(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.columns, self.padded, self.head, self.head_padded)))

    @property
    def once(self) -> bool:
        """Whether it is one number a step."""
        return self.shape == ONCE

    @property
    def zero(self) -> str:
        return f"tl.full((ROWS, {self.own}), 0.0, tl.float32)"

    def constants(self) -> tuple[str, ...]:
        """The constants that the kernel is compiled for."""
        of_parts = (self.parts,) if self.has_parts else ()
        return () if self.once else (self.elements, self.units, self.own, self.whole, *self._of_rows, *of_parts)

    @property
    def has_parts(self) -> bool:
        """Whether there may be fewer parts than programs."""
        return self.parts != "SPLIT"


def is_sized(shape: Shape) -> bool:
    """Whether it is a matrix (H, N), of N elements a unit, and none of heads, (H, H/n)."""
    return len(shape) == 2 and not share(shape[1])


def is_short(shape: Shape) -> bool:
    """Whether it is a vector of so few elements, whatever H is, that parts of it would be less than a tile."""
    return len(shape) == 1 and shape[0].isdigit() and int(shape[0]) <= LEAST


def is_large(shape: Shape) -> bool:
    """Whether it is of more elements than vectors of H or of few: a matrix, or as many as one has."""
    return shape not in ((), ONCE, VECTOR) and not is_short(shape)


def space(shape: Shape, number: int, *, common: bool = False) -> Space:
    """The space of a shape, in a kernel where it is that number; a vector of H units has the short names."""
    if shape == ONCE:
        return Space(shape, "1", "1", "1", "True", "0")
    name = f"L{number}_"
    if shape == VECTOR:
        return Space(shape, "H", "UNITS", "OWN", "WHOLE")
    of_rows = (f"{name}COLUMNS", f"{name}PADDED") if is_sized(shape) else ("", "")
    sizes = name[:-1], f"{name}UNITS", f"{name}OWN", f"{name}WHOLE"
    if common or is_short(shape):
        return Space(shape, *sizes, "0", *of_rows)
    if len(shape) == 2:
        return Space(shape, *sizes, "part", *of_rows)
    return Space(shape, *sizes, f"{name}part", parts=f"{name}PARTS")


def block_space(shape: Shape, number: int) -> Space:
    """The same where one program has all of some clips, and heads may have any number of units."""
    found = space(shape, number, common=True)
    if len(shape) < 2:
        return replace(found, part="0")
    columns, padded, head, head_padded = (f"L{number}_{name}" for name in ("COLUMNS", "PADDED", "HEAD", "HEAD_PADDED"))
    return replace(found, columns=columns, padded=padded, head=head, head_padded=head_padded)


def extent(elements: Counter[str]) -> str:
    """How many elements values have side by side, those of each counted, as a factor in the kernel."""
    if set(elements) <= {"1"}:
        return str(elements.total())
    terms = [text if count == 1 else f"{count} * {text}" for text, count in elements.items()]
    return terms[0] if terms[0].isidentifier() and not terms[1:] else f"({' + '.join(terms)})"


def groups_of(
    items: Sequence[Key], shape: Callable[[Key], Shape], counts: Sequence[int] = (4, 2, 1)
) -> tuple[tuple[Key, ...], ...]:
    """The items of one shape in groups of four, two and one."""
    found: list[tuple[Key, ...]] = []
    for wanted in dict.fromkeys(map(shape, items)):
        rest = [item for item in items if shape(item) == wanted]
        for count in counts:
            while len(rest) >= count:
                found.append(tuple(rest[:count]))
                rest = rest[count:]
    return tuple(found)


@dataclass(frozen=True)
class Sizes:
    """D and H of a cell, and how many elements shapes have for them."""

    cell: Cell
    inputs: int
    hidden: int

    def begin(self, part: Node) -> int:
        """Where a part of the frame begins."""
        return self.cell.part(str(part.name), self.inputs)[0]

    def sizes(self, shape: Shape) -> tuple[int, ...]:
        """A shape in numbers."""
        return tuple(size(text, self.inputs, self.hidden) for text in shape)

    def of(self, shape: Shape) -> int:
        """The elements of a value."""
        return prod(self.sizes(shape))

    def total(self, shapes: Sequence[Shape]) -> int:
        """The elements of values side by side."""
        return sum(map(self.of, shapes))

    def a_unit(self, shape: Shape) -> int:
        """The elements that a matrix has of each unit, rounded up to a power of two."""
        return int(1 << (self.of(shape[1:]) - 1).bit_length())

    def head(self, shape: Shape, units: int) -> tuple[int, int]:
        """The rows of one head of a matrix, or all H if it has none, and those in its tile."""
        return (self.of(shape[1:]), self.a_unit(shape)) if share(shape[1]) else (self.hidden, units)

    def rows(self, shape: Shape, units: int) -> int:
        """The rows of a matrix's tile, in which each head is rounded up, and then their number."""
        if not share(shape[1]):
            return units
        heads = self.hidden // self.of(shape[1:])
        return max(units, self.a_unit(shape) << (heads - 1).bit_length())

    def spans(self, shapes: Sequence[Shape]) -> list[slice]:
        """Where each of some values lies, side by side."""
        found, begin = [], 0
        for shape in shapes:
            found.append(slice(begin, begin + self.of(shape)))
            begin = found[-1].stop
        return found

    def parts(self, shape: Shape, units: int, split: int) -> int:
        """How many parts of its elements ``split`` programs have, each of them one."""
        return min(split, self.padded(shape, units) // LEAST) if len(shape) == 1 and shape != VECTOR else split

    def padded(self, shape: Shape, units: int) -> int:
        """The elements rounded up to a power of two; ``units`` are those of H."""
        if shape == ONCE:
            return 1
        if shape == VECTOR:
            return units
        if len(shape) == 2:
            return self.rows(shape, units) * self.a_unit(shape)
        return max(LEAST, 1 << (self.of(shape) - 1).bit_length())
