"""Give values of several sizes their shapes in an ONNX graph, and write what leads from one shape to another.

Matrices of n heads of d = H/n units are (…, n, d, d), those of N elements a unit (…, 1, H, N). What repeats along an
axis (``broadcast``, ``rows``, ``columns``) is 1 there, and the runtime's operators broadcast it; it is expanded only
where it is needed whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from cello.cells.graph import MULTIPLYING, RESHAPING, Node, Shape
from cello.cells.sizes import share, size
from cello.compiler.onnx.writer import Array, Writer

ROWS, COLUMNS, UNITS = "rows", "columns", "units"
"""The axes along which a value may hold more than one number."""

LARGEST_DENSE = 128
"""Units up to which a block-diagonal matrix is multiplied as a whole, zeros included."""


def blocks_of(shape: Shape, sizes: tuple[int, ...]) -> tuple[int, int, int]:
    """The shape in a graph of a matrix of heads, or of one (H, N): how many blocks, their rows and their columns."""
    units, width = sizes
    count = units // width if share(shape[1]) else 1
    return count, units // count, width


class Shapes:
    """The shapes of a graph's nodes for D = ``inputs`` and H = ``hidden``."""

    def __init__(self, nodes: Sequence[Node], inputs: int, hidden: int) -> None:
        self.nodes = nodes
        self.sizes = [tuple(size(each, inputs, hidden) for each in node.shape) for node in nodes]
        self._axes: list[frozenset[str]] = []
        for k in range(len(nodes)):
            self._axes.append(self._along(k))

    def _along(self, k: int) -> frozenset[str]:
        node = self.nodes[k]
        if node.op == "rows":
            return frozenset([ROWS])
        if node.op == "columns":
            return frozenset([COLUMNS])
        if node.op == "broadcast" and self.sizes[k] != (1,):
            return frozenset()
        if not node.args or node.op in (*RESHAPING, "product"):
            return self._every(k)
        return frozenset[str]().union(*(self._axes[arg] for arg in node.args))

    def _every(self, k: int) -> frozenset[str]:
        return frozenset([(), (UNITS,), (ROWS, COLUMNS)][len(self.sizes[k])])

    def repeats(self, k: int) -> bool:
        """Whether a value is 1 along an axis on which it has more elements."""
        return self._axes[k] != self._every(k)

    def elements(self, k: int) -> int:
        """The elements of a vector."""
        return self.sizes[k][0]

    def heads(self, k: int) -> tuple[int, ...]:
        """A value's shape in the graph, before which stand time and batch."""
        if len(self.sizes[k]) < 2:
            return self.sizes[k]
        return blocks_of(self.nodes[k].shape, self.sizes[k])

    def constant(self, k: int, value: Array) -> Array:
        """A value that is the same at every step, in its shape in the graph."""
        return value.reshape(self.heads(k)) if len(self.sizes[k]) == 2 else value

    def expand(self, writer: Writer, k: int, value: str) -> str:
        """The whole of a value that repeats."""
        return writer.write("Expand", value, writer.integers(1, *self.heads(k)))

    def write(self, writer: Writer, k: int, value: str, other: str = "") -> str:
        """What an operation that changes a shape makes of the whole of its arguments, (B, …)."""
        if self.nodes[k].op in MULTIPLYING:
            return self._matrices(writer, k, (value, other))
        return RESHAPED[self.nodes[k].op](writer, value, self.heads(k))

    def multiplied(self, writer: Writer, k: int, matrix: str, vector: str) -> str:
        """The sum over rows or columns of a matrix times a vector that repeats: a product for each head."""
        units, op = self.elements(k), self.nodes[k].op
        heads, high, width = self.heads(self.nodes[k].args[0])
        column = op == "row_sum"
        given = writer.reshape(vector, 0, heads, *((width, 1) if column else (1, high)))
        product = writer.write("MatMul", *((matrix, given) if column else (given, matrix)))
        return writer.reshape(product, 0, units)

    def _matrices(self, writer: Writer, k: int, values: tuple[str, str]) -> str:
        """A product of matrices, of as many blocks as its square one has."""
        node = self.nodes[k]
        blocks, rows, _ = self.heads(k if node.op == "multiply_transposed" else node.args[0])
        given = []
        for value, arg, op in zip(values, node.args, ("transposed_multiply", "multiply_transposed"), strict=True):
            there = self.heads(arg)[0] == blocks and self.nodes[arg].op != "parameter"  # which has no batch
            whole = value if there else writer.reshape(value, -1, blocks, rows, self.sizes[arg][1])
            given.append(writer.write("Transpose", whole, perm=[0, 1, 3, 2]) if node.op == op else whole)
        return writer.reshape(writer.write("MatMul", *given), 0, *self.heads(k))

    def block_diagonal(self, writers: tuple[Writer, Writer], k: int, blocks: Array, vector: str) -> str:
        """The same where the matrix is learned: few operators, for each of many small products costs microseconds.

        ``writers`` are the graph in which weights stand, and the one of the step.
        """
        around, writer = writers
        units, width = blocks.shape
        heads = blocks.reshape(self.heads(self.nodes[k].args[0]))
        turned = heads.transpose(0, 2, 1) if self.nodes[k].op == "row_sum" else heads
        if len(heads) == 1:
            return writer.write("MatMul", vector, around.sparse(np.ascontiguousarray(turned[0])))
        if units <= LARGEST_DENSE:
            whole = np.zeros((units, units), np.float32)
            for first, block in zip(range(0, units, width), turned, strict=True):
                whole[first : first + width, first : first + width] = block
            return writer.write("MatMul", vector, around.sparse(whole))
        apart = writer.write("Transpose", writer.reshape(vector, 0, len(heads), width), perm=[1, 0, 2])
        product = writer.write("MatMul", apart, writer.constant(turned))
        return writer.reshape(writer.write("Transpose", product, perm=[1, 0, 2]), 0, units)


def _rows(writer: Writer, value: str, shape: tuple[int, ...]) -> str:
    return writer.reshape(value, 0, *shape[:2], 1)


def _columns(writer: Writer, value: str, shape: tuple[int, ...]) -> str:
    return writer.reshape(value, 0, shape[0], 1, shape[2])


def _row_sum(writer: Writer, value: str, shape: tuple[int, ...]) -> str:
    return writer.reshape(writer.write("ReduceSum", value, writer.integers(-1), keepdims=0), 0, *shape)


def _column_sum(writer: Writer, value: str, shape: tuple[int, ...]) -> str:
    return writer.reshape(writer.write("ReduceSum", value, writer.integers(-2), keepdims=0), 0, *shape)


RESHAPED: dict[str, Callable[[Writer, str, tuple[int, ...]], str]] = {
    "broadcast": lambda _, value, __: value,
    "total": lambda writer, value, _: writer.write("ReduceSum", value, writer.integers(-1), keepdims=1),
    "largest": lambda writer, value, _: writer.write("ReduceMax", value, writer.integers(-1), keepdims=1),
    "rows": _rows,
    "columns": _columns,
    "row_sum": _row_sum,
    "column_sum": _column_sum,
    "matrix": lambda writer, value, shape: writer.reshape(value, 0, *shape),
    "flatten": lambda writer, value, shape: writer.reshape(value, 0, *shape),
}
"""How each operation that changes a shape is written; those of matrices only within a step, (B, …)."""
