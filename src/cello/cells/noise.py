"""Add zoneout and recurrent dropout to a cell, as nodes of its graph.

The masks that switch the noise on are given for each frame (``scan(..., masks=...)``), so that every back end applies
the same ones and the equations themselves stay as they are written.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from cello.cells.definition import Cell
from cello.cells.graph import Graph, GraphBuilder, dependencies
from cello.errors import CellError, unknown


@lru_cache(maxsize=256)
def with_noise(cell: Cell, zoneout: tuple[str, ...] = (), dropout: tuple[str, ...] = ()) -> Cell:
    """The cell with masks ``zoneout_s`` and ``dropout_s`` for the named states.

    Zoneout keeps a unit's old value where its mask z is 1: sₜ = z ⊙ sₜ₋₁ + (1 − z) ⊙ ŝₜ, with ŝₜ what the equations
    give; the other states see ŝₜ (Krueger et al. 2017). Dropout with a mask d multiplies the old state wherever a
    matrix of parameters multiplies it: U @ s becomes U @ (d ⊙ s), one d at all steps of a clip (Gal & Ghahramani 2016).

    Raises:
        CellError: a state the cell does not have.
    """
    for state in (*zoneout, *dropout):
        if state not in cell.states:
            raise CellError(unknown(f"state of cell {cell.name!r}", state, cell.states))
    if not zoneout and not dropout:
        return cell
    return replace(cell, graph=_Noise(cell.graph, zoneout, dropout).graph())


class _Noise:
    """Rebuilds a graph; inside the vectors of products old states are masked."""

    def __init__(self, graph: Graph, zoneout: tuple[str, ...], dropout: tuple[str, ...]) -> None:
        self.old, self.zoneout, self.dropout = graph, zoneout, dropout
        self.builder = GraphBuilder()
        self.made: dict[tuple[int, bool], int] = {}
        self.multiplied = self._multiplied_by_heads()

    def _multiplied_by_heads(self) -> set[int]:
        """Where a block-diagonal matrix of parameters is multiplied by a vector, repeated for each head."""
        nodes, needs, found = self.old.nodes, dependencies(self.old.nodes), set[int]()
        for node in nodes:
            inner = nodes[node.args[0]] if node.op in ("row_sum", "column_sum") else node
            if inner is not node and inner.op == "mul":
                matrix, repeated = inner.args
                if not needs[matrix] and nodes[repeated].op in ("rows", "columns"):
                    found.add(node.args[0])
        return found

    def graph(self) -> Graph:
        for k in range(len(self.old.nodes)):
            for masked in (False, True):
                self.made[k, masked] = self._copy(k, masked=masked)
        outputs = []
        for state, output in zip(self.old.states, self.old.outputs, strict=True):
            new = self.made[output, False]
            outputs.append(self._zoned(state, new) if state in self.zoneout else new)
        return self.builder.graph(self.old.states, outputs)

    def _copy(self, k: int, *, masked: bool) -> int:
        """The node in the new graph; ``masked`` where it stands in the vector of a product."""
        node = self.old.nodes[k]
        matrix = node.op == "product" or k in self.multiplied
        inside = (False, True) if matrix else (masked,) * len(node.args)
        args = tuple(self.made[arg, within] for arg, within in zip(node.args, inside, strict=True))
        at = self.builder.add(replace(node, args=args))
        if masked and node.op == "state" and node.name in self.dropout:
            return self.builder.write(
                "mul", self.builder.write("mask", name=f"dropout_{node.name}", shape=node.shape), at
            )
        return at

    def _zoned(self, state: str, new: int) -> int:
        write, shape = self.builder.write, self.builder.nodes[new].shape
        mask, old = write("mask", name=f"zoneout_{state}", shape=shape), write("state", name=state, shape=shape)
        rest = write("sub", write("constant", value=1.0), mask)
        return write("add", write("mul", mask, old), write("mul", rest, new))
