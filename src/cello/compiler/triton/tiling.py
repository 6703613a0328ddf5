"""Choose the tiling of a kernel for a GPU: clips of a program, units, warps, programs that share units."""

from __future__ import annotations

from functools import lru_cache

from cello.compiler.triton.launch import Tiling, widest
from cello.compiler.triton.names import Names
from cello.compiler.triton.spaces import LEAST, Sizes

MEMORY = 227 * 1024
"""Bytes of shared memory that a program may have on compute capability 9.0."""


TILE = 2048
"""Elements of a tile of matrices, of which a program has ten and more; twice as many where a head alone has them."""


@lru_cache(maxsize=1024)
def tiling(names: Names, sizes: Sizes, precision: str, memory: int = MEMORY) -> Tiling | None:
    """The tiling for D and H where a program may have so many bytes of shared memory, or None if none fits.

    The batch is no part of it, so that no batch compiles anything anew.
    """
    units = max(LEAST, 1 << (sizes.hidden - 1).bit_length())
    head = max((sizes.sizes(shape)[1] for shape in names.heads), default=1)
    least, rows = max(LEAST, head), LEAST
    found, largest = _tiling(names, units, 1, rows, head), max(TILE, min(2 * TILE, least * head))
    while (
        (units >= 256 and found.own > max(32, head))
        or (head > 1 and found.rows * found.own * head > largest)
        or bytes_of(names, sizes, found, precision) > memory
    ):
        if found.own > least:
            found = _tiling(names, units, 2 * found.split, found.rows, head)
        elif head > 1 and found.rows > 1:
            found = _tiling(names, units, found.split, found.rows // 2, head)
        else:
            return None
    return found


def _tiling(names: Names, units: int, split: int, rows: int, head: int) -> Tiling:
    own = units // split
    if head > 1:
        return Tiling(rows, units, min(8, max(4, rows * own * head // 256)), split, 2)
    few = own < 32 or (own < 64 and len(names.inner) <= 4)
    return Tiling(rows, units, 4 if few else 8 if own < 128 else 16, split, 3 if own <= 64 else 2)


def bytes_of(names: Names, sizes: Sizes, tiling: Tiling, precision: str) -> int:
    """Shared memory of a program, at most: its columns of all matrices, and packed tiles that change their layout."""

    def padded(*shape: str) -> int:
        return sizes.padded(shape, tiling.units, tiling.split)

    forward = sum(padded(columns) * padded(rows) for rows, columns in map(names.shape, names.inner))
    matrices = forward // tiling.split * (2 if precision == "bf16" else 4)
    saved = sum(padded(*shape) for shape in names.saved_shapes.values()) // tiling.split
    read = (saved + 2 * tiling.own) * tiling.rows * 4
    vectors = 4 * tiling.rows * widest(names, tiling, sizes) * 4
    return matrices + max(2 * read, vectors)
