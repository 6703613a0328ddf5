"""Make a cell's Triton module: for a GPU, or for Triton's interpreter on the CPU; the only file that imports triton."""

from __future__ import annotations

import linecache
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cello.cells.definition import Cell
from cello.compiler.triton.clusters import can_be_compiled
from cello.compiler.triton.text import matrices_text, own_text, runtime_text
from cello.errors import BackendError

SIZES = ("TILES", "B", "T", "rows")
"""The arguments of kernels that follow from the clips of a call alone."""
OLDEST = (3, 5)
"""The release from which on Triton compiles functions that call themselves."""
SLP_OFF = "disable_slp_vectorizer"
"""Triton's argument, since 3.8, by which LLVM puts no scalars into vectors."""
OF_THE_COMPILER, PASSES_FAILED = ("CompilationError", "PTXASError"), "PassManager::run failed"
"""How Triton tells that it, or NVIDIA's assembler, cannot compile a kernel."""
LONGEST = 200
"""Characters of what the compiler says that are told."""
_without_slp: ContextVar[bool] = ContextVar("without_slp", default=False)


@dataclass(frozen=True, eq=False)
class Kernels:
    """Both passes, each called as ``kernel[grid](...)``."""

    forward: Any
    backward: Any


def missing() -> str | None:
    """Why Triton cannot be used, if it cannot."""
    try:
        import triton
    except ImportError as error:
        return f"Triton cannot be imported ({error}); install it with: pip install triton"
    release = str(triton.__version__)
    if tuple(map(int, re.findall(r"\d+", release)[:2])) < OLDEST:
        return (
            f"Triton {release} cannot compile the kernels, which need {'.'.join(map(str, OLDEST))} or newer; install "
            "torch 2.9 or newer, which brings one"
        )
    return None


def without_slp(precision: str) -> bool:
    """Whether kernels are compiled without LLVM's SLP vectoriser: that of Triton 3.9 fails at products in IEEE float32,
    and ends the process."""
    return precision == "ieee" and _can_be_without_slp()


@contextmanager
def compiling(precision: str) -> Iterator[None]:
    """Kernels of such products are compiled in here, by this thread; what others compile stays as it is."""
    before = _without_slp.set(without_slp(precision))
    try:
        yield
    finally:
        _without_slp.reset(before)


@lru_cache(maxsize=1)
def _can_be_without_slp() -> bool:
    """Have Triton ask whether it is to be without; False for a release that has no such argument."""
    try:
        from triton.backends.nvidia import compiler
    except ImportError:
        return False
    optimised = compiler.llvm.optimize_module
    if SLP_OFF not in (optimised.__doc__ or ""):
        return False

    def optimize_module(*given: Any, **named: Any) -> None:
        optimised(*given, **(named | {SLP_OFF: True} if _without_slp.get() else named))

    optimize_module.__doc__ = optimised.__doc__
    compiler.llvm.optimize_module = optimize_module
    return True


@contextmanager
def told_if_not_compiled(what: str) -> Iterator[None]:
    """Say which release of Triton does not compile a kernel, and what to do.

    Raises:
        BackendError: it does not.
    """
    try:
        yield
    except Exception as error:
        kind = next((each.__name__ for each in type(error).__mro__ if each.__name__ in OF_THE_COMPILER), "")
        if not kind and PASSES_FAILED not in str(error):
            raise
        import triton

        said = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), "it does not say why")
        raise BackendError(
            f"Triton {triton.__version__} does not compile the {what} ({said[:LONGEST]}). Install another release of "
            'torch, which brings another Triton, or take backend="plain"'
        ) from error


@lru_cache(maxsize=512)
def kernels(cell: Cell, reread: str = "", *, interpreted: bool, exact: bool = False) -> Kernels:
    """The cell's kernels, by what they read at every step though it stays the same, and how they multiply.

    Raises:
        BackendError: Triton is not installed.
    """
    if (reason := missing()) is not None:
        raise BackendError(reason)
    kind = (" interpreted" if interpreted else "") + (f" by {reread!r}" if reread else "")
    kind += " in IEEE float32" if exact else ""
    if not interpreted:
        can_be_compiled()
    file = f"<cello {cell.name} {cell.graph.fingerprint()}{kind}>"
    space = {**_runtime(interpreted=interpreted), "__name__": f"cello_{cell.graph.fingerprint()}"}
    _execute(own_text(cell, reread, exact=exact), file, space, interpreted=interpreted)
    if interpreted:
        from cello.compiler.triton.interpreter import take_turns

        take_turns(space)
    return Kernels(*(_of_any_batch(space[way], interpreted=interpreted) for way in ("forward", "backward")))


def _of_any_batch(kernel: Any, *, interpreted: bool) -> Any:
    """The kernel with one text for all sizes, those that are 1 or multiples of 16 too: no batch compiles it anew."""
    if interpreted:
        return kernel
    import triton

    return triton.jit(kernel.fn, do_not_specialize=[name for name in SIZES if name in kernel.arg_names])


@lru_cache(maxsize=2)
def _runtime(*, interpreted: bool) -> dict[str, Any]:
    """The module of what all cells share."""
    kind = " interpreted" if interpreted else ""
    space: dict[str, Any] = {"__name__": "cello_runtime"}
    text = runtime_text(interpreted=interpreted) + matrices_text()
    _execute(text, f"<cello runtime{kind}>", space, interpreted=interpreted)
    if interpreted:
        from cello.compiler.triton.interpreter import plain_functions

        plain_functions(space)
    return space


def _execute(text: str, file: str, space: dict[str, Any], *, interpreted: bool) -> None:
    """Run a module that exists in memory alone, where Triton and tracebacks find its lines."""
    import triton

    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    with triton.knobs.runtime.scope():
        triton.knobs.runtime.interpret = interpreted
        exec(compile(text, file, "exec"), space)
