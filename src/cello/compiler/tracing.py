"""Mark functions for torch.compile and torch.onnx without loading them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from cello.errors import ModelError

Given = ParamSpec("Given")
Answer = TypeVar("Answer")
Function = TypeVar("Function", bound=Callable[..., Any])


def constant_result(function: Function) -> Function:
    """What ``torch.compiler.assume_constant_result`` does: a program that is recorded keeps what the call gave.

    That one loads torch's compiler to set this mark, which takes every start of a command and every worker a second.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def cached(maxsize: int) -> Callable[[Callable[Given, Answer]], Callable[Given, Answer]]:
    """What ``functools.lru_cache`` does, of which torch.compile would warn; it records the function itself."""

    def decorate(function: Callable[Given, Answer]) -> Callable[Given, Answer]:
        known: Callable[Given, Answer] = lru_cache(maxsize)(function)  # type: ignore[assignment]

        @wraps(function)
        def call(*given: Given.args, **named: Given.kwargs) -> Answer:
            return function(*given, **named) if torch.compiler.is_compiling() else known(*given, **named)

        return call

    return decorate


def check_traced(cell: str, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The weights; refuse those that ``torch.jit.trace`` would have to keep as constants though they are learned.

    Torch says so itself of some functions; here it may end the process.

    Raises:
        ModelError: weights of a cell that require gradients and are no inputs of what is traced.
    """
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is None:
        return weights
    for name, weight in weights.items():
        if weight.requires_grad:
            try:
                torch._C._get_value_trace(weight)  # type: ignore[attr-defined]
            except RuntimeError as error:
                raise ModelError(
                    f"cell {cell!r}: torch.jit.trace cannot keep {name} as a constant, for it requires gradients; "
                    "trace a cello.Layer, or a function that takes the weights as arguments, or give weights.detach()"
                ) from error
    return weights


def exporting_to_onnx() -> bool:
    """Whether ``torch.onnx.export`` records this call; its modules are only asked where somebody loaded them."""
    recorder = sys.modules.get("torch.onnx")
    return recorder is not None and bool(recorder.is_in_onnx_export())
