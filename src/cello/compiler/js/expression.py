"""Write the values of a step as JavaScript expressions of unit j."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping

from cello.cells.arrays import Precision
from cello.cells.graph import LEAVES, Graph
from cello.compiler.expression import ATOM, Row, function
from cello.compiler.places import marked
from cello.errors import CellError, unknown

ROWS: dict[str, Row] = {
    "add": Row("{} + {}", 1, (1, 1)),
    "sub": Row("{} - {}", 1, (1, 2)),
    "product": function("dot({}, {}, j)", 2),
    "mul": Row("{} * {}", 3, (3, 4)),
    "div": Row("{} / {}", 3, (3, 4)),
    "neg": Row("-{}", 3, (4,)),
    "sigmoid": function("sigmoid({})"),
    "tanh": function("Math.tanh({})"),
    "relu": function("Math.max({}, 0)"),
    "softplus": function("softplus({})"),
    "exp": function("Math.fround(Math.exp({}))"),  # infinite where it is so in float32
    "log": function("Math.log({})"),
    "sqrt": function("Math.sqrt({})"),
    "abs": function("Math.abs({})"),
    "sin": function("Math.sin({})"),
    "cos": function("Math.cos({})"),
    "atan": function("Math.atan({})"),
    "erf": function("errorFunction({})"),
    "floor": function("Math.floor({})"),
    "round": function("roundEven({})"),
    "sign": function("signOf({})"),
    "stop": Row("{}", ATOM, (ATOM,)),
    "mod": function("modulo({}, {})", 2),
    "minimum": function("Math.min({}, {})", 2),
    "maximum": function("Math.max({}, {})", 2),
    "where": function("({} > {} ? {} : {})", 4),
}
"""How each operation is written on numbers; a product's arguments are whole arrays."""
UNROUNDED = {"exp": function("Math.exp({})")}
"""How operations are written whose result is a double."""

JUMPS = frozenset(["floor", "round", "sign", "mod"])
"""What jumps or forgets whole periods: of a time of many of them a float32 and a double leave other phases."""
ARRAYS: dict[Precision, str] = {"float32": "Float32Array", "float64": "Float64Array"}
"""What the values of a step are kept in; weights are floats in both."""
ROUNDED = frozenset(["add", "sub", "mul", "div"])
HANDED_ON = frozenset(["neg", "abs", "relu", "minimum", "maximum", "stop"])
"""What of float32 values gives a float32."""
FLOATS = HANDED_ON | {"where", "exp", "floor", "round", "sign"}
"""What is written so that it is a float32 where its arguments are."""

LARGEST = 3.4028234663852886e38
"""The largest float32: a constant beyond it is infinite beside float32 values."""


def row(op: str) -> Row:
    """How an operation is written.

    Raises:
        CellError: the table has no row for it.
    """
    if op not in ROWS:
        raise CellError(unknown("operation of the JavaScript target", op, ROWS))
    return ROWS[op]


def number(value: float, largest: float = LARGEST) -> str:
    """A constant as a literal."""
    if abs(value) > largest:
        return "Infinity" if value > 0 else "-Infinity"
    short = f"{value:g}"
    return "NaN" if math.isnan(value) else short if float(short) == value else repr(value)


class Writer:
    """Writes nodes as text; what ``known`` holds is read by that text and computed elsewhere.

    What is stored is a marked place. In float64 nothing is rounded to a float32.
    """

    def __init__(self, graph: Graph, names: Mapping[int, str], precision: Precision = "float32") -> None:
        self.nodes, self.names, self.rounds = graph.nodes, names, precision == "float32"
        self.known: dict[int, str] = {}
        self.equal = self._equal()

    def _equal(self) -> frozenset[int]:
        """What is compared by ``==`` or ``!=``, as a > b and b > a, and what that is made of.

        A double never equals the float32 that it was stored as: of these every value is rounded.
        """
        conditions = {node.args[:2] for node in self.nodes if node.op == "where"}
        found = {k for a, b in conditions if (b, a) in conditions for k in (a, b)}
        for k in reversed(range(len(self.nodes))):
            node = self.nodes[k]
            if k in found and node.op in ROUNDED | HANDED_ON | {"where"}:
                found |= {*node.args[2 if node.op == "where" else 0 :]}
        return frozenset(found)

    def place(self, k: int) -> str:
        """Where a value is stored."""
        return marked(self.names[k])

    def element(self, k: int) -> str:
        """How unit j of a stored vector, or a single number that is stored, is read."""
        name, shape = self.place(k), self.nodes[k].shape
        return f"{name}[j]" if shape == ("H",) else f"{name}[0]" if self.nodes[k].op == "parameter" else name

    def text(self, k: int, needs: int = 0) -> str:
        """The value of a node, in parentheses where its operation binds less than ``needs``."""
        if k in self.known:
            return self.known[k]
        text, precedence = self.formula(k)
        return text if precedence >= needs else f"({text})"

    def formula(self, k: int) -> tuple[str, int]:
        """How a node is computed, and how strongly that binds."""
        node, (text, precedence) = self.nodes[k], self._formula(k)
        if node.op == "constant":
            value = float(node.value or 0.0)
            exact = abs(value) > LARGEST or ctypes.c_float(value).value == value
        else:
            exact = node.op in LEAVES or node.op in FLOATS
        return (text, precedence) if exact or not self.rounds or k not in self.equal else (f"Math.fround({text})", ATOM)

    def _formula(self, k: int) -> tuple[str, int]:
        node = self.nodes[k]
        if node.op == "constant":
            value = float(node.value or 0.0)
            return number(value, LARGEST if self.rounds else math.inf), ATOM if value >= 0 else 0
        if node.op in LEAVES and node.op != "mask":
            return self.element(k), ATOM
        own = row(node.op) if self.rounds else UNROUNDED.get(node.op) or row(node.op)
        if node.op == "product":
            return own.template.format(*map(self.place, node.args)), own.precedence
        if node.op in JUMPS and self.rounds:
            return own.template.format(*map(self.rounded, node.args)), own.precedence
        parts = [self.text(arg, needs) for arg, needs in zip(node.args, own.needs, strict=True)]
        return own.template.format(*parts), own.precedence

    def rounded(self, k: int) -> str:
        """The value of a node as float32 operations give it, which is that of doubles rounded after each."""
        node = self.nodes[k]
        if k in self.known or node.op not in ROUNDED:
            return self.text(k)
        return f"Math.fround({row(node.op).template.format(*map(self.rounded, node.args))})"
