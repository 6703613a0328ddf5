"""Evaluate the graph of a cell for one example and one step, without its Python function."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

from cello.cells.functions import FUNCTIONS, where
from cello.cells.graph import LEAVES, MULTIPLYING, RESHAPING, Graph, Node
from cello.cells.sizes import INPUTS, UNITS, share, size
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
    "apply": operator.matmul,
    "where": lambda a, b, u, v: where(a > b, u, v),
}


def _columns(k: Any, heads: int, units: int) -> Any:
    return k.reshape(heads, -1)[[unit * heads // units for unit in range(units)]]


def _column_sum(matrix: Any, heads: int) -> Any:
    return matrix.reshape(heads, -1, matrix.shape[1]).sum(1).reshape(-1)


def _multiplied(op: str, a: Any, b: Any, heads: int) -> Any:
    """The product of two matrices, head by head."""
    a, b = (matrix.reshape(heads, -1, matrix.shape[1]) for matrix in (a, b))
    turned = [matrix.swapaxes(1, 2) for matrix in (a, b)]
    product = {"multiply": (a, b), "multiply_transposed": (a, turned[1]), "transposed_multiply": (turned[0], b)}[op]
    whole = product[0] @ product[1]
    return whole.reshape(-1, whole.shape[2])


RESHAPED: dict[str, Callable[[Any, int, tuple[int, ...]], Any]] = {
    "total": lambda v, *_: v.sum().reshape(1),
    "largest": lambda v, *_: v.max().reshape(1),
    "rows": lambda v, _, sizes: v.reshape(-1, 1)[:, [0] * sizes[1]],
    "columns": lambda k, heads, sizes: _columns(k, heads, sizes[0]),
    "row_sum": lambda matrix, *_: matrix.sum(1),
    "column_sum": lambda matrix, heads, _: _column_sum(matrix, heads),
    "matrix": lambda v, _, sizes: v.reshape(*sizes),
    "flatten": lambda matrix, *_: matrix.reshape(-1),
}
"""What an operation that changes a shape means on tensors and arrays (L,) and (L, M), given the number of heads.

The last argument is the size of a matrix that it gives.
"""


def interpret(graph: Graph, arguments: Mapping[str, Any], parts: Mapping[str, tuple[int, int]] | None = None) -> Any:
    """Compute the new states, one value or a tuple, as the cell function returns them.

    ``arguments`` are the function's, by name: a parameter group is an object with its members, so is a frame with
    parts, or it is a tensor in which ``parts`` tells where each begins and how many elements it has.

    Raises:
        CellError: the graph has masks, which no argument of the function gives.
    """
    values: list[Any] = []
    for node in graph.nodes:
        args = [values[arg] for arg in node.args]
        if node.op == "mask":
            raise CellError(f"the mask {node.name} is given by a scan alone. Run this cell with cello.scan.")
        if node.op == "constant":
            values.append(node.value)
        elif node.op == "size":
            values.append(_size(str(node.name), graph, values))
        elif node.op in RESHAPING:
            values.append(_reshaped(node, args, graph, values))
        elif node.op in OPERATIONS:
            values.append(OPERATIONS[node.op](*args))
        else:
            values.append(_leaf(str(node.name), arguments, parts or {}))
    new = tuple(values[output] for output in graph.outputs)
    return new if len(new) > 1 else new[0]


def _leaf(name: str, arguments: Mapping[str, Any], parts: Mapping[str, tuple[int, int]]) -> Any:
    group, _, member = name.partition(".")
    value = arguments[group]
    if name in parts and not hasattr(value, member):
        begin, elements = parts[name]
        return value[begin : begin + elements]
    return getattr(value, member) if member else value


def _reshaped(node: Node, args: list[Any], graph: Graph, values: list[Any]) -> Any:
    """The value of a node that changes a shape; of a number, for cells of one unit, the number itself."""
    value = args[0]
    if node.op in MULTIPLYING:
        square = node.shape if node.op == "multiply_transposed" else graph.nodes[node.args[0]].shape
        return _multiplied(node.op, args[0], args[1], share(square[1]))
    if isinstance(value, Real):
        return value
    if node.op == "broadcast":
        return value[[0] * int(_size(node.shape[0], graph, values))]
    shape = node.shape if len(node.shape) == 2 else graph.nodes[node.args[0]].shape
    sizes = tuple(int(_size(text, graph, values)) for text in node.shape) if len(node.shape) == 2 else ()
    return RESHAPED[node.op](value, share(shape[-1]) or 1, sizes)


def _size(name: str, graph: Graph, values: list[Any]) -> float:
    """A size in numbers, as the leaves that are given have it."""
    known: dict[str, int] = {}
    for node, value in zip(graph.nodes, values, strict=False):
        if node.op in LEAVES and hasattr(value, "shape"):
            known |= dict(zip(node.shape, map(int, value.shape), strict=False))
    return float(known.get(name) or size(name, known.get(INPUTS, 1), known.get(UNITS, 1)))
