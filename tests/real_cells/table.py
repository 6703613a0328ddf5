"""The real cells, in the order of the table in docs/cells.md."""

from __future__ import annotations

from types import ModuleType

from real_cells import (
    diagonal,
    dynamics,
    filters,
    gated,
    large,
    lstms,
    matrices,
    memories,
    more_gated,
    more_lstms,
    more_spiking,
    nested,
    sized,
    spiking,
    tensors,
)
from real_cells.real import RealCell


def cells_of(*modules: ModuleType) -> tuple[RealCell, ...]:
    """The real cells of modules, in the order in which they stand there."""
    return tuple(one for module in modules for one in vars(module).values() if isinstance(one, RealCell))


REAL_CELLS = cells_of(
    gated,
    more_gated,
    lstms,
    more_lstms,
    nested,
    dynamics,
    diagonal,
    matrices,
    sized,
    memories,
    large,
    spiking,
    more_spiking,
    filters,
    tensors,
)
WRITTEN = tuple(one for one in REAL_CELLS if one.cell is not None)
WAITING = tuple(one for one in REAL_CELLS if one.cell is None)
