"""Check the sizes D and H that a cell is to have: units in equal parts, frames that consist of the parts it names."""

from __future__ import annotations

from functools import lru_cache

from cello.cells.definition import Cell
from cello.cells.sizes import size
from cello.errors import ModelError

FARTHEST = 4096
"""How far from a size that does not fit the nearest ones that do are looked for."""


def check_units(cell: Cell, hidden: int, name: str = "H") -> None:
    """Refuse hidden units that a cell cannot divide into equal parts; ``name`` is what the caller calls them.

    Raises:
        ModelError: H is no multiple of ``cell.multiple``.
    """
    if hidden % cell.multiple:
        below = hidden // cell.multiple * cell.multiple
        near = " or ".join(str(each) for each in (below, below + cell.multiple) if each)
        raise ModelError(
            f"{name}={hidden} does not fit cell {cell.name!r}, which divides its units into {cell.multiple} equal "
            f"parts; use {near}"
        )


def check_frame(cell: Cell, inputs: int, name: str = "D") -> None:
    """Refuse frames that a cell cannot divide into the parts that it names.

    Raises:
        ModelError: the parts' sizes do not make up D.
    """
    if not cell.parts or _fits(cell, inputs):
        return
    near = [each for each in range(max(1, inputs - FARTHEST), inputs + FARTHEST) if _fits(cell, each)]
    below, above = max((n for n in near if n < inputs), default=0), min((n for n in near if n > inputs), default=0)
    remedy = " or ".join(str(each) for each in (below, above) if each)
    parts = ", ".join(f"{part} ({text})" for part, text in cell.parts)
    raise ModelError(
        f"{name}={inputs} does not fit cell {cell.name!r}, whose frames consist of {parts}; "
        f"give frames of {remedy or 'these'} elements"
    )


def _fits(cell: Cell, inputs: int) -> bool:
    return sum(size(text, inputs, 1) for _, text in cell.parts) == inputs


@lru_cache(maxsize=1024)
def check_sizes(cell: Cell, inputs: int, hidden: int) -> None:
    """Refuse a D or an H that a cell cannot have.

    Raises:
        ModelError: as ``check_units`` and ``check_frame``.
    """
    check_units(cell, hidden)
    check_frame(cell, inputs)
