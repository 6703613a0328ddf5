"""Specialise a cell for its sizes and weights: what no frame and no state changes becomes a weight of its own.

Forms that hold a trained model need no code then for what changes a shape and is the same at every step, nor for sizes
that the equations use as numbers. A cell whose values are all vectors of H units is left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cello.cells.arrays import NUMPY, NUMPY_RESHAPING
from cello.cells.definition import Cell
from cello.cells.graph import APPLY, LEAVES, RESHAPING, GraphBuilder, Node, dependencies
from cello.cells.sizes import INPUTS, columns_of, elements_of, size
from cello.errors import CellError

Array = NDArray[np.float32]


def specialised(
    cell: Cell, weights: Mapping[str, Array], inputs: int, hidden: int, known: Mapping[str, Array] | None = None
) -> tuple[Cell, Mapping[str, Array]]:
    """The cell for D = ``inputs`` and H = ``hidden``, and its weights, those that were computed here among them.

    ``known`` are parts of the frame (x.mask) that are the same in all frames: they become weights too.
    """
    nodes, known = cell.graph.nodes, known or {}
    marked = _marked(nodes, known)
    if not marked:
        return cell, weights
    values = _values(cell, weights, inputs, hidden, known)
    needed = {arg for k, node in enumerate(nodes) if k not in marked for arg in node.args} & marked
    taken = {*cell.arguments, *(str(node.name) for node in nodes if node.op in LEAVES)}
    builder, place, found = GraphBuilder(), dict[int, int](), dict[str, Array]()
    for k, node in enumerate(nodes):
        if k not in marked:
            place[k] = builder.add(replace(node, args=tuple(place[arg] for arg in node.args)))
        elif k in needed and not node.shape:
            place[k] = builder.write("constant", value=float(values[k]))
        elif k in needed:
            name = _free(node.name or "M", taken)
            found[name] = np.ascontiguousarray(values[k], np.float32)
            place[k] = builder.add(Node("parameter", (), node.shape, name, None, node.line))
    graph = builder.graph(cell.graph.states, [place[output] for output in cell.graph.outputs])
    kept = {str(node.name): node for node in graph.parameters()}
    whole = {name: value for name, value in {**weights, **found}.items() if name in kept}
    return replace(cell, graph=graph, arguments=(*cell.arguments, *found), declared=(), function=None), whole


def frame_only(nodes: Sequence[Node]) -> frozenset[int]:
    """What knows the frame and no state and is worth computing for all frames at once: matrices are not."""
    needs, found = dependencies(tuple(nodes)), set[int]()
    for k, node in enumerate(nodes):
        whole = len(node.shape) < 2 and all(not needs[arg] or arg in found for arg in node.args)
        if needs[k] == {"input"} and whole:
            found.add(k)
    return frozenset(found)


def multiplying(nodes: Sequence[Node]) -> frozenset[str]:
    """The parameters that are matrices of products and nothing else: those that forms may round to 8 bits."""
    products = {node.args[0] for node in nodes if node.op == "product"}
    others = {arg for node in nodes for place, arg in enumerate(node.args) if node.op != "product" or place}
    return frozenset(str(nodes[k].name) for k in products - others if nodes[k].op == "parameter")


def first_part(cell: Cell, inputs: int, hidden: int, part: str) -> Cell:
    """The cell whose frames are this part alone, where it reads no other: sizes that count features are numbers."""

    def counted(text: str) -> str:
        if (columns := columns_of(text)) is not None:
            return elements_of(counted(columns))
        return str(size(text, inputs, hidden)) if INPUTS in text else text

    nodes = []
    for node in cell.graph.nodes:
        name = str(node.name).partition(".")[0] if node.op == "input" else node.name
        name = counted(str(node.name)) if node.op == "size" else name
        nodes.append(replace(node, name=name, shape=tuple(map(counted, node.shape))))
    if any(node.op == "input" and node.name != f"{cell.arguments[0]}.{part}" for node in cell.graph.nodes):
        raise CellError(f"cell {cell.name!r} reads other parts of its frames than {part}; give their values")
    return replace(cell, graph=replace(cell.graph, nodes=tuple(nodes)), parts=(), function=None)


def _changing(nodes: Sequence[Node], known: Mapping[str, Array]) -> list[bool]:
    """Whether each value may change from step to step."""
    found: list[bool] = []
    for node in nodes:
        own = node.op in ("state", "mask") or (node.op == "input" and node.name not in known)
        found.append(own or any(found[arg] for arg in node.args))
    return found


def _marked(nodes: Sequence[Node], known: Mapping[str, Array]) -> set[int]:
    """What is the same at every step and changes a shape, is a matrix or knows a size, and what follows from it."""
    changing, found = _changing(nodes, known), set[int]()
    for k, node in enumerate(nodes):
        own = node.op in ("size", "input", APPLY, *RESHAPING) or (bool(node.args) and len(node.shape) == 2)
        if not changing[k] and (own or any(arg in found for arg in node.args)):
            found.add(k)
    return found


def _values(
    cell: Cell, weights: Mapping[str, Array], inputs: int, hidden: int, known: Mapping[str, Array]
) -> list[Any]:
    """The values that are the same at every step, in double precision; None for others."""
    values: list[Any] = []
    changing = _changing(cell.graph.nodes, known)
    with np.errstate(all="ignore"):
        for k, node in enumerate(cell.graph.nodes):
            args = [values[arg] for arg in node.args]
            if changing[k]:
                values.append(None)
            elif node.op == "input":
                values.append(known[str(node.name)].astype(np.float64))
            elif node.op == "constant":
                values.append(np.float64(node.value or 0.0))
            elif node.op == "parameter":
                value = np.asarray(weights[str(node.name)], np.float64)
                values.append(value if node.shape else value.reshape(()))
            elif node.op == "size":
                values.append(np.float64(size(str(node.name), inputs, hidden)))
            elif node.op in RESHAPING:
                sizes = tuple(size(each, inputs, hidden) for each in node.shape)
                values.append(NUMPY_RESHAPING[node.op](*args, sizes))
            else:
                values.append(NUMPY[node.op](*args))
    return values


def _free(wanted: str, taken: set[str]) -> str:
    """This name, or the first of it with a number that is not taken; it is taken then."""
    number, name = 1, wanted
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    taken.add(name)
    return name
