"""Define what each operation of the cell language means in torch, one row an operation."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cello.cells.arrays import multiply, multiply_transposed, transposed_multiply
from cello.compiler.exponential import matrix_exponential


def _in_range(number: float, like: Tensor) -> float:
    """A number as the tensor's dtype has it: too large a one is infinite, as it is beside every other operator."""
    return math.copysign(math.inf, number) if abs(number) > torch.finfo(like.dtype).max else number


def _minimum(a: Any, b: Any) -> Tensor:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.minimum(a, b)
    return a.clamp(max=_in_range(b, a)) if isinstance(a, Tensor) else b.clamp(max=_in_range(a, b))


def _maximum(a: Any, b: Any) -> Tensor:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.maximum(a, b)
    return a.clamp(min=_in_range(b, a)) if isinstance(a, Tensor) else b.clamp(min=_in_range(a, b))


def _where(a: Any, b: Any, u: Any, v: Any) -> Tensor:
    like = a if isinstance(a, Tensor) else b
    u, v = (value if isinstance(value, Tensor) else _in_range(value, like) for value in (u, v))
    if not isinstance(u, Tensor) and not isinstance(v, Tensor):
        u = like.new_tensor(u)
    return torch.where(a > b, u, v)


def _softplus(v: Tensor) -> Tensor:
    return torch.nn.functional.softplus(v, threshold=40.0)


TORCH: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "neg": torch.neg,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "softplus": _softplus,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "abs": torch.abs,
    "sin": torch.sin,
    "cos": torch.cos,
    "atan": torch.atan,
    "erf": torch.erf,
    "floor": torch.floor,
    "round": torch.round,
    "sign": torch.sign,
    "stop": torch.Tensor.detach,
    "mod": lambda a, b: a - b * torch.floor(a / b),
    "minimum": _minimum,
    "maximum": _maximum,
    "where": _where,
    "product": lambda matrix, v: v @ matrix.t(),
    "apply": torch.mv,
    "transpose": torch.t,
    "inverse": torch.linalg.inv,
    "expm": matrix_exponential,
}
"""Every operation of the language on vectors (…, H), numbers and, for products, a matrix and vectors."""


def _columns(v: Tensor, sizes: tuple[int, ...]) -> Tensor:
    units, width = sizes
    count = v.shape[-1] // width
    heads = v.reshape(*v.shape[:-1], count, 1, width)
    return heads.expand(*v.shape[:-1], count, units // count, width).reshape(*v.shape[:-1], units, width)


def _largest(v: Tensor, _: tuple[int, ...]) -> Tensor:
    """The maximum, whose derivative goes to every element that reaches it."""
    most = v.detach().amax(-1, keepdim=True)
    return most + torch.where(v >= most, v - v.detach(), 0).sum(-1, keepdim=True)


def _column_sum(v: Tensor, sizes: tuple[int, ...]) -> Tensor:
    units, width = v.shape[-2:]
    count = sizes[0] // width
    heads = v.reshape(*v.shape[:-2], count, units // count, width)
    return heads.sum(-2).reshape(*v.shape[:-2], *sizes)


TORCH_RESHAPING: dict[str, Callable[..., Tensor]] = {
    "broadcast": lambda v, sizes: v.expand(*v.shape[:-1], *sizes),
    "total": lambda v, _: v.sum(-1, keepdim=True),
    "largest": _largest,
    "rows": lambda v, sizes: v.unsqueeze(-1).expand(*v.shape, sizes[1]),
    "columns": _columns,
    "row_sum": lambda v, _: v.sum(-1),
    "column_sum": _column_sum,
    "matrix": lambda v, sizes: v.reshape(*v.shape[:-1], *sizes),
    "flatten": lambda v, _: v.flatten(-2),
    "multiply": multiply,
    "multiply_transposed": multiply_transposed,
    "transposed_multiply": transposed_multiply,
}
"""Every operation that changes a shape, on values (…, L) or (…, L, M), and last the sizes of the result."""
