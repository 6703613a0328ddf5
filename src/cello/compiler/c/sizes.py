"""Name the sizes of a kernel's values in C: elements, elements padded to whole vecs, tiles.

H units are padded to P, D elements of a frame to E; "16" elements are padded to padded16, "H/2" are H_over2, padded to
paddedH_over2. No name of a cell's becomes such an identifier.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from cello.cells.graph import Node, Shape
from cello.cells.sizes import INPUTS, ONE, UNITS, columns_of

PADDED = {UNITS: "P", INPUTS: "E", ONE: "V"}


def elements(text: str) -> str:
    """The number of elements of a size, "H/2", "2*H" or "(D-1)/2", as C has it: H_over2, H_times2, D_less1_over2.

    >>> elements("H*D"), elements("H*H/4")
    ('H_byD', 'H_byH_over4')
    """
    if (columns := columns_of(text)) is not None:
        return f"H_by{elements(columns)}"
    factor, _, rest = text.rpartition("*")
    name = rest.strip("(").replace(")", "").replace("-", "_less").replace("/", "_over")
    return f"{name}_times{factor}" if factor else name


def padded(text: str) -> str:
    """That number padded to whole vecs."""
    return PADDED.get(text) or f"padded{elements(text)}"


def width(shape: Shape) -> str:
    """The elements that one clip's value takes."""
    return " * ".join([padded(shape[0]), *map(elements, shape[1:])])


def tile(shape: Shape) -> str:
    """The elements that a tile takes."""
    first = "size" if shape[0] == UNITS else f"rows * {padded(shape[0])}"
    return " * ".join([first, *map(elements, shape[1:])])


def widths(shapes: Iterable[Shape]) -> str:
    """The elements that values of these shapes take together, of one clip."""
    return _together(Counter(map(width, shapes)))


def begins(shapes: Sequence[Shape]) -> list[str]:
    """For each of these values the elements that those before it take, of one clip."""
    found, counts = list[str](), Counter[str]()
    for shape in shapes:
        found.append(_together(counts))
        counts[width(shape)] += 1
    return found


def _together(counts: Mapping[str, int]) -> str:
    return " + ".join(one if count == 1 else f"{count} * {one}" for one, count in counts.items()) or "0"


def definitions(texts: Iterable[str]) -> str:
    """Definitions of the numbers of elements and of their padded numbers, beside H, D and those known at once."""
    found = []
    for text in dict.fromkeys(texts):
        if text not in (UNITS, INPUTS) and not text.isdigit():
            found.append(f"{elements(text)} = {_count(text)}")
        if text not in PADDED:
            found.append(f"{padded(text)} = round_up({elements(text)}, V)")
    return ", ".join(found)


def _count(text: str) -> str:
    """A number of elements as an expression of H and D."""
    if (columns := columns_of(text)) is not None:
        return f"H * {columns if columns in (UNITS, INPUTS) or columns.isdigit() else _count(columns)}"
    whole, _, parts = text.strip("(").replace(")", "").replace("*", " * ").partition("/")
    return f"at_least_1({f'({whole})' if '-' in whole else whole}{f' / {parts}' if parts else ''})"


def number(node: Node) -> str | None:
    """A number of the equations, or a size as a number, in C; None for another node."""
    if node.op == "constant":
        return f"(real)({node.value!r})"
    return f"(real){elements(str(node.name))}" if node.op == "size" else None
