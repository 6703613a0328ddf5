"""What the instructions of PTX compute that touch registers alone, for all lanes of a warp at once.

Approximate instructions (``ex2.approx``, ``tanh.approx``, ``rcp.approx``, ``div.full``, ...) give the exact value
rounded to float32: an emulator cannot tell a device's last bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Lanes = NDArray[Any]
Compute = Callable[..., object]
"""Takes the operands and then where its result goes: all arrays (32,), but operands that are numbers."""

FLOATS = ("f32", "f64")
WIDER = {"s32": "s64", "u32": "u64", "s16": "s32", "u16": "u32"}
BITS = {"b16": 16, "u16": 16, "s16": 16, "b32": 32, "u32": 32, "s32": 32, "b64": 64, "u64": 64, "s64": 64}


class NotEmulatedError(Exception):
    """An instruction that the emulator does not have."""


@dataclass(frozen=True)
class Row:
    """What an opcode computes, and the types of its result and operands."""

    compute: Compute
    result: str
    operands: tuple[str, ...]


@cache
def row(opcode: str) -> Row:
    """That of an opcode.

    Raises:
        NotEmulatedError: there is none.
    """
    for family in (_of_one_type, _of_bits, _of_comparison, _of_widening, _of_conversion):
        if (found := family(opcode)) is not None:
            return found
    raise NotEmulatedError(f"{opcode} is not among the instructions that are emulated")


def flushed(compute: Compute) -> Compute:
    """The same with denormal operands and results as zero, as .ftz says."""

    def to_zero(value: Lanes) -> Lanes:
        tiny = np.abs(value) < np.finfo(np.float32).tiny
        return np.where(tiny, np.copysign(np.float32(0), value), value)

    def computed(*given: Lanes) -> None:
        *operands, out = given
        compute(*map(to_zero, operands), out)
        out[:] = to_zero(out)

    return computed


def in_double(function: Callable[..., Any]) -> Compute:
    """Compute in double precision and round once, as a fused operation does."""

    def computed(*given: Lanes) -> None:
        *operands, out = given
        out[:] = function(*(np.asarray(value, np.float64) for value in operands))

    return computed


def _as_bits(value: Lanes) -> NDArray[np.uint32]:
    return np.asarray(value, np.float32).view(np.uint32)


def to_bf16(value: Lanes) -> NDArray[np.uint16]:
    """The 16 bits of float32 values rounded to bfloat16, half to even."""
    bits = _as_bits(value)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(value), np.uint32(0x7FFF), rounded).astype(np.uint16)


def from_bf16(bits: Lanes) -> NDArray[np.float32]:
    """The float32 values of bfloat16's bits."""
    return (np.asarray(bits, np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)


def pairs(value: Lanes) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """The lower and the upper half of 32 bits."""
    return value.astype(np.uint16), (value >> np.uint32(16)).astype(np.uint16)


def pair(low: Lanes, high: Lanes) -> NDArray[np.uint32]:
    """32 bits of two halves."""
    return low.astype(np.uint32) | (high.astype(np.uint32) << np.uint32(16))


def _bf16_pairs(function: Callable[..., Any]) -> Compute:
    def computed(*given: Lanes) -> None:
        *operands, out = given
        halves = zip(*(map(from_bf16, pairs(np.asarray(each, np.uint32))) for each in operands), strict=True)
        out[:] = pair(*(to_bf16(np.asarray(function(*each), np.float32)) for each in halves))

    return computed


def _of_bf16(compute: Compute) -> Compute:
    """What is computed of pairs, of their lower halves alone."""

    def computed(*given: Lanes) -> None:
        *operands, out = given
        found = np.zeros(out.shape, np.uint32)
        compute(*(np.asarray(each).astype(np.uint32) for each in operands), found)
        out[:] = pairs(found)[0]

    return computed


def _both(compute: Compute) -> Compute:
    """The same of two values of float32 in one register of 64 bits."""

    def computed(*given: Lanes) -> None:
        *operands, out = given
        wide = (np.ascontiguousarray(np.broadcast_to(np.asarray(each, np.uint64), out.shape)) for each in operands)
        values = [each.view(np.float32).reshape(*out.shape, 2) for each in wide]
        found = np.empty((*out.shape, 2), np.float32)
        for half in (0, 1):
            compute(*(each[..., half] for each in values), found[..., half])
        out[:] = found.view(np.uint64)[..., 0]

    return computed


def _multiply_add(a: Lanes, b: Lanes, c: Lanes, out: Lanes) -> None:
    np.add(a * b, c, out)


def _select(a: Lanes, b: Lanes, which: Lanes, out: Lanes) -> None:
    out[:] = np.where(which, a, b)


def _copy(a: Lanes, out: Lanes) -> None:
    out[:] = a


def _reciprocal(a: Lanes, out: Lanes) -> None:
    out[:] = 1.0 / np.asarray(a, np.float64)


def _smaller(a: Lanes, b: Lanes, out: Lanes) -> None:
    np.minimum(a, b, out=out)


def _larger(a: Lanes, b: Lanes, out: Lanes) -> None:
    np.maximum(a, b, out=out)


def _least(a: Lanes, b: Lanes, out: Lanes) -> None:
    np.minimum(a, b, out=out)


def _largest(a: Lanes, b: Lanes, out: Lanes) -> None:
    np.maximum(a, b, out=out)


ANY: dict[str, Compute] = {
    "add": np.add,
    "sub": np.subtract,
    "mul.lo": np.multiply,
    "mad.lo": _multiply_add,
    "neg": np.negative,
    "abs": np.absolute,
    "min": _smaller,
    "max": _larger,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.invert,
    "mov": _copy,
}
"""Operations whose operands and result have one type, whole numbers and predicates."""
FLOAT: dict[str, Compute] = {
    "add": np.add,
    "add.rn": np.add,
    "sub": np.subtract,
    "sub.rn": np.subtract,
    "mul": np.multiply,
    "mul.rn": np.multiply,
    "neg": np.negative,
    "abs": np.absolute,
    "min": np.fmin,
    "max": np.fmax,
    "min.NaN": _smaller,
    "max.NaN": _larger,
    "mov": _copy,
    "fma.rn": in_double(lambda a, b, c: a * b + c),
    "div.full": np.divide,
    "div.approx": np.divide,
    "div.rn": np.divide,
    "rcp.approx": _reciprocal,
    "rcp.rn": _reciprocal,
    "sqrt.approx": np.sqrt,
    "sqrt.rn": np.sqrt,
    "rsqrt.approx": in_double(lambda a: 1 / np.sqrt(a)),
    "ex2.approx": in_double(np.exp2),
    "lg2.approx": in_double(np.log2),
    "tanh.approx": in_double(np.tanh),
    "sin.approx": in_double(np.sin),
    "cos.approx": in_double(np.cos),
    "cvt.rmi.f32": np.floor,
    "cvt.rpi.f32": np.ceil,
    "cvt.rzi.f32": np.trunc,
    "cvt.rni.f32": np.rint,
}
OF_PAIRS: dict[str, Compute] = {
    "mul": _bf16_pairs(np.multiply),
    "mul.rn": _bf16_pairs(np.multiply),
    "add": _bf16_pairs(np.add),
    "sub": _bf16_pairs(np.subtract),
    "neg": _bf16_pairs(np.negative),
    "abs": _bf16_pairs(np.absolute),
    "max": _bf16_pairs(np.fmax),
    "min": _bf16_pairs(np.fmin),
    "max.NaN": _bf16_pairs(np.maximum),
    "min.NaN": _bf16_pairs(np.minimum),
    "fma.rn": _bf16_pairs(lambda a, b, c: a.astype(np.float64) * b + c),
}
"""Those of two values of bfloat16 in one register, or of one."""
OF_TWO = ("add", "add.rn", "sub", "sub.rn", "mul", "mul.rn", "fma.rn")
"""Those that compute capability 10.0 and newer have of two values of float32 in one register of 64 bits."""
OPERANDS = {"mad.lo": 3, "fma.rn": 3, "neg": 1, "abs": 1, "not": 1, "mov": 1, "add": 2}
ONE = ("rcp", "sqrt", "rsqrt", "ex2", "lg2", "tanh", "sin", "cos", "cvt")


def _of_one_type(opcode: str) -> Row | None:
    name, _, kind = opcode.rpartition(".")
    ftz = ".ftz" in name
    table = FLOAT if kind == "f32" else OF_PAIRS if kind == "bf16x2" else ANY if kind in {*BITS, "pred"} else {}
    plain = name.replace(".ftz", "")
    if kind == "bf16" and plain in OF_PAIRS:
        return Row(_of_bf16(OF_PAIRS[plain]), "b16", ("b16",) * OPERANDS.get(plain, 2))
    if plain == "selp" and kind in {*BITS, "f32"}:
        return Row(_select, kind, (kind, kind, "pred"))
    if kind == "f32x2" and plain in OF_TWO:
        one = flushed(FLOAT[plain]) if ftz else FLOAT[plain]
        return Row(_both(one), "b64", ("b64",) * OPERANDS.get(plain, 2))
    if plain not in table:
        return None
    count = 1 if plain.split(".")[0] in ONE else OPERANDS.get(plain, 2)
    compute = flushed(table[plain]) if ftz else table[plain]
    return Row(compute, "b32" if kind == "bf16x2" else kind, ("b32" if kind == "bf16x2" else kind,) * count)


def _shift(function: Callable[..., Lanes], bits: int, signed: bool) -> Compute:
    def computed(value: Lanes, by: Lanes, out: Lanes) -> None:
        by, far = np.asarray(by), np.asarray(by) >= bits
        kept = np.minimum(by, bits - 1).astype(out.dtype)
        beyond = function(value, out.dtype.type(bits - 1)) if signed else out.dtype.type(0)
        out[:] = np.where(far, beyond, function(value, kept))

    return computed


def _field(value: Lanes, begin: Lanes, length: Lanes, out: Lanes) -> None:
    """Bits of a number from ``begin`` on; the highest of them is a signed number's sign."""
    wide = np.asarray(value).astype(np.int64) >> np.asarray(begin).astype(np.int64)
    count = np.asarray(length).astype(np.int64)
    found = wide & ((np.int64(1) << count) - 1)
    if out.dtype.kind == "i":
        found -= ((found >> np.maximum(count - 1, 0)) & 1) << count
    out[:] = found.astype(out.dtype)


def _permuted(a: Lanes, b: Lanes, which: Lanes, out: Lanes) -> None:
    """Four of eight bytes, each by four bits, of which the highest spreads the byte's sign."""
    whole = np.asarray(a).astype(np.uint64) | (np.asarray(b).astype(np.uint64) << np.uint64(32))
    found = np.zeros(out.shape, np.uint64)
    for place in range(4):
        chosen = (np.asarray(which).astype(np.uint64) >> np.uint64(4 * place)) & np.uint64(15)
        byte = (whole >> ((chosen & np.uint64(7)) * np.uint64(8))) & np.uint64(0xFF)
        sign = np.where(byte > 127, np.uint64(0xFF), np.uint64(0))
        found |= np.where(chosen > 7, sign, byte) << np.uint64(8 * place)
    out[:] = found.astype(np.uint32)


def _of_bits(opcode: str) -> Row | None:
    name, _, kind = opcode.rpartition(".")
    if opcode == "prmt.b32":
        return Row(_permuted, "b32", ("b32", "b32", "b32"))
    if kind not in BITS:
        return None
    if name == "bfe" and kind in ("u32", "s32"):
        return Row(_field, kind, (kind, "u32", "u32"))
    if name not in ("shl", "shr"):
        return None
    signed = name == "shr" and kind.startswith("s")
    function = np.left_shift if name == "shl" else np.right_shift
    return Row(_shift(function, BITS[kind], signed), kind, (kind, "u32"))


COMPARED: dict[str, Compute] = {
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
}


def _unordered(compute: Compute) -> Compute:
    """A comparison that also holds where one of both is NaN."""

    def computed(a: Lanes, b: Lanes, out: Lanes) -> None:
        compute(a, b, out)
        out |= np.isnan(a) | np.isnan(b)

    return computed


def _not_equal(a: Lanes, b: Lanes, out: Lanes) -> None:
    out[:] = (a != b) & ~np.isnan(a) & ~np.isnan(b)


def _is_nan(a: Lanes, b: Lanes, out: Lanes) -> None:
    out[:] = np.isnan(a) | np.isnan(b)


def _of_comparison(opcode: str) -> Row | None:
    parts = opcode.replace(".ftz", "").split(".")
    if parts[0] != "setp" or len(parts) != 3:
        return None
    _, how, kind = parts
    if kind == "bf16" and how in COMPARED:
        compare = COMPARED[how]
        return Row(lambda a, b, out: compare(from_bf16(a), from_bf16(b), out), "pred", ("b16", "b16"))
    if kind == "f32" and how in ("ne", "nan", "num"):
        compute: Compute = _not_equal if how == "ne" else _is_nan
        return None if how == "num" else Row(compute, "pred", (kind, kind))
    if kind == "f32" and how.endswith("u") and how[:-1] in COMPARED:
        return Row(_unordered(COMPARED[how[:-1]]), "pred", (kind, kind))
    if how in COMPARED and kind in {*BITS, "f32"}:
        return Row(COMPARED[how], "pred", (kind, kind))
    return None


def _of_widening(opcode: str) -> Row | None:
    """Products of twice the bits of their operands."""
    name, _, kind = opcode.rpartition(".")
    if name not in ("mul.wide", "mad.wide") or kind not in WIDER:
        return None
    wide = WIDER[kind]

    def computed(a: Lanes, b: Lanes, *more: Lanes) -> None:
        *plus, out = more
        found = np.asarray(a).astype(out.dtype) * np.asarray(b).astype(out.dtype)
        out[:] = found + plus[0] if plus else found

    return Row(computed, wide, (kind, kind, wide) if name == "mad.wide" else (kind, kind))


def _between_integers(a: Lanes, out: Lanes) -> None:
    out[:] = np.asarray(a).astype(out.dtype)


def _whole(function: Callable[[Any], Any]) -> Compute:
    def computed(a: Lanes, out: Lanes) -> None:
        bounds = np.iinfo(out.dtype)
        out[:] = np.nan_to_num(np.clip(function(np.asarray(a, np.float64)), bounds.min, bounds.max)).astype(out.dtype)

    return computed


def _two_to_bf16(high: Lanes, low: Lanes, out: Lanes) -> None:
    out[:] = pair(to_bf16(low), to_bf16(high))


def _to_bf16(a: Lanes, out: Lanes) -> None:
    out[:] = to_bf16(a)


def _from_bf16(a: Lanes, out: Lanes) -> None:
    out[:] = from_bf16(a)


def _to_tf32(a: Lanes, out: Lanes) -> None:
    """Rounded to 10 bits of mantissa, half away from zero."""
    out[:] = (_as_bits(a) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)


CONVERTED: dict[str, Row] = {
    "cvt.rn.bf16x2.f32": Row(_two_to_bf16, "b32", ("f32", "f32")),
    "cvt.rn.bf16.f32": Row(_to_bf16, "b16", ("f32",)),
    "cvt.f32.bf16": Row(_from_bf16, "f32", ("b16",)),
    "cvt.rna.tf32.f32": Row(_to_tf32, "b32", ("f32",)),
    "cvt.rzi.s32.f32": Row(_whole(np.trunc), "s32", ("f32",)),
    "cvt.rni.s32.f32": Row(_whole(np.rint), "s32", ("f32",)),
}


def _of_conversion(opcode: str) -> Row | None:
    if (plain := opcode.replace(".ftz", "")) in CONVERTED:  # numbers below 1.2e-38 are whole numbers of 0 too
        return CONVERTED[plain]
    parts = opcode.split(".")
    if parts[0] != "cvt":
        return None
    if len(parts) == 3 and parts[1] in BITS and parts[2] in BITS:
        return Row(_between_integers, parts[1], (parts[2],))
    if len(parts) == 4 and parts[1] == "rn" and parts[2] == "f32" and parts[3] in BITS:
        return Row(_between_integers, "f32", (parts[3],))
    return None
