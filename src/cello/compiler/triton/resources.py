"""Compile a cell's kernels for a GPU that need not be there, and tell what they take of it."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cello.cells.definition import Cell
from cello.compiler.triton.build import kernels
from cello.compiler.triton.launch import Tiling, constants, options
from cello.compiler.triton.spaces import Sizes
from cello.compiler.triton.text import names_of
from cello.compiler.triton.tiling import tiling
from cello.errors import BackendError

MEMORY = {80: 163 * 1024, 86: 99 * 1024, 89: 99 * 1024, 90: 227 * 1024, 100: 227 * 1024, 120: 99 * 1024}
"""Bytes of shared memory that a program may have, by compute capability (CUDA programming guide, table 30)."""
INTEGERS = {"place": "*i32", "length": "*i32", "start": "*i32", "reverse": "*i32", "counters": "*i32"}
SIZES = ("TILES", "B", "T", "rows")


@dataclass(frozen=True)
class Resources:
    """What one pass of a kernel takes: registers of a thread, bytes that do not fit into them, shared memory."""

    tiling: Tiling
    registers: int
    spilled: int
    shared: int


def resources(
    cell: Cell, name: str, hidden: int, precision: str, capability: int = 90, *, inputs: int = 39
) -> Resources:
    """Of "forward" or "backward" for D features and H units, products in "ieee", "tf32" or "bf16".

    Raises:
        BackendError: no tiling fits, or Triton is not installed.
    """
    import triton
    from triton.backends.compiler import GPUTarget

    names, sizes = names_of(cell), Sizes(cell, inputs, hidden)
    chosen = tiling(names, sizes, precision, MEMORY[capability])
    if chosen is None:
        raise BackendError(f"cell {cell.name!r} has no kernel for H={hidden} units on compute capability {capability}")
    function = getattr(kernels(cell, interpreted=False), name)
    own = {"KEEP" if name == "forward" else "GIVEN": True}
    source = _source(function, {**constants(names, chosen, sizes, precision, large=False), **own}, precision)
    found = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options(chosen))
    registers, spilled = _assembled(found.asm["ptx"], capability)
    return Resources(chosen, registers, spilled, found.metadata.shared)


def _source(function: Any, constant: dict[str, Any], precision: str) -> Any:
    """What Triton compiles: types of all arguments, of which sizes and places are multiples of 16."""
    from triton.compiler import ASTSource

    stored = "*bf16" if precision == "bf16" else "*fp32"
    types, divisible = {}, {}
    for place, name in enumerate(function.arg_names):
        number = name in SIZES or name.endswith(("_row", "_replicate", "_clip", "_frame"))
        if name in constant:
            types[name] = "constexpr"
        elif number:
            types[name] = "i32"
        else:
            types[name] = INTEGERS.get(name) or (stored if name in ("saved", "d_sums", "vectors") else "*fp32")
        if name not in constant and name not in SIZES:
            divisible[(place,)] = [["tt.divisibility", 16]]
    places = {(function.arg_names.index(name),): value for name, value in constant.items()}
    return ASTSource(function, types, constexprs=places, attrs=divisible)


def _assembled(ptx: str, capability: int) -> tuple[int, int]:
    """Registers and spilled bytes, as the assembler tells them."""
    import triton
    from triton.backends.nvidia import compiler

    # releases differ in which of their assemblers they use for which GPU
    assembler = compiler.get_ptxas(capability) if hasattr(compiler, "get_ptxas") else triton.knobs.nvidia.ptxas
    suffix = "a" if capability >= 90 else ""
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "kernel.ptx"
        text.write_text(ptx, encoding="utf-8")
        command = [assembler.path, "-v", f"-arch=sm_{capability}{suffix}", text, "-o", text.with_suffix("")]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers = re.search(r"Used (\d+) registers", said)
    spilled = re.search(r"(\d+) bytes spill stores", said)
    return int(registers[1]) if registers else 0, int(spilled[1]) if spilled else 0
