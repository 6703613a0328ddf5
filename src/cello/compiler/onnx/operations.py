"""Write each operation of the cell language as ONNX nodes, one row an operation."""

from __future__ import annotations

from collections.abc import Callable

from cello.compiler.onnx.writer import Writer
from cello.errors import BackendError

Row = Callable[..., str]
"""Writes an operation with a writer and the names of its arguments; returns the name of its value."""


def _single(op: str) -> Row:
    def write(writer: Writer, *values: str) -> str:
        return writer.write(op, *values)

    return write


def _where(writer: Writer, a: str, b: str, u: str, v: str) -> str:
    return writer.write("Where", writer.write("Greater", a, b), u, v)


def _modulo(writer: Writer, a: str, b: str) -> str:
    whole = writer.write("Floor", writer.write("Div", a, b))
    return writer.write("Sub", a, writer.write("Mul", b, whole))


ROWS: dict[str, Row] = {
    "add": _single("Add"),
    "sub": _single("Sub"),
    "mul": _single("Mul"),
    "div": _single("Div"),
    "neg": _single("Neg"),
    "sigmoid": _single("Sigmoid"),
    "tanh": _single("Tanh"),
    "relu": _single("Relu"),
    "softplus": _single("Softplus"),
    "exp": _single("Exp"),
    "log": _single("Log"),
    "sqrt": _single("Sqrt"),
    "abs": _single("Abs"),
    "sin": _single("Sin"),
    "cos": _single("Cos"),
    "atan": _single("Atan"),
    "erf": _single("Erf"),
    "floor": _single("Floor"),
    "round": _single("Round"),
    "sign": _single("Sign"),
    "stop": lambda _, value: value,
    "mod": _modulo,
    "minimum": _single("Min"),
    "maximum": _single("Max"),
    "where": _where,
    "product": _single("MatMul"),
}
"""How each operation is written on rows of vectors (…, H), numbers and, for ``product``, vectors and a matrix."""


def row(op: str) -> Row:
    """The row of an operation.

    Raises:
        BackendError: ONNX has none for it.
    """
    if op not in ROWS:
        raise BackendError(
            f"operation {op!r} has no row for ONNX in compiler/onnx/operations.py; export another form, or add its row"
        )
    return ROWS[op]
