"""Pool outputs by attention in one compiled pass over them, forward and backward."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from importlib import resources
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from cello.compiler.c.launch import TYPES
from cello.compiler.c.op import recorded
from cello.compiler.c.text import with_runtime
from cello.compiler.inputs import ORDINARY, hidden_memory
from cello.errors import BackendError
from cello.native.build import load


def weighted_sum(y: Tensor, weight: Tensor, bias: Tensor, lengths: Tensor) -> Tensor:
    """(B, H) of outputs (B, T, H): Σₜ αₜ yₜ with α = softmax(w·y + b) over each clip's frames, by torch's operations."""
    inside = torch.arange(y.shape[1], device=y.device) < lengths.unsqueeze(1)
    counted = inside | (lengths == 0).unsqueeze(1)  # a softmax over nothing is no number; y is zero there
    scores = torch.nn.functional.linear(y, weight, bias)
    shares = scores.masked_fill(~counted.unsqueeze(2), -torch.inf).softmax(dim=1)
    return (shares * y).sum(1)


def compiled_sum(y: Tensor, weight: Tensor, bias: Tensor, lengths: Tensor) -> Tensor | None:
    """``weighted_sum`` by compiled code; None where that cannot be had for these tensors."""
    values = (y, weight, bias, lengths)
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active() or recorded(values, None):
        return None
    ordinary = ORDINARY.issuperset(map(type, values)) and forward_ad._current_level < 0
    if not ordinary or not y.is_cpu or y.dtype is not weight.dtype or lengths.dtype is not torch.int64:
        return None
    if not y.numel() or y.shape[2] != weight.shape[1]:
        return None
    if any(not value.is_contiguous() or hidden_memory(value) for value in values):
        return None
    library = _library(y.dtype)
    if library is None:
        return None
    found: Tensor = AttentionFunction.apply(library, y, weight, bias, lengths)  # type: ignore[no-untyped-call]
    return found


@lru_cache(maxsize=4)
def _library(dtype: torch.dtype) -> ctypes.CDLL | None:
    """The compiled pass; None where there is no compiler, which the cell's back end tells, or none for the dtype."""
    if dtype not in TYPES:
        return None
    text = resources.files("cello.models").joinpath("attention.c").read_text(encoding="utf-8")
    try:
        library = load(with_runtime(TYPES[dtype], text), f"attention-{TYPES[dtype]}")
    except BackendError:
        return None
    pointer, size = ctypes.c_void_p, ctypes.c_long
    library.attention_forward.argtypes = [pointer] * 6 + [size] * 3
    library.attention_backward.argtypes = [pointer] * 8 + [size] * 3
    library.attention_forward.restype = library.attention_backward.restype = None
    return library


class AttentionFunction(torch.autograd.Function):
    """The compiled pass; its second derivatives are those of ``weighted_sum``."""

    @staticmethod
    def forward(ctx: Any, library: ctypes.CDLL, y: Tensor, weight: Tensor, bias: Tensor, lengths: Tensor) -> Tensor:
        shares, pooled = y.new_empty(y.shape[:2]), y.new_empty(y.shape[0], y.shape[2])
        pointers = [value.data_ptr() for value in (y, weight, bias, lengths, shares, pooled)]
        library.attention_forward(*pointers, *y.shape)
        ctx.library = library
        ctx.save_for_backward(y, weight, bias, lengths, shares)
        return pooled

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        y, weight, bias, lengths, shares = ctx.saved_tensors
        if torch.is_grad_enabled() or type(upstream) is not Tensor or torch._C._are_functorch_transforms_active():
            with torch.enable_grad():
                again = weighted_sum(y, weight, bias, lengths)
            needed = ctx.needs_input_grad[1:4]
            values = [value for value, one in zip((y, weight, bias), needed, strict=True) if one]
            found = iter(torch.autograd.grad(again, values, upstream, create_graph=torch.is_grad_enabled()))
            return None, *(next(found) if one else None for one in needed), None
        upstream = upstream.contiguous()
        d_y, d_weight = torch.empty_like(y), torch.empty_like(weight)
        scratch = y.new_empty(y.shape[1] + y.shape[2])
        pointers = [value.data_ptr() for value in (y, weight, lengths, shares, upstream, d_y, d_weight, scratch)]
        ctx.library.attention_backward(*pointers, *y.shape)
        return None, d_y, d_weight, torch.zeros_like(bias), None
