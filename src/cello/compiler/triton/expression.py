"""Write the pointwise operations of a step as Triton code, one row an operation."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Protocol

from cello.cells.graph import REDUCTIONS, RESHAPING, Node
from cello.compiler.expression import ATOM, Row, function

ROWS: dict[str, Row] = {
    "add": Row("{} + {}", 1, (1, 1)),
    "sub": Row("{} - {}", 1, (1, 2)),
    "mul": Row("{} * {}", 3, (3, 4)),
    "div": Row("{} / {}", 3, (3, 4)),
    "neg": Row("-{}", 3, (4,)),
    "sigmoid": function("sigmoid({})"),
    "tanh": function("hyperbolic({}, PRECISION)"),
    "relu": function("maximum({}, 0.0)"),
    "softplus": function("softplus({})"),
    "exp": function("tl.exp({})"),
    "log": function("tl.log({})"),
    "sqrt": function("tl.sqrt({})"),
    "abs": function("tl.abs({})"),
    "sin": function("tl.sin({})"),
    "cos": function("tl.cos({})"),
    "atan": function("arctangent({})"),
    "erf": function("tl.erf({})"),
    "floor": function("tl.floor({})"),
    "round": function("round_even({})"),
    "sign": function("sign_of({})"),
    "stop": Row("{}", ATOM, (ATOM,)),
    "mod": function("modulo({}, {})", 2),
    "minimum": function("minimum({}, {})", 2),
    "maximum": function("maximum({}, {})", 2),
    "where": function("tl.where({0} > {1}, {2}, {3})", 4),
}
"""How each pointwise operation is written on tiles (rows, units)."""

RESHAPING_ROWS: dict[str, str] = {
    "broadcast": "tl.broadcast_to({value}, (ROWS, {own}))",
    "total": "total_of({value})",
    "largest": "largest_of({value}, {elements})",
    "rows": "rows_of({value}, {own})",
    "columns": "columns_of({value}, {own})",
    "row_sum": "row_sum({value}, {own})",
    "column_sum": "column_sum({value}, {own})",
}
"""How each operation that changes a shape is written: ``own`` are a program's elements of the result, ``elements``
those of the argument. ``total`` and ``largest`` take all elements of it."""
SIZED_ROWS: dict[str, str] = {
    "rows": RESHAPING_ROWS["rows"],
    "columns": "columns_alike({value}, {own}, OWN, {products})",
    "row_sum": "sized_row_sum({value}, {columns}, {padded})",
    "column_sum": "column_total({value}, {own}, {padded})",
}
"""The same for a matrix (H, N), whose rows have N ``columns``, ``padded`` in its tile, and its vectors (N,)."""
BLOCK_ROWS: dict[str, str] = {
    "rows": "blocks_of_rows({values}, H, {matrix})",
    "columns": "blocks_of_columns(scratch, {values}, H, {matrix})",
    "row_sum": "block_row_sum({values}, H, {own}, {matrix})",
    "column_sum": "block_column_sum({values}, H, {own}, {matrix})",
    "matrix": "blocks_of_vector(scratch, {values}, H, {matrix})",
    "flatten": "vector_of_blocks(scratch, {values}, H, {own}, {matrix})",
    "multiply": "multiply(scratch, HALF, {values}, H, {matrix}, {other}, False)",
    "transposed_multiply": "multiply(scratch, HALF, {values}, H, {matrix}, {other}, True)",
    "multiply_transposed": "multiply_transposed(scratch, HALF, {values}, H, {matrix}, {other})",
}
"""The same in cells with the last five of these, by the sizes of the tile of the ``matrix``, which comes first, and of
the ``other``: the second, or the result, whichever is of another shape."""
WHOLE = frozenset({"total", "largest"})
"""Those that need the elements of all programs that share some clips."""

NO_LINES: Mapping[str, str] = {}


class Reshaped(Protocol):
    """Writes what changes the shape of a value."""

    def __call__(self, k: int, *values: str) -> tuple[list[str], str]:
        """The lines before node k, and how it is written of the values of its arguments."""

    def summed_heads(self, k: int) -> int | None:
        """The vector of which node k is the sum over the units of each head, if it is one."""

    def own(self, k: int) -> str:
        """A program's elements of a value."""


class Body:
    """Statements in order: values that are asked for, and before them what they are computed from.

    ``reads(k)`` is how node k is read where it is not computed here; ``names`` are the variables of nodes. Values that
    are used twice, or that an equation names, get a variable, under their comment if they have one. ``before`` are the
    lines that a variable which is read needs before its first use, such as its load, or before each if it is ``again``.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        names: Mapping[int, str],
        reads: Callable[[int], str | None],
        comments: Mapping[int, str],
        reshaped: Reshaped,
        before: Mapping[str, Sequence[str]],
        again: Container[str] = (),
    ) -> None:
        self.nodes, self.names, self.reads, self.comments = nodes, names, reads, comments
        self.reshaped, self.before, self.again = reshaped, dict(before), again
        self.lines: list[str] = []
        self.known: dict[int, str] = {}

    def assign(self, wanted: Sequence[tuple[str, int]], then: Mapping[str, str] = NO_LINES) -> None:
        """Lines that set variables, each by its node, and the line that follows one."""
        count: dict[int, int] = {}
        for _, k in wanted:
            self._count(k, count)
        for name, k in wanted:
            text = self._text(k, 0, count)
            if text != name:
                self.lines.append(f"{name} = {text}")
            self.lines += filter(None, [then.get(name)])

    def take(self, name: str) -> None:
        """Write the lines that a variable needs, which others may need too, once."""
        if name in self.before:
            lines = self.before[name]
            self.lines += lines
            if name in self.again:
                return
            self.before = {other: needed for other, needed in self.before.items() if needed is not lines}

    def _count(self, k: int, count: dict[int, int]) -> None:
        count[k] = count.get(k, 0) + 1
        if count[k] == 1 and k not in self.known and self.reads(k) is None:
            for arg in self.nodes[k].args:
                self._count(arg, count)

    def _text(self, k: int, needs: int, count: Mapping[int, int]) -> str:
        if k in self.known:
            return self.known[k]
        node, read = self.nodes[k], self.reads(k)
        if read is not None:
            self.take(read)
            return read
        if node.op == "constant":
            value = float(node.value or 0.0)
            return _number(value) if value >= 0 or needs == 0 else f"({_number(value)})"
        text, precedence = self._operation(k, count)
        if count[k] == 1 and node.name is None and node.op not in REDUCTIONS:
            return text if precedence >= needs else f"({text})"
        if k in self.comments:
            self.lines.append(self.comments[k])
        self.known[k] = self.names.get(k, f"_{k}")
        self.lines.append(f"{self.known[k]} = {text}")
        return self.known[k]

    def _operation(self, k: int, count: Mapping[int, int]) -> tuple[str, int]:
        """How a value is computed, and the precedence of that."""
        node = self.nodes[k]
        if (vector := self.reshaped.summed_heads(k)) is not None:
            own = self.reshaped.own(node.args[0])
            return f"head_sum({self._text(vector, 0, count)}, {own})", ATOM
        if node.op in RESHAPING:
            lines, text = self.reshaped(k, *(self._text(arg, 0, count) for arg in node.args))
            self.lines += lines
            return text, ATOM
        row = ROWS[node.op]
        parts = [self._text(a, need, count) for a, need in zip(node.args, row.needs, strict=True)]
        return row.template.format(*parts), row.precedence


def _number(value: float) -> str:
    return repr(value) if value - value == 0 else f'float("{value}")'
