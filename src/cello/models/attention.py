"""Pool outputs by attention in one compiled pass over them, forward and backward."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from cello.compiler.c.op import recorded
from cello.models.compiled import library, plain_memory


def weighted_sum(y: Tensor, weight: Tensor, bias: Tensor, lengths: Tensor) -> Tensor:
    """Σₜ αₜ yₜ (B, H) of outputs y (B, T, H), α = softmax(w·y + b) over each clip's frames, by torch's operations."""
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
    if forward_ad._current_level >= 0 or not plain_memory(*values):
        return None
    fits = y.dtype is weight.dtype is bias.dtype and y.shape[2] == weight.shape[1] and lengths.dtype is torch.int64
    code = library("attention", y.dtype) if fits and y.numel() else None
    if code is None:
        return None
    found: Tensor = AttentionFunction.apply(code, y, weight, bias, lengths)  # type: ignore[no-untyped-call]
    return found


class AttentionFunction(torch.autograd.Function):
    """The compiled pass; its second derivatives are those of ``weighted_sum``."""

    @staticmethod
    def forward(ctx: Any, code: ctypes.CDLL, y: Tensor, weight: Tensor, bias: Tensor, lengths: Tensor) -> Tensor:
        shares, pooled = y.new_empty(y.shape[:2]), y.new_empty(y.shape[0], y.shape[2])
        pointers = [value.data_ptr() for value in (y, weight, bias, lengths, shares, pooled)]
        code.attention_forward(*pointers, *y.shape)
        ctx.code = code
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
        ctx.code.attention_backward(*pointers, *y.shape)
        return None, d_y, d_weight, torch.zeros_like(bias), None
