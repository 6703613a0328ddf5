"""Write the nodes of a graph from the records of a trace whose sizes are known."""

from __future__ import annotations

from collections.abc import Sequence

from cello.cells.graph import APPLY, GraphBuilder, Node, Shape
from cello.cells.kinds import Kind, Kinds
from cello.cells.sizes import ONE


def write_nodes(builder: GraphBuilder, kinds: Kinds, shapes: Sequence[Shape]) -> list[int]:
    """Write all records; the position of each record's value.

    What is one number a step is broadcast where it meets a vector, products with heads become sums of rows or columns,
    and a mean a sum and a division.
    """
    writer = _Writer(builder, kinds, shapes)
    for position in range(len(kinds.records)):
        writer.place.append(writer.write(position))
    return writer.place


class _Writer:
    def __init__(self, builder: GraphBuilder, kinds: Kinds, shapes: Sequence[Shape]) -> None:
        self.builder, self.kinds, self.shapes = builder, kinds, shapes
        self.place: list[int] = []

    def write(self, position: int) -> int:
        op, record = self.kinds.ops[position], self.kinds.records[position]
        if op == "mean":
            return self._mean(position)
        if op == "total" and self.kinds[record.args[0]] is Kind.HEADS:
            return self._total(position, record.name)
        if op == "product" and self.kinds[record.args[0]] is Kind.HEADS:
            return self._heads(position)
        if op == "total" and self.shapes[record.args[0]] == (ONE,):
            return self.place[record.args[0]]
        if op == "transpose" and self.kinds[position] is Kind.HEADS:
            return self.place[record.args[0]]  # what multiplies by it reads the transpose from the record
        args = [self.place[arg] for arg in record.args]
        if op == "product" and not self.kinds.moving[position]:
            op = APPLY
        if op not in (APPLY, "product", "total", "largest", "rows", "columns", "matrix", "flatten", "transpose"):
            args = [self._fitted(arg, self.shapes[position], record.line) for arg in record.args]
        return self.builder.add(Node(op, tuple(args), self.shapes[position], record.name, record.value, record.line))

    def _node(self, op: str, args: tuple[int, ...], shape: Shape, line: int, name: str | None = None) -> int:
        return self.builder.add(Node(op, args, shape, name, None, line))

    def _fitted(self, arg: int, shape: Shape, line: int) -> int:
        """An argument of a pointwise operation, of the result's shape or a number."""
        at, own = self.place[arg], self.shapes[arg]
        if own != (ONE,) or shape == (ONE,):
            return at
        vector = self._node("broadcast", (at,), shape[:1], line)
        return vector if len(shape) == 1 else self._node("rows", (vector,), shape, line)

    def _mean(self, position: int) -> int:
        record = self.kinds.records[position]
        (arg,) = record.args
        first, *others = self.shapes[arg]
        if first == ONE:
            return self.place[arg]
        number = self._size(first)
        for each in others:
            number = self._node("mul", (number, self._size(each)), (), record.line)
        return self._node("div", (self._total(position), number), (ONE,), record.line, record.name)

    def _size(self, size: str) -> int:
        if size.isdigit():
            return self.builder.write("constant", value=float(size))
        return self.builder.add(Node("size", (), (), size))

    def _total(self, position: int, name: str | None = None) -> int:
        """The sum of all elements, of a matrix by its rows first."""
        record = self.kinds.records[position]
        (arg,) = record.args
        at, shape = self.place[arg], self.shapes[arg]
        if len(shape) == 2:
            at = self._node("row_sum", (at,), shape[:1], record.line)
        return self._node("total", (at,), (ONE,), record.line, name)

    def _heads(self, position: int) -> int:
        """A product with the matrices of heads, S @ q or S.T @ k: the sums of rows or of columns; or one of two."""
        record = self.kinds.records[position]
        (left, turned), (right, other) = map(self.kinds.upright, record.args)
        if self.kinds[right] is Kind.HEADS:
            op = "multiply_transposed" if other else "transposed_multiply" if turned else "multiply"
            return self._node(
                op, (self.place[left], self.place[right]), self.shapes[position], record.line, record.name
            )
        shape = self.shapes[left]
        along, over = ("rows", "column_sum") if turned else ("columns", "row_sum")
        repeated = self._node(along, (self.place[right],), shape, record.line)
        each = self._node("mul", (self.place[left], repeated), shape, record.line)
        return self._node(over, (each,), self.shapes[position], record.line, record.name)
