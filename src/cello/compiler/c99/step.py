"""Write one step of a cell as a C99 function of its own."""

from __future__ import annotations

from cello.cells.arrays import Real
from cello.cells.definition import Cell
from cello.cells.graph import one_size
from cello.compiler.c99.sized import SizedStep
from cello.compiler.c99.units import StepText, UnitStep
from cello.compiler.deep import deep


@deep()
def step_text(
    cell: Cell,
    name: str,
    inputs: int,
    *,
    hidden: int = 0,
    rows: int = 0,
    int8: bool = False,
    real: Real = "float",
) -> StepText:
    """The function ``name`` of a cell of H units and D = ``inputs``; H and P, H rounded up to whole blocks, are macros.

    Where values have several sizes, the cell is to be specialised, and H = ``hidden`` and the ``rows`` of a block are
    needed as numbers.

    With ``int8`` its matrices are whole numbers with a scale for each row, in an array called as theirs + ``_scale``.
    ``real`` is the type of everything but the weights, which are floats.

    Raises:
        CellError: an operation that C99 has no row for.
    """
    if one_size(cell.graph):
        return UnitStep(cell, name, inputs, int8, real).text()
    return SizedStep(cell, name, inputs, hidden, rows, int8=int8, real=real).text()
