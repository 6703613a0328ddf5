"""Write the Triton modules of a cell: what all kernels share, and forward and backward."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

from cello.cells.definition import Cell
from cello.cells.summed import summed
from cello.compiler.centred import centred
from cello.compiler.deep import deep
from cello.compiler.expression import equations
from cello.compiler.identifiers import comment
from cello.compiler.kernel import kernel
from cello.compiler.text import STYLE
from cello.compiler.triton.backward import backward
from cello.compiler.triton.forward import forward
from cello.compiler.triton.names import Names
from cello.compiler.triton.products import Buffers, buffers

BARRIER = "meet()"
"""Where programs wait for each other."""


@lru_cache(maxsize=256)
def names_of(cell: Cell, reread: str = "", *, exact: bool = False) -> Names:
    """The names a cell's kernel uses, by what it reads at every step though it stays the same, and whether its products
    are in IEEE float32."""
    if reread or exact:
        return Names(names_of(cell).plan, reread, exact)
    alone, groups = centred(summed(cell))
    return Names(kernel(alone, centred=groups))


def laid_out(cell: Cell, reread: str) -> Names:
    """The names by which a kernel's arguments and tiles lie, whatever of them it reads again."""
    return names_of(cell, reread if reread == "chunks" else "")


def is_exact(precision: str) -> bool:
    """Whether products are in IEEE float32, which no tensor core computes: kernels then are written otherwise."""
    return precision == "ieee"


def computed(cell: Cell) -> Cell:
    """What the kernel computes: the cell with sums for products that are sums, and its centred matrices as given."""
    return centred(summed(cell))[0]


def runtime_text(*, interpreted: bool) -> str:
    """What all cells share; Triton's interpreter knows no instructions of a GPU."""
    text = _file("runtime.txt").replace("constexpr(True)", f"constexpr({not interpreted})")
    return text + _file("clusters.txt") + _file("scatter.txt")


def matrices_text() -> str:
    """What cells share that make matrices of vectors or multiply them; it stands after what all share."""
    return _file("matrices.txt")


def _file(name: str) -> str:
    return resources.files("cello.compiler.triton").joinpath(name).read_text(encoding="utf-8")


@lru_cache(maxsize=64)
@deep()
def own_text(cell: Cell, reread: str = "", *, exact: bool = False) -> str:
    """What of the module is the cell's own."""
    names = names_of(cell, reread, exact=exact)
    step = [f"#    {comment(f'{left} = {right}')}" for left, right in equations(cell.graph, STYLE)]
    title = [f"# {comment(f'{cell.name}: {cell.title}')}", "#", *step, ""]
    return "\n".join([*title, *forward(names), "", "", *backward(names), ""])


@lru_cache(maxsize=1024)
def buffers_of(cell: Cell, way: str, reread: str = "", *, exact: bool = False) -> Buffers:
    """What programs of a cluster leave each other at once, in the pass "forward" or "backward"."""
    names = names_of(cell, reread, exact=exact)
    return buffers(forward(names) if way == "forward" else backward(names))


@lru_cache(maxsize=1024)
def scatters(cell: Cell, way: str, *, cluster: bool) -> bool:
    """Whether programs that share units hand on less in a pass where they hand on sums of what they multiply, and wait
    for each other no more often: backward, where few vectors are multiplied by matrices of many sums.

    In memory each element of a sum is written for one program, which costs as much as that it reads it; one of a vector
    is written once for all.
    """
    if way != "backward" or not names_of(cell, "scatter").scattered:
        return False
    of_sums = buffers_of(cell, way, "scatter")
    count = of_sums.vectors + (0 if cluster else of_sums.sums)
    return count < buffers_of(cell, way).vectors and meetings(cell, way, "scatter") <= meetings(cell, way)


def waits(cell: Cell, way: str, reread: str = "") -> bool:
    """Whether programs that share the units of clips wait for each other, in the pass "forward" or "backward"."""
    return meetings(cell, way, reread) > 0


@lru_cache(maxsize=1024)
def meetings(cell: Cell, way: str, reread: str = "") -> int:
    """How often they do in a step."""
    text = own_text(cell, reread)
    return text[text.index(f"def {way}(") :].partition("@triton.jit")[0].count(BARRIER)
