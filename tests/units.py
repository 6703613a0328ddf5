"""Hidden sizes that tests of every cell can give to each."""

from __future__ import annotations

from cello.cells.definition import Cell
from cello.cells.load import every_cell


def units(cell: Cell | str, hidden: int) -> int:
    """H = ``hidden``, or the next larger one that the cell divides into equal parts; PyTorch's layers take any."""
    known = every_cell().get(cell) if isinstance(cell, str) else cell
    return hidden if known is None else hidden + -hidden % known.multiple
