"""Tell what a cell's kernels take of a GPU that need not be there, and from what their machine code follows."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from cello.cells.definition import Cell
from cello.compiler.triton.backward import backward
from cello.compiler.triton.build import without_slp
from cello.compiler.triton.choice import chosen, of_pass
from cello.compiler.triton.forward import forward
from cello.compiler.triton.launch import Tiling, options
from cello.compiler.triton.spaces import Sizes
from cello.compiler.triton.text import is_exact, matrices_text, names_of, runtime_text
from cello.compiler.triton.tiling import tilings
from cello.errors import BackendError

_KIB = {75: 64, 80: 163, 86: 99, 87: 163, 89: 99, 90: 227, 100: 227, 103: 227, 110: 227, 120: 99, 121: 99}
MEMORY = {capability: 1024 * kib for capability, kib in _KIB.items()}
"""Bytes of shared memory that a program may have, by compute capability (CUDA programming guide, table 30)."""
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
    sizes: Sizes

    @cached_property
    def tilings(self) -> tuple[Tiling, ...]:
        """Those of which it takes the first whose kernel keeps nothing in memory."""
        return tilings(names_of(self.cell), self.sizes, self.precision, MEMORY[self.capability], self.name)

    def digest(self, tried: int | None = 1) -> str:
        """A hash of the pass's text without comments, of the functions it calls, of constants and options.

        Of the first tiling alone, which is all there is to know of a kernel that keeps nothing in memory by it; of all
        of them if None are ``tried``.
        """
        runtime, tilings = _functions(runtime_text(interpreted=False) + matrices_text()), self.tilings[:tried]
        text = "\n".join(self._text(reread) for reread in dict.fromkeys(each.reread for each in tilings))
        needed, new = dict[str, str](), {"", *WORD.findall(text)} & runtime.keys()
        while new:
            needed |= {name: runtime[name] for name in new}
            new = {word for name in new for word in WORD.findall(runtime[name])} & (runtime.keys() - needed.keys())
        given = [self._given(tiling) for tiling in tilings]
        return hashlib.sha256("\n".join([text, *(needed[n] for n in sorted(needed)), *given]).encode()).hexdigest()[:16]

    def _text(self, reread: str) -> str:
        names = names_of(self.cell, reread, exact=is_exact(self.precision))
        lines = forward(names) if self.name == "forward" else backward(names)
        return _without_comments(lines)

    def _given(self, tiling: Tiling) -> str:
        constant = of_pass(self.cell, self.name, tiling, self.sizes, self.precision)
        how = ("without SLP",) if without_slp(self.precision) else ()
        return repr((sorted(constant.items()), sorted(options(tiling).items()), self.capability, *how))

    def resources(self) -> Resources:
        """Compile it, and say what it takes.

        Raises:
            BackendError: Triton is not installed, or told nothing of registers.
        """
        memory = MEMORY[self.capability]
        found = chosen(self.cell, self.name, self.sizes, self.precision, self.capability, memory)
        if found is None or found[1] is None:
            raise BackendError("the machine code tells no registers; this release of Triton is not known here")
        taken = found[1]
        return Resources(found[0], taken.registers, taken.spilled, taken.shared)


def compilation(
    cell: Cell, name: str, hidden: int, precision: str, capability: int = 90, *, inputs: int = 39
) -> Compilation:
    """Of "forward" or "backward" for D features and H units, products in "ieee", "tf32" or "bf16".

    Raises:
        BackendError: no tiling fits.
    """
    found = Compilation(cell, name, precision, capability, Sizes(cell, inputs, hidden))
    if not found.tilings:
        raise BackendError(f"cell {cell.name!r} has no kernel for H={hidden} units on compute capability {capability}")
    return found


def resources(
    cell: Cell, name: str, hidden: int, precision: str, capability: int = 90, *, inputs: int = 39
) -> Resources:
    """What a pass takes, as ``compilation`` is told it.

    Raises:
        BackendError: no tiling fits, or Triton is not installed.
    """
    return compilation(cell, name, hidden, precision, capability, inputs=inputs).resources()


def _without_comments(lines: Iterable[str]) -> str:
    return "\n".join(line for line in lines if not line.lstrip().startswith("#"))


def _functions(runtime: str) -> dict[str, str]:
    """The functions that all kernels share, by name; what stands before them by no name."""
    begin, *parts = _without_comments(runtime.splitlines()).split("\n@triton.jit\n")
    return {"": begin, **{part.split("(")[0].removeprefix("def "): part.strip() for part in parts}}
