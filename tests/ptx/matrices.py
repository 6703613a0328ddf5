"""Instructions of a whole warp: products of tensor cores, and how their operands move between lanes and memory.

Fragments are those of the PTX ISA (9.7.14, "Matrix Fragments for mma.m16n8k8" and following). Of the operands of a tf32
product the lower 13 bits are left out, as devices do; products are added up in double precision and rounded once,
where a device rounds more often.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptx.arithmetic import NotEmulatedError, from_bf16, pair, pairs

Lanes = NDArray[Any]
WARP = 32
LANE = np.arange(WARP)
GROUP, MEMBER = LANE // 4, LANE % 4
"""Each four lanes hold a row of a fragment together."""


def product(opcode: str, a: Sequence[Lanes], b: Sequence[Lanes], c: Sequence[Lanes]) -> list[NDArray[np.float32]]:
    """The registers of a times b plus c, each register (32,) of 32 bits.

    Raises:
        NotEmulatedError: products of such matrices are not emulated.
    """
    if opcode == "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32":
        left, right = _tf32_operands(a, b)
    elif opcode == "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32":
        left, right = _bf16_operands(a, b)
    else:
        raise NotEmulatedError(f"{opcode} is not among the products that are emulated")
    total = np.empty((16, 8))
    rows, columns = GROUP, 2 * MEMBER
    corners = [(rows, columns), (rows, columns + 1), (rows + 8, columns), (rows + 8, columns + 1)]
    for corner, register in zip(corners, c, strict=True):
        total[corner] = register.view(np.float32)
    total += left.astype(np.float64) @ right
    return [total[corner].astype(np.float32) for corner in corners]


def _tf32_operands(a: Sequence[Lanes], b: Sequence[Lanes]) -> tuple[Lanes, Lanes]:
    left, right = np.empty((16, 8), np.float32), np.empty((8, 8), np.float32)
    cut = [(each & np.uint32(0xFFFFE000)).view(np.float32) for each in (*a, *b)]
    left[GROUP, MEMBER], left[GROUP + 8, MEMBER], left[GROUP, MEMBER + 4], left[GROUP + 8, MEMBER + 4] = cut[:4]
    right[MEMBER, GROUP], right[MEMBER + 4, GROUP] = cut[4:]
    return left, right


def _bf16_operands(a: Sequence[Lanes], b: Sequence[Lanes]) -> tuple[Lanes, Lanes]:
    left, right = np.empty((16, 16), np.float32), np.empty((16, 8), np.float32)
    for register, (row, column) in zip(a, ((0, 0), (8, 0), (0, 8), (8, 8)), strict=True):
        for more, half in enumerate(pairs(register)):
            left[GROUP + row, 2 * MEMBER + column + more] = from_bf16(half)
    for register, row in zip(b, (0, 8), strict=True):
        for more, half in enumerate(pairs(register)):
            right[2 * MEMBER + row + more, GROUP] = from_bf16(half)
    return left, right


def to_registers(rows: NDArray[np.uint8], *, transposed: bool) -> list[NDArray[np.uint32]]:
    """What ldmatrix gives each lane of matrices of 8 x 8 pairs of bytes, whose rows (count * 8, 16) it is given."""
    found = []
    for matrix in rows.reshape(-1, 8, 16).view(np.uint16):
        whole = matrix.T if transposed else matrix
        found.append(pair(whole[GROUP, 2 * MEMBER], whole[GROUP, 2 * MEMBER + 1]))
    return found


def to_rows(registers: Sequence[Lanes], *, transposed: bool) -> NDArray[np.uint8]:
    """The rows of 16 bytes, (count * 8, 16), that stmatrix writes of what lanes hold of matrices."""
    found = np.empty((len(registers), 8, 8), np.uint16)
    for matrix, register in zip(found, registers, strict=True):
        whole = matrix.T if transposed else matrix
        whole[GROUP, 2 * MEMBER], whole[GROUP, 2 * MEMBER + 1] = pairs(register)
    return found.reshape(-1, 8).view(np.uint8)


def shuffled(how: str, value: Lanes, by: Any, control: int) -> Lanes:
    """What each lane reads of another one's register: ``bfly``, ``idx``, ``up`` or ``down``."""
    segment, clamp = (control >> 8) & 31, control & 31
    low, high = LANE & segment, (LANE & segment) | (clamp & ~segment)
    by = np.broadcast_to(np.asarray(by).astype(np.int64) & 31, (WARP,))
    source = {"bfly": LANE ^ by, "idx": low | (by & ~segment), "up": LANE - by, "down": LANE + by}[how]
    inside = source >= high if how == "up" else source <= high
    return value[np.where(inside, source, LANE)]
