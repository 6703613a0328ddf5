"""Define what each operation of the cell language means on numpy arrays, one row an operation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Precision = Literal["float32", "float64"]
"""What a trained model computes in, from frames to scores; frames, weights and scores are float32 in both."""
Real = Literal["float", "double"]
REALS: dict[Precision, Real] = {"float32": "float", "float64": "double"}
"""The type of each in C and in ONNX."""


def _erf(v: Any) -> Any:
    return np.vectorize(math.erf, otypes=[np.result_type(v)])(v)


def matrix_exponential(matrix: NDArray[Any]) -> NDArray[Any]:
    """exp of a square matrix: Taylor's series of a small part of it, squared again and again."""
    size = float(np.abs(matrix).sum(axis=-1).max(initial=0.0))
    if not np.isfinite(size):
        return np.full_like(matrix, np.nan)
    halvings = max(0, int(np.ceil(np.log2(size))) + 4) if size > 0 else 0
    small = matrix / 2.0**halvings
    total = term = np.eye(len(matrix))
    for k in range(1, 13):
        term = term @ small / k
        total = total + term
    for _ in range(halvings):
        total = total @ total
    return total


NUMPY: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "neg": np.negative,
    "sigmoid": lambda v: 0.5 * np.tanh(0.5 * v) + 0.5,
    "tanh": np.tanh,
    "relu": lambda v: np.maximum(v, 0.0),
    "softplus": lambda v: np.logaddexp(v, 0.0, dtype=np.result_type(v)),
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "abs": np.abs,
    "sin": np.sin,
    "cos": np.cos,
    "atan": np.arctan,
    "erf": _erf,
    "floor": np.floor,
    "round": np.rint,
    "sign": np.sign,
    "stop": lambda v: v,
    "mod": lambda a, b: a - b * np.floor(a / b),
    "minimum": np.minimum,
    "maximum": np.maximum,
    "where": lambda a, b, u, v: np.where(a > b, u, v),
    "product": lambda matrix, v: v @ matrix.T,
    "apply": np.matmul,
    "transpose": np.transpose,
    "inverse": np.linalg.inv,
    "expm": matrix_exponential,
}
"""What an operation means on arrays of any floating dtype; vectors may be (H,), or (T, H) for all frames at once."""


def _columns(v: NDArray[Any], sizes: tuple[int, ...]) -> NDArray[Any]:
    units, width = sizes
    count = v.shape[-1] // width
    heads = v.reshape(*v.shape[:-1], count, 1, width)
    spread = np.broadcast_to(heads, (*heads.shape[:-2], units // count, width))
    return np.asarray(spread.reshape(*v.shape[:-1], units, width))


def _column_sum(v: NDArray[Any], sizes: tuple[int, ...]) -> NDArray[Any]:
    units, width = v.shape[-2:]
    count = sizes[0] // width
    heads = v.reshape(*v.shape[:-2], count, units // count, width)
    return np.asarray(heads.sum(axis=-2).reshape(*v.shape[:-2], *sizes))


def multiply(a: Any, b: Any, sizes: tuple[int, ...]) -> Any:
    """A B, of square blocks of A; of arrays or tensors, as the next two."""
    width = a.shape[-1]
    return _whole(_blocks(a, width) @ _blocks(b, width), sizes)


def multiply_transposed(a: Any, b: Any, sizes: tuple[int, ...]) -> Any:
    """A Bᵀ, of blocks of as many rows as the result has columns."""
    return _whole(_blocks(a, sizes[1]) @ _blocks(b, sizes[1]).swapaxes(-1, -2), sizes)


def transposed_multiply(a: Any, b: Any, sizes: tuple[int, ...]) -> Any:
    """Aᵀ B, of square blocks of A."""
    width = a.shape[-1]
    return _whole(_blocks(a, width).swapaxes(-1, -2) @ _blocks(b, width), sizes)


def _blocks(matrix: Any, rows: int) -> Any:
    """A matrix (…, H, M) as blocks of so many rows."""
    return matrix.reshape(*matrix.shape[:-2], matrix.shape[-2] // rows, rows, matrix.shape[-1])


def _whole(blocks: Any, sizes: tuple[int, ...]) -> Any:
    return blocks.reshape(*blocks.shape[:-3], *sizes)


NUMPY_RESHAPING: dict[str, Callable[..., NDArray[Any]]] = {
    "broadcast": lambda v, sizes: np.broadcast_to(v, (*v.shape[:-1], *sizes)),
    "total": lambda v, _: v.sum(axis=-1, keepdims=True),
    "largest": lambda v, _: v.max(axis=-1, keepdims=True),
    "rows": lambda v, sizes: np.broadcast_to(v[..., None], (*v.shape, sizes[1])),
    "columns": _columns,
    "row_sum": lambda v, _: v.sum(axis=-1),
    "column_sum": _column_sum,
    "matrix": lambda v, sizes: v.reshape(*v.shape[:-1], *sizes),
    "flatten": lambda v, sizes: v.reshape(*v.shape[:-2], *sizes),
    "multiply": multiply,
    "multiply_transposed": multiply_transposed,
    "transposed_multiply": transposed_multiply,
}
"""What an operation that changes a shape means on arrays (…, L) or (…, L, M), and last the sizes of the result."""
