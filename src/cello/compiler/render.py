"""Show a cell in every form in which it can be read."""

from __future__ import annotations

from collections.abc import Callable

from cello.cells.definition import Cell
from cello.cells.fold import fold
from cello.compiler.c.text import own_text
from cello.compiler.deep import deep
from cello.compiler.js.step import step_text
from cello.compiler.latex import latex
from cello.compiler.text import equations_text, graph_text
from cello.compiler.triton.text import own_text as triton_text
from cello.errors import CellError, unknown

TARGETS: dict[str, Callable[[Cell], str]] = {
    "equations": equations_text,
    "latex": latex,
    "graph": graph_text,
    "c": own_text,
    "triton": triton_text,
    "js": lambda cell: step_text(fold(cell)[0]),
}


@deep()
def render(cell: Cell, target: str) -> str:
    """The cell as "equations" (text), "latex" (an aligned block), "graph" (its nodes with shapes), "c" (its kernel),
    "triton" (its kernels for a GPU) or "js" (one step).

    Raises:
        CellError: a target that does not exist.
    """
    if target not in TARGETS:
        raise CellError(unknown("target", target, TARGETS))
    return TARGETS[target](cell)
