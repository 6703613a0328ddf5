"""Write the Triton modules of a cell: what all kernels share, and forward and backward."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

from cello.cells.definition import Cell
from cello.cells.graph import RESHAPING
from cello.cells.summed import summed
from cello.compiler.centred import centred
from cello.compiler.deep import deep
from cello.compiler.expression import equations
from cello.compiler.identifiers import comment
from cello.compiler.kernel import kernel
from cello.compiler.text import STYLE
from cello.compiler.triton.backward import backward
from cello.compiler.triton.expression import RESHAPING_ROWS
from cello.compiler.triton.forward import forward
from cello.compiler.triton.names import Names
from cello.errors import CellError


def not_written(cell: Cell) -> str | None:
    """Why there is no kernel of a cell, where an operation of its step has no row; what is said after "Triton"."""
    beyond = {node.op for node in cell.graph.nodes if node.op in RESHAPING} - RESHAPING_ROWS.keys()
    return (
        f"has no kernel of cell {cell.name!r}, which makes matrices of vectors, vectors of matrices or products of them"
        if beyond
        else None
    )


@lru_cache(maxsize=256)
def names_of(cell: Cell, reread: str = "", *, exact: bool = False) -> Names:
    """The names a cell's kernel uses, by what it reads at every step though it stays the same, and whether its products
    are in IEEE float32.

    Raises:
        CellError: there is no kernel of it.
    """
    if reread or exact:
        return Names(names_of(cell).plan, reread, exact)
    if (reason := not_written(cell)) is not None:
        raise CellError(f"Triton {reason}. Show or run another target, such as C.")
    alone, groups = centred(summed(cell))
    return Names(kernel(alone, centred=groups))


def is_exact(precision: str) -> bool:
    """Whether products are in IEEE float32, which no tensor core computes: kernels then are written otherwise."""
    return precision == "ieee"


def computed(cell: Cell) -> Cell:
    """What the kernel computes: the cell with sums for products that are sums, and its centred matrices as given."""
    return centred(summed(cell))[0]


def runtime_text(*, interpreted: bool) -> str:
    """What all cells share; Triton's interpreter knows no instructions of a GPU."""
    runtime = resources.files("cello.compiler.triton").joinpath("runtime.txt").read_text(encoding="utf-8")
    return runtime.replace("constexpr(True)", f"constexpr({not interpreted})")


@lru_cache(maxsize=64)
@deep()
def own_text(cell: Cell, reread: str = "", *, exact: bool = False) -> str:
    """What of the module is the cell's own."""
    names = names_of(cell, reread, exact=exact)
    step = [f"#    {comment(f'{left} = {right}')}" for left, right in equations(cell.graph, STYLE)]
    title = [f"# {comment(f'{cell.name}: {cell.title}')}", "#", *step, ""]
    return "\n".join([*title, *forward(names), "", "", *backward(names), ""])
