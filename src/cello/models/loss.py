"""Compute the loss of a classifier's scores together with its derivative."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from cello.models.compiled import library, plain_memory


class Loss(NamedTuple):
    """The mean loss of some clips, its derivative by their scores (B, C), and how many have the right label first."""

    value: float
    slope: Tensor
    right: int


class Mixed(NamedTuple):
    """Clips of which each was mixed with another: their own share, and the others' targets (B,)."""

    share: float
    targets: Tensor


def cross_entropy(
    scores: Tensor, targets: Tensor, smoothing: float = 0.0, mixed: Mixed | None = None, *, compiled: bool = True
) -> Loss:
    """Cross entropy (nats) of scores (B, C) against targets (B,), whose probability ``smoothing`` spreads in part.

    Where clips are mixed, it is the sum of the losses against both targets, by their shares. ``compiled`` prefers one
    compiled pass to torch's operations.

    >>> cross_entropy(torch.tensor([[2.0, 2.0]]), torch.tensor([0])).slope.tolist()
    [[-0.5, 0.5]]
    """
    scores = scores.detach()
    share, others = mixed or Mixed(1.0, targets)
    usable = compiled and scores.numel() and targets.dtype is others.dtype is torch.int64
    code = library("loss", scores.dtype) if usable and plain_memory(scores, targets, others) else None
    if code is not None:
        slope, found = torch.empty_like(scores), (ctypes.c_double * 2)()
        pointers = scores.data_ptr(), targets.data_ptr(), others.data_ptr()
        if not code.cross_entropy(*pointers, share, smoothing, slope.data_ptr(), found, *scores.shape):
            return Loss(found[0], slope, int(found[1]))
    return _by_torch(scores, targets, smoothing, share, others)


def backward(scores: Tensor, slope: Tensor) -> None:
    """Add to the gradients of all leaves what follows from the loss's derivative by the scores, both (B, C).

    It is ``scores.backward(slope)`` without what torch imports for that in every process: SymPy, half a second.

    >>> weight = torch.ones(2, requires_grad=True)
    >>> backward(3 * weight, torch.tensor([1.0, 2.0]))
    >>> weight.grad.tolist()
    [3.0, 6.0]
    """
    _ByScores.apply(scores, slope).backward()  # type: ignore[no-untyped-call]


class _ByScores(torch.autograd.Function):
    """A number whose derivative by the scores is given."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return scores.new_zeros(())

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return slope, None


def _by_torch(scores: Tensor, targets: Tensor, smoothing: float, share: float, others: Tensor) -> Loss:
    with torch.enable_grad():
        leaf = scores.clone().requires_grad_()
        loss = functional.cross_entropy(leaf, targets, label_smoothing=smoothing)
        if share < 1:
            second = functional.cross_entropy(leaf, others, label_smoothing=smoothing)
            loss = share * loss + (1 - share) * second
        (slope,) = torch.autograd.grad(loss, leaf)
    return Loss(float(loss.detach()), slope, int((scores.argmax(1) == targets).sum()))
