"""Annotate the sizes of states, parameters and frames in a cell's signature: ``Size``, ``Heads`` and ``Parts``."""

from __future__ import annotations

from cello.cells.graph import Shape
from cello.cells.sizes import INPUTS, ONE, UNITS, is_size

EXAMPLE = 'a number of elements, or D, H, a share or a multiple of them, as in Size(16), Size("H/2") or Size("2*H")'
LARGEST, MOST_HEADS = 999_999, 9999


class Size:
    """Annotates a state, a vector or a matrix with its number of elements, or of rows.

    >>> W = Size(16)  # W @ x has 16 elements, whatever the size of x
    >>> h = Size("H/2")  # a state of half as many elements as there are units
    >>> S = Size("H", 8)  # a state of 8 elements for each unit

    Args:
        size: a number; or "H", "D", a share or a multiple of them, as "H/2" (rounded down, at least 1), "4*H" or
            "8*H/3"; or, of a frame with :class:`Parts`, a part such as "x.value", whose size it is.
        columns: of a state or a parameter that is a matrix of "H" rows, and changes from step to step or meets one.
    """

    def __init__(self, size: int | str, columns: int | str | None = None) -> None:
        self.given = (size,) if columns is None else (size, columns)
        self.texts = tuple("" if isinstance(one, bool) else str(one).replace(" ", "") for one in self.given)

    def __repr__(self) -> str:
        return f"Size({', '.join(map(repr, self.given))})"

    def fault(self, parts: dict[str, str]) -> str:
        """What is wrong with it, if anything; ``parts`` are the frame's parts and their sizes."""
        if len(self.texts) == 2 and (self.texts[0] != UNITS or self.texts[1] == ONE):
            return 'is no size; write Size("H", 8) for a matrix that changes, Size(16) for the rows of another'
        return "" if all(text in parts or is_size(text) for text in self.texts) else f"is no size; write {EXAMPLE}"

    def shape(self, parts: dict[str, str]) -> Shape:
        """The shape of a state of this size."""
        return tuple(parts.get(text, text) for text in self.texts)


class Heads:
    """Annotates a state or a parameter that is one square matrix a head: ``S: Heads(4)``, for H / 4 units each.

    ``S @ q`` and ``S.T @ k`` multiply head by head, so that ``U @ h`` with ``U: Heads(4)`` is a block-diagonal product.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def __repr__(self) -> str:
        return f"Heads({self.count!r})"

    def fault(self, _: dict[str, str]) -> str:
        """What is wrong with it, if anything."""
        legal = isinstance(self.count, int) and not isinstance(self.count, bool) and 0 < self.count <= MOST_HEADS
        return "" if legal else f"is no number of heads; write a whole number from 1 to {MOST_HEADS:,}, as in Heads(4)"

    def shape(self, _: dict[str, str]) -> Shape:
        """The shape of the matrices: H rows, and in each the units of one head."""
        return (UNITS, UNITS if self.count == 1 else f"{UNITS}/{self.count}")


class Parts:
    """Annotates a frame that consists of parts, which the equations name: ``x: Parts("value", "mask", gap=1)``.

    ``x.value`` comes first in the frame, then ``x.mask``, then ``x.gap``. Parts with a number have so many elements;
    the others share what is left equally.
    """

    def __init__(self, *names: str, **sized: int) -> None:
        self.names, self.sized = names, sized

    def fault(self) -> str:
        """What is wrong with it, if anything."""
        wrong = next((name for name in self.names if not isinstance(name, str) or not name.isidentifier()), None)
        if wrong is not None:
            return f'has the part {wrong!r}, which is no name; write Parts("value", "mask", gap=1)'
        if repeated := next((name for k, name in enumerate((*self.names, *self.sized)) if name in self.names[:k]), ""):
            return f"has the part {repeated} twice; give each part a name of its own"
        for name, size in self.sized.items():
            if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= LARGEST:
                return f"gives {name} the size {size!r}; write its number of elements, as in {name}=1"
        if sum(self.sized.values()) > LARGEST:
            return f"gives its parts {sum(self.sized.values()):,} elements; give at most {LARGEST:,}"
        if not self.names:
            return 'names no part that takes the rest of the frame; write Parts("value", gap=1)'
        return ""

    def sizes(self) -> tuple[tuple[str, str], ...]:
        """The parts in their order, and their sizes."""
        known, count = sum(self.sized.values()), len(self.names)
        rest = INPUTS if not known else f"{INPUTS}-{known}" if count == 1 else f"({INPUTS}-{known})"
        rest = rest if count == 1 else f"{rest}/{count}"
        return (*((name, rest) for name in self.names), *((name, str(size)) for name, size in self.sized.items()))


Sized = int | str | tuple[int | str, int | str] | Size | Heads
"""What ``size=`` of a ``Learned`` or a ``Fixed`` may be."""


def size_or_heads(size: Sized | None) -> Size | Heads | None:
    """What ``size=`` of a ``Learned`` or a ``Fixed`` says."""
    if size is None or isinstance(size, Size | Heads):
        return size
    return Size(*size) if isinstance(size, tuple) and len(size) == 2 else Size(size)
