"""Write each operation of the cell language as ONNX nodes, one row an operation."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np

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


ALL_OF_IT = 6.0
"""From here on the error function is 1 in double precision."""


def _error_function(writer: Writer, value: str) -> str:
    """ONNX Runtime has it for floats alone; of doubles it is ± (1 - t exp(P(t) - z²)) with z = |v|, t = 2 / (2 + z)."""
    if writer.real == "float":
        return writer.write("Erf", value)
    size = writer.write("Min", writer.write("Abs", value), writer.constant(ALL_OF_IT))
    t = writer.write("Div", writer.constant(2.0), writer.write("Add", size, writer.constant(2.0)))
    scaled = writer.write("Sub", writer.write("Mul", t, writer.constant(8 / 3)), writer.constant(5 / 3))  # to [-1, 1]
    *rest, total = (writer.constant(each) for each in _logarithms())
    for each in reversed(rest):
        total = writer.write("Add", writer.write("Mul", total, scaled), each)
    beyond = writer.write("Mul", t, writer.write("Exp", writer.write("Sub", total, writer.write("Mul", size, size))))
    return writer.write("Mul", writer.write("Sign", value), writer.write("Sub", writer.constant(1.0), beyond))


@cache
def _logarithms() -> tuple[float, ...]:
    """The polynomial P of t's place between 1/4 and 1, in [-1, 1], that is ln(erfc(z) / t) + z², within 1e-15."""

    places = np.polynomial.chebyshev.chebpts1(25)
    ratios = ((places + 5 / 3) * 3 / 8).tolist()
    exact = [math.log(math.erfc(2 / t - 2) / t) + (2 / t - 2) ** 2 for t in ratios]
    series = np.polynomial.chebyshev.chebfit(places, exact, len(places) - 1)
    return tuple(np.polynomial.chebyshev.cheb2poly(series).tolist())


def _arctangent(writer: Writer, value: str) -> str:
    if writer.real == "double":
        raise BackendError("ONNX Runtime has no arctangent of doubles; export other forms, or give --precision float32")
    return writer.write("Atan", value)


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
    "atan": _arctangent,
    "erf": _error_function,
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
