"""Provide the functions of the cell language, for traced values, Python numbers and tensors.

A function of a tensor is its own method (``v.sigmoid()``), so nothing here needs to know what a tensor is.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from numbers import Real
from operator import methodcaller
from typing import Any

from cello.cells.annotations import Heads, Size
from cello.cells.conditions import Selector
from cello.cells.operands import position, refusal, symbols_in
from cello.cells.symbol import Symbol, pointwise
from cello.cells.trace import RUNNING
from cello.errors import CellError

_NUMBER: dict[str, Callable[..., float]] = {
    "sigmoid": lambda v: 0.5 + 0.5 * math.tanh(0.5 * v),
    "tanh": math.tanh,
    "relu": lambda v: max(v, 0.0),
    "softplus": lambda v: max(v, 0.0) + math.log1p(math.exp(-abs(v))),
    "exp": math.exp,
    "log": math.log,
    "sqrt": math.sqrt,
    "sin": math.sin,
    "cos": math.cos,
    "atan": math.atan,
    "erf": math.erf,
    "floor": math.floor,
    "round": builtins.round,
    "sign": lambda v: (v > 0) - (v < 0),
    "stop": lambda v: v,
    "mod": lambda a, b: a - b * math.floor(a / b),
    "minimum": min,
    "maximum": max,
}


def _greater(a: Any, b: Any) -> Any:
    return b.clamp(min=a) if isinstance(a, Real) else a.clamp(min=b)


_TENSOR: dict[str, Callable[..., Any]] = {
    **{name: methodcaller(name) for name in ("sigmoid", "tanh", "relu", "exp", "log", "sqrt")},
    **{name: methodcaller(name) for name in ("sin", "cos", "atan", "erf", "floor", "round", "sign")},
    "stop": methodcaller("detach"),
    "mod": lambda a, b: a - b * (a / b).floor(),
    "softplus": lambda v: v.relu() + v.abs().neg().exp().log1p(),
    "minimum": lambda a, b: -_greater(-a, -b),
    "maximum": _greater,
}


def _apply(op: str, *values: Any) -> Any:
    if next(symbols_in(values), None) is not None:
        return pointwise(op, *values)
    table = _NUMBER if all(isinstance(value, Real) for value in values) else _TENSOR
    return table[op](*values)


def sigmoid(v: Any) -> Any:
    """σ(v) = 1 / (1 + exp(−v)).

    >>> sigmoid(0.0)
    0.5
    """
    return _apply("sigmoid", v)


def tanh(v: Any) -> Any:
    """The hyperbolic tangent, (exp(v) − exp(−v)) / (exp(v) + exp(−v))."""
    return _apply("tanh", v)


def relu(v: Any) -> Any:
    """max(v, 0)."""
    return _apply("relu", v)


def softplus(v: Any) -> Any:
    """log(1 + exp(v)), computed without overflow."""
    return _apply("softplus", v)


def exp(v: Any) -> Any:
    """The exponential."""
    return _apply("exp", v)


def log(v: Any) -> Any:
    """The natural logarithm."""
    return _apply("log", v)


def sqrt(v: Any) -> Any:
    """The square root."""
    return _apply("sqrt", v)


def sin(v: Any) -> Any:
    """The sine of an angle in radians."""
    return _apply("sin", v)


def cos(v: Any) -> Any:
    """The cosine of an angle in radians."""
    return _apply("cos", v)


def atan(v: Any) -> Any:
    """The angle in radians whose tangent is v; its derivative is 1 / (1 + v²)."""
    return _apply("atan", v)


def erf(v: Any) -> Any:
    """The error function; Φ(v) = (1 + erf(v / √2)) / 2."""
    return _apply("erf", v)


def floor(v: Any) -> Any:
    """The largest whole number that is at most v; its derivative is zero."""
    return _apply("floor", v)


def round(v: Any) -> Any:
    """The nearest whole number, the even one of two; its derivative is zero."""
    return _apply("round", v)


def sign(v: Any) -> Any:
    """1, 0 or −1; its derivative is zero."""
    return _apply("sign", v)


def mod(a: Any, b: Any) -> Any:
    """a − b ⌊a / b⌋, which has the sign of b.

    >>> mod(7.5, 2.0), mod(-0.5, 2.0)
    (1.5, 1.5)
    """
    return _apply("mod", a, b)


def stop(v: Any) -> Any:
    """v itself, without its derivative: ``soft + stop(hard - soft)`` is hard, with the derivative of soft."""
    return _apply("stop", v)


def minimum(a: Any, b: Any) -> Any:
    """The smaller of two values, unit by unit."""
    return _apply("minimum", a, b)


def maximum(a: Any, b: Any) -> Any:
    """The larger of two values, unit by unit."""
    return _apply("maximum", a, b)


def where(condition: Any, a: Any, b: Any) -> Any:
    """``a`` where the condition holds, ``b`` elsewhere, unit by unit.

    The condition compares two values, by ``>``, ``==`` and their like; ``&``, ``|`` and ``~`` join conditions.

    >>> where(1.0 > 2.0, 3.0, 4.0)
    4.0
    """
    if isinstance(condition, Selector):
        return condition.select(a, b)
    symbol = next(symbols_in((condition, a, b)), None)
    if symbol is not None:
        raise refusal(
            symbol,
            f"where() needs a comparison of values first, not {condition!r}",
            "Write where(a > b, u, v), or Python's own (u if flag else v) for a flag that is fixed",
        )
    if isinstance(condition, int):
        return a if condition & 1 else b  # of a bool c, ~c is -1 or -2
    if not isinstance(a, Real):
        return a.where(condition, b)
    return b.where(~condition, a) if not isinstance(b, Real) else b + (a - b) * condition


def inverse(matrix: Any) -> Any:
    """The inverse of a square matrix that is the same at every step: ``inverse(1.1 * A) @ h``."""
    return pointwise("inverse", matrix) if isinstance(matrix, Symbol) else matrix.inverse()


def expm(matrix: Any) -> Any:
    """The matrix exponential of a square matrix: ``expm(U - U.T) @ h`` rotates; ``exp`` goes element by element."""
    return pointwise("expm", matrix) if isinstance(matrix, Symbol) else matrix.matrix_exp()


def softmax(v: Any) -> Any:
    """exp(v) / Σ exp(v), shares of 1, computed without overflow."""
    if isinstance(v, Real):
        return 1.0
    symbol = next(symbols_in((v,)), None)
    if symbol is not None and isinstance(v, list | tuple):
        raise refusal(
            symbol,
            f"softmax() is given a {type(v).__name__}, but it is over the elements of one vector",
            "For several values write a = exp(u), b = exp(v), and (a * h + b * h1) / (a + b)",
        )
    e = exp(v - stop(v.max()))
    return e / e.sum()


def rows(v: Any) -> Any:
    """For heads, each the matrix whose row of a unit repeats the unit's element of v: ``rows(f) * S``."""
    return _repeated("rows", v)


