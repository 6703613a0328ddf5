"""Compile a cell's kernels for a GPU that need not be there, and tell what they take of it."""

from __future__ import annotations

import hashlib
import io
import re
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

from cello.cells.definition import Cell
from cello.compiler.triton.backward import backward
from cello.compiler.triton.build import kernels
from cello.compiler.triton.forward import forward
from cello.compiler.triton.launch import Tiling, constants, options
from cello.compiler.triton.spaces import Sizes
from cello.compiler.triton.text import names_of, runtime_text
from cello.compiler.triton.tiling import tiling
from cello.errors import BackendError

MEMORY = {80: 163 * 1024, 86: 99 * 1024, 89: 99 * 1024, 90: 227 * 1024, 100: 227 * 1024, 120: 99 * 1024}
"""Bytes of shared memory that a program may have, by compute capability (CUDA programming guide, table 30)."""
INTEGERS = {"place": "*i32", "length": "*i32", "start": "*i32", "reverse": "*i32", "counters": "*i32"}
SIZES = ("TILES", "B", "T", "rows")
WORD = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True)
class Resources:
    """What one pass of a kernel takes: registers of a thread, bytes that do not fit into them, shared memory."""

    tiling: Tiling
    registers: int
    spilled: int
    shared: int


@dataclass(frozen=True)
class Compilation:
    """One pass of a kernel and all that its machine code follows from."""

    cell: Cell
    name: str
    precision: str
    capability: int
    tiling: Tiling
    constant: dict[str, Any]

    def digest(self) -> str:
        """A hash of the pass's text without comments, of the functions it calls, of constants and options."""
        names, runtime = names_of(self.cell), _functions(runtime_text(interpreted=False))
        lines = forward(names) if self.name == "forward" else backward(names)
        text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
        needed, new = dict[str, str](), {"", *WORD.findall(text)} & runtime.keys()
        while new:
            needed |= {name: runtime[name] for name in new}
            new = {word for name in new for word in WORD.findall(runtime[name])} & (runtime.keys() - needed.keys())
        given = repr((sorted(self.constant.items()), sorted(options(self.tiling).items()), self.capability))
        return hashlib.sha256("\n".join([text, *(needed[n] for n in sorted(needed)), given]).encode()).hexdigest()[:16]

    def resources(self) -> Resources:
        """Compile it, and say what it takes.

        Raises:
            BackendError: Triton is not installed, or told nothing of registers.
        """
        function = getattr(kernels(self.cell, interpreted=False), self.name)
        import triton
        from triton.backends.compiler import GPUTarget

        source, said = _source(function, self.constant, self.precision), io.StringIO()
        with triton.knobs.compilation.scope(), triton.knobs.nvidia.scope(), redirect_stdout(said):
            triton.knobs.compilation.always_compile, triton.knobs.nvidia.dump_ptxas_log = True, True
            target = GPUTarget("cuda", self.capability, 32)
            found = triton.compile(source, target=target, options=options(self.tiling))
        return Resources(self.tiling, *_counted(said.getvalue()), found.metadata.shared)


def compilation(
    cell: Cell, name: str, hidden: int, precision: str, capability: int = 90, *, inputs: int = 39
) -> Compilation:
    """Of "forward" or "backward" for D features and H units, products in "ieee", "tf32" or "bf16".

    Raises:
        BackendError: no tiling fits.
    """
    names, sizes = names_of(cell), Sizes(cell, inputs, hidden)
    chosen = tiling(names, sizes, precision, MEMORY[capability])
    if chosen is None:
        raise BackendError(f"cell {cell.name!r} has no kernel for H={hidden} units on compute capability {capability}")
    own = {"KEEP" if name == "forward" else "GIVEN": True}
    constant = {**constants(names, chosen, sizes, precision, large=False), **own}
    return Compilation(cell, name, precision, capability, chosen, constant)


def resources(
    cell: Cell, name: str, hidden: int, precision: str, capability: int = 90, *, inputs: int = 39
) -> Resources:
    """What a pass takes, as ``compilation`` is told it.

    Raises:
        BackendError: no tiling fits, or Triton is not installed.
    """
    return compilation(cell, name, hidden, precision, capability, inputs=inputs).resources()


def _functions(runtime: str) -> dict[str, str]:
    """The functions that all kernels share, by name; what stands before them by no name."""
    begin, *parts = runtime.split("\n@triton.jit\n")
    return {"": begin, **{part.split("(")[0].removeprefix("def "): part.strip() for part in parts}}


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


def _counted(said: str) -> tuple[int, int]:
    """Registers and spilled bytes, as the assembler told them when Triton ran it: other options give other figures."""
    registers = re.search(r"Used (\d+) registers", said)
    spilled = re.search(r"(\d+) bytes spill stores", said)
    if registers is None or spilled is None:
        raise BackendError(f"the assembler told no registers: {said[:200]!r}; this release of Triton is not known here")
    return int(registers[1]), int(spilled[1])
