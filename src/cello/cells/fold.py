"""Turn matrices that a cell computes from its parameters into parameters, for forms that hold trained weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cello.cells.arrays import NUMPY
from cello.cells.definition import Cell
from cello.cells.graph import APPLY, LEAVES, RESHAPING, GraphBuilder, Node


@lru_cache(maxsize=256)
def fold(cell: Cell) -> tuple[Cell, tuple[tuple[str, int], ...]]:
    """The cell whose matrices are all parameters, and the new ones: name, and position in the graph of the cell given.

    So are products of a matrix and a vector that are the same at every step. ``(U - U.T) @ h`` becomes ``A @ h``, where
    A is called as in the equations, or M where it has no name there.
    """
    nodes = cell.graph.nodes
    matrices = {node.args[0] for node in nodes if node.op == "product" and nodes[node.args[0]].args}
    computed = sorted(matrices | {k for k, node in enumerate(nodes) if node.op == APPLY})
    if not computed:
        return cell, ()
    taken = {*cell.arguments, *(str(node.name) for node in nodes if node.op in LEAVES)}
    names: dict[int, str] = {}
    for k in computed:
        wanted = nodes[k].name or "M"
        names[k] = next(
            name for name in (wanted, *(f"{wanted}_{n}" for n in range(2, len(nodes) + 3))) if name not in taken
        )
        taken.add(names[k])
    builder, place = GraphBuilder(), {}
    for k, node in enumerate(nodes):
        if k in names:
            place[k] = builder.add(Node("parameter", (), node.shape, names[k], None, node.line))
        else:
            place[k] = builder.add(replace(node, args=tuple(place[arg] for arg in node.args)))
    graph = builder.graph(cell.graph.states, [place[output] for output in cell.graph.outputs])
    left = {str(node.name).split(".")[0] for node in graph.nodes if node.op in LEAVES}
    states = cell.arguments[: 1 + len(cell.states)]
    rest = [name for name in (*cell.arguments[len(states) :], *names.values()) if name in left]
    found = replace(cell, graph=graph, arguments=(*states, *rest), function=None)
    kept = {node.name for node in graph.parameters()}  # what another one of them is made of is not
    return found, tuple((name, k) for k, name in names.items() if name in kept)


def folded_weights(cell: Cell, weights: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    """The weights of ``fold(cell)``, from those of the cell with its fixed tensors, as float32."""
    folded, computed = fold(cell)
    values: list[Any] = []
    with np.errstate(all="ignore"):
        for node in cell.graph.nodes if computed else ():
            if node.op == "constant":
                values.append(np.float64(node.value or 0.0))
            elif node.op == "parameter":
                values.append(np.asarray(weights[str(node.name)], dtype=np.float64))
            else:
                args = [values[arg] for arg in node.args]
                known = node.op not in (*LEAVES, *RESHAPING, "product") and all(arg is not None for arg in args)
                values.append(NUMPY[node.op](*args) if known else None)
    made = {name: values[k] for name, k in computed}
    kept = {str(node.name) for node in folded.graph.parameters()}
    return {name: np.asarray(value, np.float32) for name, value in {**weights, **made}.items() if name in kept}
