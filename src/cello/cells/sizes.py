"""Define the sizes that values of a cell may have: D, H, numbers, shares and multiples of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import gcd, lcm

from cello.errors import CellError

INPUTS, UNITS, ONE = "D", "H", "1"
"""The features of a frame, the hidden units, and what is one number for a whole step of a clip."""

_SIZE = re.compile(r"(?P<number>[1-9]\d{0,5})|((?P<times>[1-9]\d{0,3})\*)?(?P<whole>[DH])(/(?P<share>[1-9]\d{0,3}))?|"
                   r"\(?D-(?P<less>[1-9]\d{0,5})\)?(/(?P<parts>[1-9]\d{0,3}))?")  # fmt: skip
MOST_DIGITS = 5
"""A number of as many digits is no factor of H."""
_ELEMENTS = re.compile(r"H\*(?:(?P<plain>[DH]|H/[1-9]\d{0,3})|\((?P<columns>[^*]*\*?[^*]+)\))")


def is_size(text: str) -> bool:
    """Whether a text is a size: "D", "H", "16", "H/2", "2*H", "8*H/3", "D-1", "(D-1)/2", "H*D" or "H*(D-1)"."""
    if (columns := columns_of(text)) is not None:
        return is_size(columns) and columns_of(columns) is None and text == elements_of(columns)
    match = _SIZE.fullmatch(text)
    return match is not None and text == _canonical(match)


def _canonical(match: re.Match[str]) -> str:
    number, whole, share, less, parts = (match[key] for key in ("number", "whole", "share", "less", "parts"))
    if less is not None:
        return f"D-{less}" if parts in (None, "1") else f"(D-{less})/{parts}"
    if whole is None:
        return str(number)
    times, parts = int(match["times"] or 1), share or "1"
    common = gcd(times, int(parts))
    factor = "" if times == common else f"{times // common}*"
    return factor + (whole if int(parts) == common else f"{whole}/{int(parts) // common}")


def elements_of(columns: str) -> str:
    """The elements of a matrix (H, ``columns``), as the size of a vector.

    >>> elements_of("D"), elements_of("8"), elements_of("H/4")
    ('H*D', '8*H', 'H*H/4')
    """
    if columns.isdigit() and len(columns) < MOST_DIGITS:
        return f"{columns}*{UNITS}"
    return f"{UNITS}*{columns}" if columns == INPUTS or share(columns) else f"{UNITS}*({columns})"


def columns_of(text: str) -> str | None:
    """The columns of the matrix (H, columns) whose elements a size counts, if it is written as one: D of "H*D"."""
    match = _ELEMENTS.fullmatch(text)
    return None if match is None else match["plain"] or match["columns"]


def size(text: str, inputs: int, hidden: int) -> int:
    """The number of elements for D = ``inputs`` and H = ``hidden``; a share is rounded down, and at least 1.

    >>> size("H", 39, 64), size("H/3", 39, 64), size("2*H", 39, 64), size("8*H/3", 39, 64)
    (64, 21, 128, 170)
    >>> size("16", 39, 64), size("(D-1)/2", 39, 64)
    (16, 19)
    >>> size("H*D", 39, 64), size("H*H/4", 39, 64)
    (2496, 1024)
    """
    if (columns := columns_of(text)) is not None:
        return hidden * size(columns, inputs, hidden)
    match = _SIZE.fullmatch(text)
    if match is None:
        raise CellError(f"{text!r} is no size: write a number, D, H, or a share or a multiple of them, as H/2 or 2*H")
    if match["number"] is not None:
        return int(match["number"])
    if match["less"] is not None:
        return max(1, (inputs - int(match["less"])) // int(match["parts"] or 1))
    whole = inputs if match["whole"] == INPUTS else hidden
    return max(1, int(match["times"] or 1) * whole // int(match["share"] or 1))


def share(text: str) -> int:
    """How many such parts H has: 4 for "H/4", 1 for "H"; 0 for what is no share of H, as "2*H"."""
    match = _SIZE.fullmatch(text)
    return int(match["share"] or 1) if match is not None and match["whole"] == UNITS and not match["times"] else 0


def repeated(columns: str) -> str:
    """The elements of a vector that repeats along the rows of a matrix (H, ``columns``).

    Of n heads, (H, H/n), each has a part of H elements; in a matrix of other columns, (H, 8), all rows share one of 8.

    >>> repeated("H/4"), repeated("8")
    ('H', '8')
    """
    return UNITS if share(columns) else columns


def multiple(shapes: Iterable[tuple[str, ...]]) -> int:
    """What H must be a multiple of, so that matrices (H, H/n) have n heads of equal size."""
    return lcm(*(share(shape[1]) for shape in shapes if len(shape) == 2 and shape[0] == UNITS and share(shape[1]) > 1))
