"""Mark functions for torch.compile without loading it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def constant_result(function: Function) -> Function:
    """What ``torch.compiler.assume_constant_result`` does: a program that is recorded keeps what the call gave.

    That one loads torch's compiler to set this mark, which takes every start of a command and every worker a second.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function
