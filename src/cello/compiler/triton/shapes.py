"""Choose how a kernel is cut up for a GPU: clips of a program, units, warps, matrices held or streamed."""

from __future__ import annotations

from cello.compiler.triton.launch import Shape
from cello.compiler.triton.names import Names

LEAST = 16
"""Rows and columns below which tensor cores multiply nothing."""
MEMORY = 227 * 1024
"""Bytes of shared memory that a program may have on compute capability 9.0; 163 KiB on 8.0."""
LARGEST = 512
"""Units beyond which no shape fits."""


def shape(names: Names, hidden: int, precision: str, memory: int = MEMORY) -> Shape:
    """The shape for H units; the batch is no part of it, so that no batch size compiles anything anew."""
    units = max(LEAST, 1 << (hidden - 1).bit_length())
    size = 2 if precision == "bf16" else 4
    warps = 4 if units < 64 else 8 if units < 256 else 16
    held = len(names.square) * units * units * size
    # beside the matrices a tile of packed values changes its layout
    if held + 4 * LEAST * units * 4 * 2 <= memory:
        return Shape(LEAST, units, warps)
    together = max(len(names.square), 1) * units * size
    depth = 64
    while depth > LEAST and 3 * depth * together > memory - 2**15:
        depth //= 2
    return Shape(LEAST, units, warps, depth, 3 if 3 * depth * together <= memory - 2**15 else 2)
