"""Compile a pass of a kernel for a GPU that need not be there, and read from its machine code what a thread takes."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from cello.compiler.triton.build import SIZES, compiling
from cello.compiler.triton.cooperative import launch_options
from cello.compiler.triton.launch import Tiling, options
from cello.compiler.triton.text import BARRIER

INTEGERS = {"place": "*i32", "length": "*i32", "start": "*i32", "reverse": "*i32"}
FRAME, REGISTERS = 0x11, 0x2F
"""Attributes of a kernel in the section .nv.info: bytes of a thread's frame in memory, and its registers."""
ALL_CONSTANTS = (3, 7)
"""The release of Triton from which on a launch says of all constants that nothing is known of their places, before of
those that are texts alone."""
OF_A_SYMBOL = 4
"""The format of attributes of a length of their own: which symbol they are of, and a value."""


@dataclass(frozen=True)
class Taken:
    """Registers of a thread, bytes it keeps in memory since they do not fit there, and a program's shared memory."""

    registers: int
    spilled: int
    shared: int


def release() -> str:
    """That of Triton, whose compiler decides what a kernel takes."""
    import triton

    return str(triton.__version__)


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", release)[:2]))


def compiled(function: Any, constant: dict[str, Any], precision: str, tiling: Tiling, capability: int) -> Any:
    """A pass of a kernel as Triton compiles it for a GPU: its texts and machine code. Triton keeps them on disk."""
    import triton
    from triton.backends.compiler import GPUTarget

    target, source = GPUTarget("cuda", capability, 32), _source(function, constant, precision)
    with compiling(precision):
        how = options(tiling) | launch_options(tiling.split, waits=BARRIER in function.src, cluster=tiling.cluster)
        return triton.compile(source, target=target, options=how)


def taken(function: Any, constant: dict[str, Any], precision: str, tiling: Tiling, capability: int) -> Taken | None:
    """What a pass of a kernel takes; None where its machine code does not tell."""
    found = compiled(function, constant, precision, tiling, capability)
    try:
        told = dict(_attributes(found.asm["cubin"]))
    except (struct.error, IndexError):
        return None
    if not {FRAME, REGISTERS} <= told.keys():
        return None
    return Taken(told[REGISTERS], told[FRAME], found.metadata.shared)


NOT_COMPILED = Taken(1 << 30, 1 << 30, 1 << 60)
"""More than any GPU has: a kernel that this release of Triton does not compile; it is taken if no other is either."""


def if_any(of: Callable[[], Taken | None]) -> Taken | None:
    """What a kernel takes, None if its machine code does not tell; ``NOT_COMPILED`` by whatever error of the compiler.

    No more is lost then than a try; if no tiling is compiled, what is wrong with the first its launch says.
    """
    try:
        return of()
    except Exception:
        return NOT_COMPILED


def _source(function: Any, constant: dict[str, Any], precision: str) -> Any:
    """What Triton compiles: types of all arguments, of which sizes and places are multiples of 16."""
    from triton.compiler import ASTSource

    in_blocks = "HALF" in constant
    stored = "*bf16" if precision == "bf16" and not in_blocks else "*fp32"
    of_name = INTEGERS | {"workspace": "*fp32" if in_blocks else "*i64"}
    types: dict[str, str] = {}
    divisible: dict[tuple[int], list[list[object]]] = {}
    for place, name in enumerate(function.arg_names):
        number = name in SIZES or name.endswith(("_row", "_replicate", "_clip", "_frame"))
        if name in constant:
            types[name] = "constexpr"
        elif number:
            types[name] = "i32"
        else:
            types[name] = of_name.get(name) or (stored if name in ("saved", "d_sums", "vectors") else "*fp32")
        if name not in constant and name not in SIZES:
            divisible[(place,)] = [["tt.divisibility", 16]]
        elif name in constant and (isinstance(constant[name], str) or _numbers(release()) >= ALL_CONSTANTS):
            divisible[(place,)] = []  # as a launch has it, which then finds compiled what was compiled here
    places = {(function.arg_names.index(name),): value for name, value in constant.items()}
    return ASTSource(function, types, constexprs=places, attrs=divisible)


def _attributes(code: bytes) -> Iterator[tuple[int, int]]:
    """What the section .nv.info of a cubin, an ELF file of 64 bits, says of its one kernel."""
    (begin,) = struct.unpack_from("<Q", code, 0x28)
    size, count, names = struct.unpack_from("<HHH", code, 0x3A)
    sections = [struct.unpack_from("<IIQQQQ", code, begin + n * size) for n in range(count)]
    text = sections[names][4]
    for name, *_, place, length in sections:
        if code.startswith(b".nv.info\0", text + name):
            yield from _of_symbols(code[place : place + length])


def _of_symbols(section: bytes) -> Iterator[tuple[int, int]]:
    place = 0
    while place < len(section):
        kind, attribute, length = struct.unpack_from("<BBH", section, place)
        if kind == OF_A_SYMBOL and attribute in (FRAME, REGISTERS):
            yield attribute, struct.unpack_from("<II", section, place + 4)[1]
        place += 4 + (length if kind == OF_A_SYMBOL else 0)
