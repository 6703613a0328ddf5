"""Products of four warps together, of compute capability 9.0: ``wgmma``, whose right operand is in shared memory.

Each warp has 16 rows of the left operand in its registers, as for ``mma``, or all are in shared memory; and of the
result the fragments of ``mma`` side by side (PTX ISA, 9.7.15). What is in memory lies there in rows of 128, 64 or 32
bytes whose parts of 16 bytes are permuted: a row has elements of a column, or, of a transposed operand, elements of
several columns. Results are there once they have been waited for; until then the registers hold nothing of sense.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ptx import matrices
from ptx.arithmetic import NotEmulatedError
from ptx.memory import KernelError
from ptx.text import Operand, Register
from ptx.warp import WARP, Lanes, Mask, Warp

Run = Callable[[Mask | None], None]
PRODUCT = re.compile(r"wgmma\.mma_async\.sync\.aligned\.m64n(\d+)k(8|16)\.f32\.(tf32|bf16)\.(?:tf32|bf16)")
KINDS = {"tf32": ("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", "8", 4)}
KINDS |= {"bf16": ("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", "16", 2)}
"""The instruction of a single warp with the same operands, its depth, and the bytes of an element."""
ROWS = {1: (128, 7), 2: (64, 3), 3: (32, 1)}
"""Bytes of a row by a descriptor's kind of permutation, and the rows after which it is the same again, less one."""
NOTHING = np.uint32(0x7FC0FFEE)
"""A NaN."""


def bound(opcode: str, operands: tuple[Operand, ...], warp: Warp) -> Run:
    """What one of these instructions does to a warp.

    Raises:
        NotEmulatedError: it is not among those that are emulated.
    """
    if opcode == "wgmma.wait_group.sync.aligned" and operands == ("0",):
        return lambda mask: waited(warp)
    if opcode in ("wgmma.fence.sync.aligned", "wgmma.commit_group.sync.aligned"):
        return lambda mask: None
    if opcode == "fence.proxy.async.shared.cta":
        return lambda mask: warp.block.shared.fence(warp.number)
    found = PRODUCT.fullmatch(opcode)
    if found is None or KINDS[found[3]][1] != found[2]:
        raise NotEmulatedError(f"{opcode} is not emulated")
    return _product(opcode, int(found[1]), *KINDS[found[3]], operands, warp)


def waited(warp: Warp) -> None:
    """The results are there."""
    for rows, values in warp.multiplied.values():
        for row, value in zip(rows, values, strict=True):
            row[:] = value
    warp.multiplied.clear()


def _product(
    opcode: str, columns: int, single: str, depth: str, size: int, operands: tuple[Operand, ...], warp: Warp
) -> Run:
    into, left, descriptor, adds, *scales = operands
    in_memory = not isinstance(left, tuple)
    if not isinstance(into, tuple) or scales[:2] != ["1", "1"] or (in_memory and scales[2:3] == ["1"]):
        raise NotEmulatedError(f"{opcode} of a left operand that is transposed, or less the other, is not emulated")
    transposed = scales[3 if in_memory else 2 :] == ["1"]
    rows = [warp.row(each, "b32") for each in into if isinstance(each, Register)]
    given = [warp.row(each, "b32") for each in left if isinstance(each, Register)] if isinstance(left, tuple) else []
    first = None if isinstance(left, tuple) else warp.value(left, "b64")
    where, added = warp.value(descriptor, "b64"), warp.value(adds, "pred")
    key = tuple(each.number for each in into if isinstance(each, Register))

    def run(mask: Mask | None) -> None:
        if mask is not None:
            raise KernelError(f"{opcode} is run by some of a warp's threads")
        whole = _found(warp, where, (0, columns), (int(depth), size), transposed=transposed)
        a = given
        if first is not None:
            mine = _found(warp, first, (16 * (warp.number % 4), 16), (int(depth), size))
            upper, lower = _fragments(mine[:8]), _fragments(mine[8:])
            a = [upper[0], lower[0], upper[1], lower[1]]
        _, before = warp.multiplied.get(key, (rows, [row.copy() for row in rows]))
        if not np.broadcast_to(added, WARP).any():
            before = [np.zeros(WARP, np.uint32)] * len(rows)
        found: list[Lanes] = []
        for n in range(columns // 8):
            b = _fragments(whole[8 * n : 8 * n + 8])
            some = matrices.product(single, a, b, before[4 * n : 4 * n + 4])
            found += [each.view(np.uint32) for each in some]
        warp.multiplied[key] = rows, found
        for row in rows:
            row[:] = NOTHING

    return run


def _found(
    warp: Warp, where: Lanes, some: tuple[int, int], sizes: tuple[int, int], *, transposed: bool = False
) -> NDArray[np.uint8]:
    """The bytes of some columns, or rows of a left operand, that a descriptor finds: from the first on so many,
    (columns, depth * bytes of an element)."""
    (first, columns), (depth, size) = some, sizes
    descriptor = int(np.broadcast_to(where, WARP)[0])
    begin, further, stride = ((descriptor >> bit & 0x3FFF) << 4 for bit in (0, 16, 32))
    kind = descriptor >> 62
    if kind not in ROWS or descriptor >> 49 & 7:
        raise NotEmulatedError(f"the descriptor {descriptor:#x} is not emulated")
    row, again = ROWS[kind]
    count, width = (depth, columns * size) if transposed else (columns, depth * size)
    number, byte = first + np.arange(count)[:, None], np.arange(0, width, 16)[None, :]
    places = begin + number // 8 * stride + number % 8 * row + byte // row * further + byte % row
    places ^= (places >> 7 & again) << 4
    found = warp.block.shared.load(places.ravel().astype(np.uint32), 16, warp.number, fenced=True)
    if not transposed:
        return found.reshape(columns, width)
    return np.ascontiguousarray(found.reshape(depth, columns, size).transpose(1, 0, 2)).reshape(columns, depth * size)


def _fragments(whole: NDArray[np.uint8]) -> list[Lanes]:
    """The registers of 8 columns or rows (8, 32 bytes) as an operand of a single warp's product."""
    words = np.ascontiguousarray(whole).view(np.uint32)
    return [words[matrices.GROUP, matrices.MEMBER], words[matrices.GROUP, matrices.MEMBER + 4]]
