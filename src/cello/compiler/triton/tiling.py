"""Choose the tiling of a kernel for a GPU: clips of a program, units, warps, programs that share units."""

from __future__ import annotations

from functools import lru_cache

from cello.compiler.triton.launch import Tiling
from cello.compiler.triton.names import Names

LEAST = 16
"""Rows and columns below which tensor cores multiply nothing."""
MEMORY = 227 * 1024
"""Bytes of shared memory that a program may have on compute capability 9.0."""


@lru_cache(maxsize=1024)
def tiling(names: Names, hidden: int, precision: str, memory: int = MEMORY) -> Tiling | None:
    """The tiling for H units where a program may have so many bytes of shared memory, or None if none fits.

    The batch is no part of it, so that no batch size compiles anything anew.
    """
    units = max(LEAST, 1 << (hidden - 1).bit_length())
    split = 1
    while bytes_of(names, units, split, precision) > memory or (units >= 256 and units // split > 32):
        split *= 2
        if units // split < LEAST:
            return None
    own = units // split
    few = own < 32 or (own < 64 and len(names.square) <= 4)
    warps = 4 if few else 8 if own < 128 else 16
    return Tiling(LEAST, units, warps, split, 3 if own <= 64 else 2)


def bytes_of(names: Names, units: int, split: int, precision: str) -> int:
    """Shared memory of a program, at most: its columns of all matrices, and packed tiles that change their layout."""
    own = units // split
    matrices = len(names.square) * units * own * (2 if precision == "bf16" else 4)
    read = (names.width + 2) * LEAST * own * 4
    vectors = 4 * LEAST * units * 4
    return matrices + max(2 * read, vectors)
