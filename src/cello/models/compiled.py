"""Compile the C of this folder, which stands on the vectors of the cells' kernels."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from importlib import resources

import torch
from torch import Tensor

from cello.compiler.c.launch import TYPES
from cello.compiler.c.text import with_headers
from cello.compiler.inputs import ORDINARY, hidden_memory
from cello.errors import BackendError
from cello.native.build import load

ARGUMENTS = {"p": ctypes.c_void_p, "n": ctypes.c_long, "d": ctypes.c_double}
FUNCTIONS = {
    "attention": {"attention_forward": "ppppppnnn", "attention_backward": "ppppppppnnn"},
    "loss": {"cross_entropy": "pppddppnn"},
}
"""The functions of each text, and the kinds of their arguments: a pointer, a number of elements, a double."""


@lru_cache(maxsize=8)
def library(name: str, dtype: torch.dtype) -> ctypes.CDLL | None:
    """A text for one dtype; None where there is no compiler, which the cell's back end tells, or none for the dtype."""
    if dtype not in TYPES:
        return None
    text = resources.files("cello.models").joinpath(f"{name}.c").read_text(encoding="utf-8")
    try:
        found = load(with_headers(TYPES[dtype], text), f"{name}-{TYPES[dtype]}")
    except BackendError:
        return None
    for function, kinds in FUNCTIONS[name].items():
        getattr(found, function).argtypes = [ARGUMENTS[kind] for kind in kinds]
    return found


def plain_memory(*values: Tensor) -> bool:
    """Whether the tensors are ordinary ones on the CPU, whose elements lie in order."""
    return all(
        type(value) in ORDINARY and value.is_cpu and value.is_contiguous() and not hidden_memory(value)
        for value in values
    )
