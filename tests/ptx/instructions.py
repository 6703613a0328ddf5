"""Bind instructions to a warp: each becomes a function of the lanes it runs for, or of None for all 32."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptx import groups, matrices
from ptx.arithmetic import NotEmulatedError, pair, pairs, row
from ptx.memory import KernelError
from ptx.text import Instruction, Operand, Register
from ptx.warp import WARP, WINDOW, Copy, Lanes, Mask, Warp, type_of

Run = Callable[[Mask | None], None]
Family = Callable[[str, tuple[Operand, ...], Warp], Run]
ALL = np.arange(WARP)
MODIFIERS = {
    *("global", "shared", "cluster", "cta", "gpu", "v2", "v4", "acquire", "relaxed", "volatile"),
    *("nc", "cg", "ca", "cs", "wb"),
}
"""What may stand in loads and stores before the type."""
STRONG = "ld.volatile.", "st.relaxed."
"""Those that others may make at the same time: each sees a whole element as it was before or after."""


def bound(instruction: Instruction, warp: Warp) -> Run:
    """What an instruction does to a warp.

    Raises:
        NotEmulatedError: it is not among those that are emulated.
    """
    run = _of_opcode(instruction, warp)
    if instruction.guard is None:
        return run
    register, negated = instruction.guard
    predicate = warp.row(register, "pred")

    def guarded(mask: Mask | None) -> None:
        lanes = ~predicate if negated else predicate
        if mask is not None:
            lanes = lanes & mask
        if lanes.all():
            run(None)
        elif lanes.any():
            run(lanes.copy())

    return guarded


def _of_opcode(instruction: Instruction, warp: Warp) -> Run:
    opcode, family = _family(instruction.opcode)
    return family(opcode, instruction.operands, warp)


@cache
def _family(name: str) -> tuple[str, Family]:
    """An opcode, which every warp binds for each of its instructions, and how it is bound."""
    opcode = name.replace("::", ".")
    parts = opcode.split(".")
    for begin, family in FAMILIES.items():
        if parts[: begin.count(".") + 1] == begin.split("."):
            return opcode, family
    return opcode, _compared_pairs if parts[0] == "setp" and parts[-1] == "bf16x2" else _arithmetic


def _nothing(opcode: str, operands: tuple[Operand, ...], warp: Warp) -> Run:
    return lambda mask: None


def _arithmetic(opcode: str, operands: tuple[Operand, ...], warp: Warp) -> Run:
    found = row(opcode)
    target, *sources = operands
    if len(sources) != len(found.operands) or not isinstance(target, Register):
        raise NotEmulatedError(f"{opcode} of {len(sources)} operands is not emulated")
    out = warp.row(target, found.result)
    given = [warp.value(each, kind) for each, kind in zip(sources, found.operands, strict=True)]
    compute = found.compute

    def run(mask: Mask | None) -> None:
        if mask is None:
            compute(*given, out)
            return
        before = out.copy()
        compute(*given, out)
        np.copyto(out, before, where=~mask)

    return run


def _put(rows: list[Lanes], values: list[Lanes], mask: Mask | None) -> None:
    for target, value in zip(rows, values, strict=True):
        if mask is None:
            target[:] = value
        else:
            np.copyto(target, value, where=mask)


def _moved(opcode: str, operands: tuple[Operand, ...], warp: Warp) -> Run:
    """A register from another or a number; or from two halves, or taken apart into them."""
    if not any(isinstance(each, tuple) for each in operands):
        return _arithmetic(opcode, operands, warp)
    target, source = operands
    if opcode.endswith("64"):
        return _moved_wide(target, source, warp)
    if isinstance(target, tuple):
        whole = warp.value(source, "b32")
        halves = [(part, warp.row(_register(each), "b16")) for part, each in enumerate(target) if each != "_"]
        rows = [each for _, each in halves]
        return lambda mask: _put(rows, [pairs(whole)[part] for part, _ in halves], mask)
    if not isinstance(source, tuple):
        raise NotEmulatedError(f"mov of {operands} is not emulated")
    out, given = warp.row(_register(target), "b32"), [warp.value(each, "b16") for each in source]
    return lambda mask: _put([out], [pair(*given)], mask)


def _moved_wide(target: Operand, source: Operand, warp: Warp) -> Run:
    shift = np.uint64(32)
    if isinstance(source, tuple):
        out, (low, high) = warp.row(_register(target), "u64"), [warp.value(each, "u32") for each in source]
        return lambda mask: _put([out], [low.astype(np.uint64) | (high.astype(np.uint64) << shift)], mask)
    whole = warp.value(source, "u64")
    halves = [(part, warp.row(_register(each), "u32")) for part, each in enumerate(_vector(target)) if each != "_"]
    rows = [each for _, each in halves]
    return lambda mask: _put(rows, [(whole >> (shift * np.uint64(part))).astype(np.uint32) for part, _ in halves], mask)


def _compared_pairs(opcode: str, operands: tuple[Operand, ...], warp: Warp) -> Run:
    """Two predicates from two pairs of bfloat16."""
    targets, *sources = operands
    how = opcode.split(".")[1]
    out = [warp.row(_register(each), "pred") for each in _vector(targets)]
    compute, given = row(f"setp.{how}.bf16").compute, [warp.value(each, "b32") for each in sources]

    def run(mask: Mask | None) -> None:
        found = np.empty((2, WARP), np.bool_)
        for halves, each in zip(zip(*map(pairs, given), strict=True), found, strict=True):
            compute(*halves, each)
        _put(out, [*found], mask)

    return run


def _register(operand: Operand) -> Register:
    if not isinstance(operand, Register):
        raise NotEmulatedError(f"{operand} is no register")
    return operand


def _elements(opcode: str, operand: Operand) -> tuple[str, tuple[Any, ...]]:
    """The type of what is loaded or stored, and the registers of it."""
    _, *modifiers, kind = opcode.split(".")
    if unknown := {*modifiers} - MODIFIERS:
        raise NotEmulatedError(f"{opcode} is not emulated: {', '.join(sorted(unknown))}")
    elements = operand if isinstance(operand, tuple) else (operand,)
    if len(elements) != (4 if "v4" in modifiers else 2 if "v2" in modifiers else 1):
        raise NotEmulatedError(f"{opcode} of {len(elements)} registers is not emulated")
    return kind, elements


def _of_parameter(opcode: str, operands: tuple[Operand, ...], warp: Warp) -> Run:
    target, source = operands
    kind = opcode.rpartition(".")[2]
    out = warp.memory_row(_register(target), kind if kind[0] != "s" else f"b{kind[1:]}")
    name, size = str(getattr(source, "base", source)), type_of(kind).itemsize
    parameters = warp.block.parameters

    def run(mask: Mask | None) -> None:
        given = np.array(parameters[name] & (2 ** (8 * size) - 1), f"u{size}").view(type_of(kind))
        _put([out], [np.broadcast_to(given.astype(f"i{out.itemsize}").view(out.dtype), WARP)], mask)

    return run


def _load(opcode: str, operands: tuple[Operand, ...], warp: Warp) -> Run:
    kind, elements = _elements(opcode, operands[0])
    if kind[0] == "s":
        raise NotEmulatedError(f"{opcode} is not emulated: loads that extend a sign")
    out = [warp.memory_row(_register(each), kind) for each in elements]
    element = type_of(kind)
    width, block, number = element.itemsize * len(out), warp.block, warp.number
    shared, atomic, strong = ".shared." in opcode, ".gpu." in opcode, opcode.startswith(STRONG)
    fixed = ".nc." in opcode

    def run(mask: Mask | None) -> None:
        addresses = warp.addresses(operands[1])
        lanes = ALL if mask is None else np.flatnonzero(mask)
        if shared and strong:
            found = block.shared.look(addresses[lanes].astype(np.uint32), width, block.clock)
        elif shared:
            found = block.shared.load(addresses[lanes], width, number)
        elif atomic:
            if ".acquire" in opcode:
                block.memory.acquire(addresses[lanes], block.clock)
            zero = np.zeros(len(lanes), np.uint32)
            found = block.memory.add_atomically(addresses[lanes], zero).view(np.uint8).reshape(-1, 4)
        else:
            if fixed:
                block.memory.never_written(addresses[lanes], width)
            found = block.memory.load(addresses[lanes], width, None if strong else block.clock, number)
        values = found.view(element)
        for place, target in enumerate(out):
            target[lanes] = values[:, place]

    return run


def _store(opcode: str, operands: tuple[Operand, ...], warp: Warp) -> Run:
    kind, elements = _elements(opcode, operands[1])
    given = [warp.memory_row(e, kind) if isinstance(e, Register) else warp.value(e, kind) for e in elements]
    element = type_of(kind)
    block, number, shared, strong = warp.block, warp.number, ".shared." in opcode, opcode.startswith(STRONG)

    def run(mask: Mask | None) -> None:
        lanes = ALL if mask is None else np.flatnonzero(mask)
        addresses = warp.addresses(operands[0])[lanes]
        whole = np.empty((len(lanes), len(given)), element)
        for place, each in enumerate(given):
            whole[:, place] = each[lanes] if each.shape == (WARP,) else each
        values = whole.view(np.uint8)
        if shared and strong:
            block.memory.writes += 1
            windows = addresses // WINDOW
            for window in sorted({*windows.tolist()}):
                mine = windows == window
                other, _ = block.at(int(addresses[mine][0]))
                other.shared.others_wrote |= other is not block
                other.shared.leave(addresses[mine] % WINDOW, values[mine], element.itemsize, block.clock)
        elif shared:
            block.shared.store(addresses, values, number, block.clock if block.cluster else None)
        else:
            block.memory.store(addresses, values, None if strong else block.clock, number)

    return run


def _atomic(opcode: str, operands: tuple[Operand, ...], warp: Warp) -> Run:
    """Adding to a number in memory, as ``red`` or as ``atom``, which gives what was there."""
    gives = opcode.startswith("atom")
    order = [each for each in ("release", "acquire", "acq_rel", "relaxed") if each in opcode.split(".")]
    if opcode not in {f"{'atom' if gives else 'red'}.global.gpu.{each}.add.u32" for each in order}:
        raise NotEmulatedError(f"{opcode} is not emulated")
    out = warp.row(_register(operands[0]), "u32") if gives else None
    where, what = operands[1:] if gives else operands
    value, block = warp.value(what[0] if isinstance(what, tuple) else what, "u32"), warp.block

    def run(mask: Mask | None) -> None:
        lanes = ALL if mask is None else np.flatnonzero(mask)
        addresses = warp.addresses(where)[lanes]
        if order[0] in ("release", "acq_rel"):
            block.memory.release(addresses, block.clock)
        before = block.memory.add_atomically(addresses, np.broadcast_to(value, WARP)[lanes])
        if order[0] in ("acquire", "acq_rel"):
            block.memory.acquire(addresses, block.clock)
        if out is not None:
            out[lanes] = before

    return run


def _copy(opcode: str, operands: tuple[Operand, ...], warp: Warp) -> Run:
    """Ask for a copy from global to shared memory."""
    if opcode not in ("cp.async.ca.shared.global", "cp.async.cg.shared.global"):
        raise NotEmulatedError(f"{opcode} is not emulated")
    to, source, size, *given = operands
    width, block = int(str(size), 0), warp.block
    wanted = warp.value(given[0], "u32") if given else np.uint32(width)

    def run(mask: Mask | None) -> None:
        lanes = ALL if mask is None else np.flatnonzero(mask)
        count = np.broadcast_to(wanted, WARP)[lanes].astype(np.int64)
        targets, sources = warp.addresses(to)[lanes], warp.addresses(source)[lanes]
        block.shared.expect(targets, width, warp.number)
        seen = _copied(warp, sources, count, width)
        warp.asked.append(Copy(targets, sources, width, count, seen))

    return run


def _copied(warp: Warp, sources: NDArray[np.uint64], count: NDArray[np.int64], width: int) -> NDArray[np.uint8]:
    found = np.zeros((len(sources), width), np.uint8)
    for size in np.unique(count[count > 0]):
        lanes = np.flatnonzero(count == size)
        found[lanes, :size] = warp.block.memory.load(sources[lanes], int(size), warp.block.clock, warp.number)
    return found


def _commit(opcode: str, operands: tuple[Operand, ...], warp: Warp) -> Run:
    def run(mask: Mask | None) -> None:
        _together(opcode, mask)
        warp.groups.append([*warp.asked])
        warp.asked.clear()

    return run


def _wait(opcode: str, operands: tuple[Operand, ...], warp: Warp) -> Run:
    left = int(str(operands[0]))

    def run(mask: Mask | None) -> None:
        _together(opcode, mask)
        while len(warp.groups) > left:
            for copy in warp.groups.pop(0):
                values = _copied(warp, copy.source, copy.given, copy.size)
                if (values != copy.seen).any():
                    raise KernelError("what is copied to shared memory was changed before the copy was waited for")
                warp.block.shared.arrive(copy.to, values, warp.number)

    return run


def _together(opcode: str, mask: Mask | None) -> None:
    if mask is not None:
        raise KernelError(f"{opcode} is run by {int(mask.sum())} of a warp's 32 threads")


def _matrix_load(opcode: str, operands: tuple[Operand, ...], warp: Warp) -> Run:
    out = [warp.row(_register(each), "b32") for each in _vector(operands[0])]
    transposed = _of_eight(opcode, "ldmatrix", len(out))

    def run(mask: Mask | None) -> None:
        _together(opcode, mask)
        addresses = warp.addresses(operands[1])[: 8 * len(out)]
        rows = warp.block.shared.load(addresses, 16, warp.number)
        _put(out, [*matrices.to_registers(rows, transposed=transposed)], None)

    return run


def _matrix_store(opcode: str, operands: tuple[Operand, ...], warp: Warp) -> Run:
    given = [warp.row(_register(each), "b32") for each in _vector(operands[1])]
    transposed = _of_eight(opcode, "stmatrix", len(given))

    def run(mask: Mask | None) -> None:
        _together(opcode, mask)
        rows = matrices.to_rows(given, transposed=transposed)
        warp.block.shared.store(warp.addresses(operands[0])[: 8 * len(given)], rows, warp.number)

    return run


def _of_eight(opcode: str, name: str, count: int) -> bool:
    """Whether matrices are transposed on their way."""
    found = f"{name}.sync.aligned.m8n8.x{count}"
    if opcode not in (f"{found}.shared.b16", f"{found}.trans.shared.b16"):
        raise NotEmulatedError(f"{opcode} is not emulated")
    return ".trans." in opcode


def _vector(operand: Operand) -> tuple[Any, ...]:
    return operand if isinstance(operand, tuple) else (operand,)


def _product(opcode: str, operands: tuple[Operand, ...], warp: Warp) -> Run:
    d, a, b, c = ([warp.value(each, "b32") for each in _vector(operand)] for operand in operands)

    def run(mask: Mask | None) -> None:
        _together(opcode, mask)
        found = matrices.product(opcode, a, b, [np.broadcast_to(each, WARP) for each in c])
        _put(d, [each.view(np.uint32) for each in found], None)

    return run


def _shuffle(opcode: str, operands: tuple[Operand, ...], warp: Warp) -> Run:
    target, source, by, control, members = operands
    _, _, how, kind = opcode.split(".")
    if how not in ("bfly", "idx", "up", "down") or members not in ("-1", "0xffffffff"):
        raise NotEmulatedError(f"{opcode} among {members} is not emulated")
    out, value, other = warp.row(_register(target), kind), warp.value(source, kind), warp.value(by, "u32")
    bounds = int(str(control), 0)

    def run(mask: Mask | None) -> None:
        _together(opcode, mask)
        out[:] = matrices.shuffled(how, value, other, bounds)

    return run


def _reduced(opcode: str, operands: tuple[Operand, ...], warp: Warp) -> Run:
    """Of the lanes that a mask names the least, or the bits that any of them has, for each of them."""
    if opcode not in ("redux.sync.min.s32", "redux.sync.or.b32"):
        raise NotEmulatedError(f"{opcode} is not emulated")
    target, source, members = operands
    out, value, named = (
        warp.row(_register(target), "s32"),
        warp.value(source, "s32"),
        warp.value(members, "u32"),
    )

    def run(mask: Mask | None) -> None:
        _together(opcode, mask)
        among = (np.broadcast_to(named, WARP)[:, None] >> np.arange(WARP, dtype=np.uint32)) & np.uint32(1) != 0
        if not among.diagonal().all():
            raise NotEmulatedError(f"{opcode} by lanes that are not among its members is not emulated")
        if ".min." in opcode:
            out[:] = np.where(among, np.broadcast_to(value, WARP), np.iinfo(np.int32).max).min(1)
        else:
            out[:] = np.bitwise_or.reduce(np.where(among, np.broadcast_to(value, WARP), 0), axis=1)

    return run


def _in_cluster(opcode: str, operands: tuple[Operand, ...], warp: Warp) -> Run:
    """The address in another block of the cluster that one of the own shared memory has there."""
    target, address, rank = operands
    out, own, other = warp.row(_register(target), "u32"), warp.value(address, "u32"), warp.value(rank, "u32")

    def run(mask: Mask | None) -> None:
        _put([out], [np.broadcast_to(own + (other + np.uint32(1)) * np.uint32(WINDOW), WARP)], mask)

    return run


def _warp_barrier(opcode: str, operands: tuple[Operand, ...], warp: Warp) -> Run:
    return lambda mask: _together(opcode, mask)


def _trap(opcode: str, operands: tuple[Operand, ...], warp: Warp) -> Run:
    def run(mask: Mask | None) -> None:
        raise KernelError("it gives up")

    return run


FAMILIES: dict[str, Family] = {
    "nop": _nothing,
    "mov": _moved,
    "ld.param": _of_parameter,
    "ld.global": _load,
    "ld.volatile": _load,
    "st.relaxed": _store,
    "mapa.shared.cluster.u32": _in_cluster,
    "ld.shared": _load,
    "st.global": _store,
    "st.shared": _store,
    "red": _atomic,
    "atom": _atomic,
    "cp.async.commit_group": _commit,
    "cp.async.wait_group": _wait,
    "cp.async": _copy,
    "ldmatrix": _matrix_load,
    "stmatrix": _matrix_store,
    "mma": _product,
    "shfl": _shuffle,
    "redux": _reduced,
    "bar.warp": _warp_barrier,
    "trap": _trap,
    "wgmma": groups.bound,
    "fence.proxy": groups.bound,
}
"""How an opcode that begins so is bound."""
