"""Make a cell's Triton module: for a GPU, or for Triton's interpreter on the CPU; the only file that imports triton."""

from __future__ import annotations

import linecache
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cello.cells.definition import Cell
from cello.compiler.triton.text import source
from cello.errors import BackendError


@dataclass(frozen=True, eq=False)
class Kernels:
    """Both passes, each called as ``kernel[grid](...)``."""

    forward: Any
    backward: Any


def missing() -> str | None:
    """Why Triton cannot be used, if it cannot."""
    try:
        import triton  # noqa: F401
    except ImportError as error:
        return f"Triton cannot be imported ({error}); install it with: pip install triton"
    return None


@lru_cache(maxsize=512)
def kernels(cell: Cell, *, interpreted: bool) -> Kernels:
    """The cell's kernels; the module exists in memory alone, where Triton and tracebacks find its lines.

    Raises:
        BackendError: Triton is not installed.
    """
    if (reason := missing()) is not None:
        raise BackendError(reason)
    import triton

    text = source(cell, interpreted=interpreted)
    kind = " interpreted" if interpreted else ""
    file = f"<cello {cell.name} {cell.graph.fingerprint()}{kind}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    space: dict[str, Any] = {"__name__": f"cello_{cell.graph.fingerprint()}"}
    with triton.knobs.runtime.scope():
        triton.knobs.runtime.interpret = interpreted
        exec(compile(text, file, "exec"), space)
    if interpreted:
        from cello.compiler.triton.interpreter import take_turns

        take_turns(space)
    return Kernels(space["forward"], space["backward"])