def columns(k: Any) -> Any:
    """For heads, each the matrix whose column of a unit repeats the unit's element of k."""
    return _repeated("columns", k)


def outer(v: Any, k: Any) -> Any:
    """For heads, each the matrix v kᵀ of their units: ``S = S + outer(v, k)``, which ``S @ q`` reads."""
    return rows(v) * columns(k)


def matrix(v: Any, shape: Any = None) -> Any:
    """The matrix (H, M) whose rows are the elements of v one after the other: ``matrix(W @ h, Size("H", "D")) @ x``.

    v has H · M elements, and so has W as many rows. ``Heads(4)`` are 4 square matrices, ``Heads(1)`` one (H, H).
    """
    symbol = _value("matrix", v, "Write matrix(v, Heads(1)) of a vector")
    parts = {f"{symbol._cello_tracer.code.co_varnames[0]}.{part}": "" for part in symbol._cello_tracer.parts}
    if not isinstance(shape, Size | Heads) or shape.fault(parts) or len(sizes := shape.shape({})) != 2:
        raise refusal(
            symbol,
            f"matrix({v!r}, {shape!r}): the shape is missing"
            if shape is None
            else f"matrix({v!r}, {shape!r}): {shape!r} is no shape of a matrix with a row for each unit",
            f'Write matrix({v!r}, Size("H", "D")) for H rows of D elements, or matrix({v!r}, Heads(4)) for 4 square '
            "matrices",
        )
    tracer = symbol._cello_tracer
    return Symbol(tracer, tracer.write("matrix", (position(symbol),), shape=sizes))


def flatten(S: Any) -> Any:
    """The elements of a matrix that changes, row by row, as a vector: ``U @ flatten(S)``."""
    return pointwise("flatten", _value("flatten", S, "Write flatten(S) of a matrix"))


def _repeated(op: str, v: Any) -> Any:
    return pointwise(op, _value(op, v, f"Write {op}(v) of a vector"))


def _value(op: str, v: Any, remedy: str) -> Symbol:
    """What an operation is called on, if it is a value of the equations."""
    tracer = RUNNING.get()
    if not isinstance(v, Symbol) and tracer is not None:
        raise tracer.error(f"{op}() is called on {v!r}, which is no value of the equations", remedy)
    if not isinstance(v, Symbol):
        raise CellError(f"{op}() is called outside a cell, on {v!r}. Write it in a cell's equations, of a value.")
    return v


_ALL = (
    *(sigmoid, tanh, relu, softplus, exp, log, sqrt, sin, cos, atan, erf, floor, round, sign, stop),
    *(mod, minimum, maximum, where, inverse, expm, softmax, outer, rows, columns, matrix, flatten),
)
FUNCTIONS: dict[str, Callable[..., Any]] = {function.__name__: function for function in _ALL}
"""Every function of the language by its name; ``abs(v)`` and + − * / ** @ are Python's own."""
