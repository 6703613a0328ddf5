"""Choose a kernel's tiling by what the compiler makes of it: the first whose threads keep nothing in memory."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

from cello.cells.definition import Cell
from cello.compiler.triton.build import kernels
from cello.compiler.triton.launch import Tiling, constants
from cello.compiler.triton.machine_code import Taken, if_any, taken
from cello.compiler.triton.spaces import Sizes
from cello.compiler.triton.text import names_of
from cello.compiler.triton.tiling import at_most, tilings
from cello.errors import BackendError

WORTH = 2
"""How many times fewer bytes of a thread in memory make up for twice the programs."""
MOST_PROGRAMS = 1 << 16
"""Programs that run at once on a GPU of which nothing is known."""


@lru_cache(maxsize=1024)
def chosen(
    cell: Cell, way: str, sizes: Sizes, precision: str, capability: int, memory: int, at_once: int = MOST_PROGRAMS
) -> tuple[Tiling, Taken | None] | None:
    """The tiling of "forward" or "backward" for a compute capability, and what its kernel takes; None if none fits.

    Programs that share units wait for each other, so never more of them do than the GPU runs ``at_once``.
    The passes share no layout that a tiling decides, so each has its own. It follows from the cell, H and the GPU's
    kind alone, no batch and no measured time, so that every run of a model adds in the same order.

    Raises:
        BackendError: Triton is not installed, or no tiling has as little shared memory as there is.
    """
    first, *others = tilings(names_of(cell), sizes, precision, memory) or (None,)
    if first is None:
        return None
    others = [each for each in others if each.split <= max(first.split, at_once)]
    function = getattr(kernels(cell, interpreted=False), way)

    def of(tiling: Tiling) -> Taken | None:
        return taken(function, of_pass(cell, way, tiling, sizes, precision), precision, tiling, capability)

    best, least = first, if_any(partial(of, first))
    for tiling in others:
        if least is None or (least.spilled == 0 and least.shared <= memory):
            break
        found = if_any(partial(of, tiling))
        more = tiling.split * best.rows > best.split * tiling.rows
        worth = least.spilled // WORTH if more else least.spilled - 1
        if found is not None and found.shared <= memory and (least.shared > memory or found.spilled <= worth):
            best, least = tiling, found
    if least is None:  # nothing is known, so only the bound can tell what fits
        names = names_of(cell)
        best = next((each for each in (first, *others) if at_most(names, sizes, each, precision) <= memory), first)
    elif least.shared > memory:
        raise BackendError(
            f"the {way} kernel of cell {cell.name!r} for H={sizes.hidden} needs {least.shared:,} bytes of shared "
            f'memory, and a program has {memory:,} on this GPU; take fewer units, or backend="plain"'
        )
    return best, least


def of_pass(cell: Cell, way: str, tiling: Tiling, sizes: Sizes, precision: str) -> dict[str, Any]:
    """What a pass is compiled for where backward follows, and outputs have derivatives."""
    own = {"KEEP" if way == "forward" else "GIVEN": True}
    return {**constants(names_of(cell), tiling, sizes, precision, large=False), **own}
