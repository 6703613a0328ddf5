"""The state of a warp: registers of 32 lanes, its place in the grid, and the copies it has not waited for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptx.arithmetic import NotEmulatedError
from ptx.memory import Clock, GlobalMemory, KernelError, SharedMemory
from ptx.text import Address, Operand, Register

WARP = 32
LANE = np.arange(WARP, dtype=np.uint32)
WINDOW = 1 << 24
"""Addresses of the shared memory of one block of a cluster: the first are the own, then come those of each rank."""
Lanes = NDArray[Any]
Mask = NDArray[np.bool_]
BANKS: dict[str, type[Any]] = {"p": np.bool_, "rs": np.uint16, "r": np.uint32, "rd": np.uint64}
TYPES: dict[str, Any] = {
    "pred": np.bool_,
    **dict.fromkeys(("b8", "u8"), np.uint8),
    **dict.fromkeys(("b16", "u16"), np.uint16),
    "s16": np.int16,
    **dict.fromkeys(("b32", "u32"), np.uint32),
    "s32": np.int32,
    "f32": np.float32,
    **dict.fromkeys(("b64", "u64"), np.uint64),
    "s64": np.int64,
}


@cache
def type_of(kind: str) -> np.dtype[Any]:
    """That of a type of PTX.

    Raises:
        NotEmulatedError: the emulator does not have it.
    """
    if kind not in TYPES:
        raise NotEmulatedError(f"the type {kind} is not emulated")
    found: np.dtype[Any] = np.dtype(TYPES[kind])
    return found


@dataclass(frozen=True)
class Copy:
    """Bytes on their way from global to shared memory: of each lane ``size``, those beyond ``given`` zero."""

    to: NDArray[np.uint32]
    source: NDArray[np.uint64]
    size: int
    given: NDArray[np.int64]
    seen: NDArray[np.uint8]
    """What was there when it was asked for."""


@dataclass(eq=False)
class Block:
    """What the warps of a block share."""

    memory: GlobalMemory
    shared: SharedMemory
    parameters: Mapping[str, int]
    clock: Clock
    places: Mapping[str, NDArray[np.uint32]]
    """Of the special registers %ctaid and %nctaid, each (1,)."""
    cluster: Sequence[Block] = ()
    """All blocks of its cluster, by their rank there; none if it is in none."""
    running: bool = False
    """Whether it has begun, and not ended."""

    def at(self, address: int) -> tuple[Block, int]:
        """The block whose shared memory an address of the cluster's is in, and the address there.

        Raises:
            KernelError: that block has not begun or has ended.
        """
        rank, place = divmod(address, WINDOW)
        if rank == 0:
            return self, place
        if rank > len(self.cluster):
            raise KernelError(f"address {address:#x} is in the shared memory of no block of this cluster")
        found = self.cluster[rank - 1]
        if not found.running:
            what = f"block {self.clock.block} writes into the shared memory of block {found.clock.block}"
            raise KernelError(f"{what}, which has not begun or has ended")
        return found, place


@dataclass(eq=False)
class Warp:
    """A warp of a block, by its number there."""

    number: int
    block: Block
    registers: dict[str, Lanes]
    views: dict[tuple[str, str], Lanes] = field(default_factory=dict)
    """The registers of a bank as a type of PTX."""
    asked: list[Copy] = field(default_factory=list)
    groups: list[list[Copy]] = field(default_factory=list)
    multiplied: dict[tuple[int, ...], tuple[list[Lanes], list[Lanes]]] = field(default_factory=dict)
    """What products of several warps that were not waited for will give: registers, and what will be in them."""

    @classmethod
    def of(cls, number: int, block: Block, counts: Mapping[str, int]) -> Warp:
        """With registers that hold nothing of sense yet."""
        registers = {bank: np.zeros((counts.get(bank, 0), WARP), kind) for bank, kind in BANKS.items()}
        for each in registers.values():
            each.view(np.uint8)[:] = 1 if each.dtype == np.bool_ else 0xFF
        return cls(number, block, registers)

    def row(self, register: Register, kind: str) -> Lanes:
        """A register of all lanes, as a type of PTX."""
        rows = self.views.get((register.bank, kind))
        if rows is None:
            bank, wanted = self.registers[register.bank], type_of(kind)
            if bank.dtype.itemsize != wanted.itemsize or (bank.dtype == np.bool_) != (kind == "pred"):
                raise NotEmulatedError(f"%{register.bank}{register.number} cannot be read as {kind}")
            rows = self.views[register.bank, kind] = bank.view(wanted)
        found: Lanes = rows[register.number]
        return found

    def memory_row(self, register: Register, kind: str) -> Lanes:
        """A register that memory of a type is loaded to or stored from, which may have more bits."""
        size = self.registers[register.bank].dtype.itemsize
        return self.row(register, kind if type_of(kind).itemsize == size else f"u{8 * size}")

    def value(self, operand: Operand, kind: str) -> Any:
        """An operand: a register of all lanes, or a number."""
        if isinstance(operand, Register):
            return self.row(operand, kind)
        if not isinstance(operand, str):
            raise NotEmulatedError(f"{operand} is no number and no register")
        if operand.startswith("global_smem"):
            return np.uint32(self.block.shared.base + int(operand.partition("+")[2] or 0))
        if operand.startswith("__"):  # memory that is not emulated: a thread's own, tables for sines of large angles
            return type_of(kind).type(0)
        if operand == "%tid.x":
            return LANE + np.uint32(WARP * self.number)
        if operand.startswith("%"):
            if operand not in self.block.places:
                raise NotEmulatedError(f"{operand} is not among the special registers that are emulated")
            return self.block.places[operand]
        return literal(operand, kind)

    def addresses(self, operand: Operand) -> Lanes:
        """The address that each lane gives."""
        if not isinstance(operand, Address):
            raise NotEmulatedError(f"{operand} is no address")
        if isinstance(operand.base, str):
            return np.full(WARP, self.block.shared.base + operand.offset, np.uint32)
        row = self.registers[operand.base.bank][operand.base.number]
        found: Lanes = row + row.dtype.type(operand.offset & (2 ** (8 * row.itemsize) - 1))
        return found


@cache
def literal(text: str, kind: str) -> Any:
    """A number as it is written in PTX, of one of its types."""
    wanted = type_of(kind)
    if text.startswith("0f"):
        return np.array(int(text[2:], 16), np.uint32).view(wanted)[()]
    if kind == "pred":
        return np.bool_(int(text, 0))
    whole = int(text.removesuffix("U"), 0) & (2 ** (8 * wanted.itemsize) - 1)
    return np.array(whole, f"u{wanted.itemsize}").view(wanted)[()]
