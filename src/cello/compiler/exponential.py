"""The matrix exponential, with a derivative that takes a fraction of the time of torch's.

Torch's derivative is the exponential of a matrix of four times the elements, a quarter of them 0 and another a copy.
Here a matrix and its change are taken through scaling, Taylor's series and squaring as a pair, in three products each.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

LARGEST = {torch.float32: 1.4, torch.float64: 0.29}
"""The largest norm for which Taylor's series to the 12th power is exact in a dtype."""
MOST_HALVINGS = 16
"""How often a matrix on another device than the CPU may be halved until its norm is that small."""
INVERSE_FACTORIALS = [1 / math.factorial(n) for n in range(13)]
Pair = tuple[Tensor, Tensor]
"""A matrix that depends on another, and its change with that."""


def matrix_exponential(matrix: Tensor) -> Tensor:
    """``torch.matrix_exp``, computed in double precision and rounded once, as an exported model has it.

    It is differentiated faster than torch's where torch is not recording or transforming.
    """
    if not (matrix.requires_grad and torch.is_grad_enabled() and _is_plain(matrix)):
        return _value(matrix)
    found: Tensor = _Exponential.apply(matrix)  # type: ignore[no-untyped-call]
    return found


def _is_plain(matrix: Tensor) -> bool:
    """Whether its numbers can be looked at, and nothing but gradients is asked for."""
    recorded = torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None
    if recorded or torch._C._are_functorch_transforms_active():
        return False
    usual = type(matrix) in (Tensor, torch.nn.Parameter) and matrix.is_cpu and matrix.dim() == 2
    return usual and matrix.dtype in LARGEST and forward_ad._current_level < 0


class _Exponential(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        ctx.save_for_backward(matrix)
        return _value(matrix)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        (matrix,) = ctx.saved_tensors
        norm = float(torch.linalg.matrix_norm(matrix.detach(), 1)) if matrix.numel() else 0.0
        if torch.is_grad_enabled() or not math.isfinite(norm):
            return _by_blocks(matrix.t(), upstream)
        return _change(matrix.t().contiguous(), upstream.contiguous(), norm)


def _value(matrix: Tensor) -> Tensor:
    """In float32 torch's own is off by 2e-6, which a cell with nothing to bound its state makes 4e-4 in a score."""
    exact = matrix.double()
    return (torch.matrix_exp(exact) if matrix.is_cpu else on_device(exact)).to(matrix.dtype)


def on_device(matrix: Tensor) -> Tensor:
    """The exponential of matrices (…, N, N) in double precision, by the same operations whatever they hold.

    Torch's own reads their norms to decide how far to take the series, for which the CPU would wait at every step of a
    training, and which no CUDA graph can hold. Of a norm above 19,000 it is NaN.
    """
    if not matrix.numel():
        return matrix
    norm = matrix.detach().abs().sum(-2).amax(-1)[..., None, None] / LARGEST[torch.float64]
    halvings = torch.log2(norm).ceil().clamp(0, MOST_HALVINGS)
    first = matrix * torch.exp2(-halvings)
    second = first @ first
    third = second @ first
    one = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)

    def terms(n: int) -> Tensor:
        return INVERSE_FACTORIALS[n] * one + INVERSE_FACTORIALS[n + 1] * first + INVERSE_FACTORIALS[n + 2] * second

    found = terms(9) + INVERSE_FACTORIALS[12] * third
    for n in (6, 3, 0):
        found = third @ found + terms(n)
    for n in range(MOST_HALVINGS):
        found = torch.where(halvings > n, found @ found, found)
    return torch.where(norm <= 2**MOST_HALVINGS, found, torch.nan)


def _by_blocks(matrix: Tensor, change: Tensor) -> Tensor:
    """How the exponential changes with a matrix, itself differentiable: a block of a larger exponential."""
    size = matrix.shape[0]
    rows = torch.cat([matrix, change], 1), torch.cat([torch.zeros_like(matrix), matrix], 1)
    return torch.matrix_exp(torch.cat(rows))[:size, size:]


def _change(matrix: Tensor, change: Tensor, norm: float) -> Tensor:
    """How the exponential changes with a matrix of this norm."""
    halvings = max(0, math.ceil(math.log2(norm / LARGEST[matrix.dtype]))) if norm else 0
    first = matrix * 0.5**halvings, change * 0.5**halvings
    second = _product(first, first)
    third = _product(second, first)
    found = _block(9, first, second)
    found = found[0] + INVERSE_FACTORIALS[12] * third[0], found[1] + INVERSE_FACTORIALS[12] * third[1]
    for n in (6, 3, 0):
        high, low = _product(third, found), _block(n, first, second)
        found = high[0] + low[0], high[1] + low[1]
    for _ in range(halvings):
        found = _product(found, found)
    return found[1]


def _block(n: int, first: Pair, second: Pair) -> Pair:
    """Three terms of the series, without a common power of the matrix."""
    constant, one, two = INVERSE_FACTORIALS[n : n + 3]
    value = (one * first[0]).add_(second[0], alpha=two)
    value.diagonal().add_(constant)
    return value, torch.add(one * first[1], second[1], alpha=two)


def _product(a: Pair, b: Pair) -> Pair:
    """The product rule."""
    return a[0] @ b[0], torch.addmm(a[0] @ b[1], a[1], b[0])
