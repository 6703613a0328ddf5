"""Evaluate the graph of a cell for one example and one step, without its Python function."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from cello.cells.functions import FUNCTIONS, where
from cello.cells.graph import Graph
from cello.errors import CellError

OPERATIONS: dict[str, Callable[..., Any]] = {
    **FUNCTIONS,
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "neg": operator.neg,
    "abs": abs,
    "transpose": lambda matrix: matrix.T,
    "product": operator.matmul,
    "where": lambda a, b, u, v: where(a > b, u, v),
}


def interpret(graph: Graph, arguments: Mapping[str, Any]) -> Any:
    """Compute the new states, one value or a tuple, as the cell function returns them.

    ``arguments`` are the function's, by name: a parameter group is an object with its members.

    Raises:
        CellError: the graph has masks, which no argument of the function gives.
    """
    values: list[Any] = []
    for node in graph.nodes:
        if node.op == "mask":
            raise CellError(f"the mask {node.name} is given by a scan alone. Run this cell with cello.scan.")
        if node.op == "constant":
            values.append(node.value)
        elif node.op in OPERATIONS:
            values.append(OPERATIONS[node.op](*[values[arg] for arg in node.args]))
        else:
            group, _, member = str(node.name).partition(".")
            values.append(getattr(arguments[group], member) if member else arguments[group])
    new = tuple(values[output] for output in graph.outputs)
    return new if len(new) > 1 else new[0]
