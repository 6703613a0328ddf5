"""Write the pointwise part of a step in C99: statements on vecs, one row an operation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from cello.cells.arrays import Real
from cello.cells.graph import Node
from cello.compiler.expression import ATOM, DEEPEST, Row, function
from cello.errors import CellError

ROWS: dict[str, Row] = {
    "add": Row("{} + {}", 1, (1, 1)),
    "sub": Row("{} - {}", 1, (1, 2)),
    "mul": Row("{} * {}", 3, (3, 4)),
    "div": Row("{} / {}", 3, (3, 4)),
    "neg": Row("-{}", 3, (4,)),
    "sigmoid": function("sigmoid({})"),
    "tanh": function("hyperbolic({})"),
    "relu": function("relu({})"),
    "softplus": function("softplus({})"),
    "exp": function("exponential({})"),
    "log": function("logarithm({})"),
    "sqrt": function("root({})"),
    "abs": function("absolute({})"),
    "sin": function("sine({})"),
    "cos": function("cosine({})"),
    "atan": function("arctangent({})"),
    "erf": function("error_function({})"),
    "floor": function("round_down({})"),
    "round": function("round_even({})"),
    "sign": function("sign_of({})"),
    "stop": Row("{}", ATOM, (ATOM,)),
    "mod": function("modulo({}, {})", 2),
    "minimum": function("minimum({}, {})", 2),
    "maximum": function("maximum({}, {})", 2),
    "where": function("where({}, {}, {}, {})", 4),
}
"""How each pointwise operation is written on vecs."""


def row_of(node: Node) -> Row:
    """The row of a pointwise operation.

    Raises:
        CellError: there is none.
    """
    if node.op not in ROWS:
        raise CellError(f"C99 has no row for the operation {node.op!r} of these equations; add one to {__name__}")
    return ROWS[node.op]


class Body:
    """The inside of a loop over units: stores, and before them what they are computed from.

    ``loads(k)`` is how node k is read, None where it is computed here. A value that the equations name, or that is
    used twice, is a variable, under its comment if it has one; any other is written where it is used.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        names: Mapping[int, str],
        loads: Callable[[int], str | None],
        comments: Mapping[int, str],
        real: Real = "float",
    ) -> None:
        self.nodes, self.names, self.loads, self.comments, self.real = nodes, names, loads, comments, real
        self.lines: list[str] = []
        self.known: dict[int, str] = {}
        self.count: dict[int, int] = {}
        self.depth: dict[int, int] = {}

    def write(self, stores: Iterable[tuple[str, int]]) -> list[str]:
        """The lines for stores, each a place in memory and the node whose value goes there."""
        stores = list(stores)
        for _, k in stores:
            self._visit(k)
        for place, k in stores:
            self.lines.append(f"store({place}, {self.vec(k)});")
        return self.lines

    def vec(self, k: int) -> str:
        """The value of a node where it stands alone, a vec even if it is a number."""
        text = self._text(k, 0)
        return f"broadcast({text})" if self.nodes[k].op == "constant" else text

    def _visit(self, k: int) -> None:
        self.count[k] = self.count.get(k, 0) + 1
        if self.count[k] == 1 and self.loads(k) is None:
            for arg in self.nodes[k].args:
                self._visit(arg)

    def _text(self, k: int, needs: int) -> str:
        if k in self.known:
            return self.known[k]
        node, loaded = self.nodes[k], self.loads(k)
        if node.op == "constant":
            return number(float(node.value or 0.0), self.real)
        if loaded is None:
            row = row_of(node)
            # two constants beside each other are no vec, nor is one that a function takes
            alone = row.precedence == ATOM or all(self.nodes[arg].op == "constant" for arg in node.args)
            parts = [
                self.vec(arg) if alone and self.nodes[arg].op == "constant" else self._text(arg, need)
                for arg, need in zip(node.args, row.needs, strict=True)
            ]
            text, precedence = row.template.format(*parts), row.precedence
        else:
            text, precedence = loaded, ATOM
        self.depth[k] = 1 + max((self.depth.get(a, 0) for a in node.args), default=0) if loaded is None else 0
        if self.count.get(k, 0) <= 1 and (node.name is None or loaded is not None) and self.depth[k] < DEEPEST:
            return text if precedence >= needs else f"({text})"
        self.depth[k] = 0
        self.known[k] = self.names[k]
        if loaded is None and k in self.comments:
            self.lines.append(self.comments[k])
        self.lines.append(f"const vec {self.known[k]} = {text};")
        return self.known[k]


def number(value: float, real: Real = "float") -> str:
    """A number as a float or a double of C, infinite where it is too large for one.

    >>> number(1.0), number(-0.1), number(1e99)
    ('1.0f', '(-0.1f)', '(float)INFINITY')
    >>> number(-0.1, "double")
    '(-0.1)'
    """
    if real == "double" and abs(value) != math.inf:
        return f"{value!r}" if value >= 0 else f"({value!r})"
    if abs(value) > 3.4028235e38:
        return "(float)INFINITY" if value > 0 else "(-(float)INFINITY)"
    text = f"{value!r}f" if value == 0 or abs(value) > 1.2e-38 else "0.0f"
    return text if value >= 0 else f"({text})"
