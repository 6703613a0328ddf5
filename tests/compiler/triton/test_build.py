"""What hurts: a compiler that ends a training run with the process, and kernels of others that change with it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from cello.compiler.triton import build
from cello.compiler.triton.build import SLP_OFF, compiling, without_slp
from cello.errors import BackendError
from cello.training.device import OLDEST_TRITON

pytest.importorskip("triton")
COMPILED = """
from dataclasses import replace
from cello.cells.load import zoo
from cello.compiler.triton.build import kernels
from cello.compiler.triton.choice import of_pass
from cello.compiler.triton.machine_code import taken
from cello.compiler.triton.spaces import Sizes
from cello.compiler.triton.text import names_of
from cello.compiler.triton.tiling import tiling

cell, sizes = zoo()["lstm"], Sizes(zoo()["lstm"], 39, 64)
first = tiling(names_of(cell), sizes, "ieee")
assert (first.rows, first.split, first.stages) == (16, 1, 2)
for each in (first, replace(first, stages=1)):
    of = of_pass(cell, "backward", each, sizes, "ieee")
    print(taken(kernels(cell, interpreted=False).backward, of, "ieee", each, 90).registers)
"""


@pytest.fixture
def as_new() -> Iterator[None]:
    """Nothing is known yet of the compiler, nor afterwards."""
    build._can_be_without_slp.cache_clear()
    yield
    build._can_be_without_slp.cache_clear()


def test_the_default_precision_does_not_end_the_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """LLVM's SLP vectoriser failed an assertion with what is read ahead, and made a broken module without."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    ran = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert [0 < int(each) <= 255 for each in ran.stdout.split()] == [True, True]


@pytest.mark.parametrize("release", ["3.2.0", "3.4.0+git"])
def test_a_release_that_cannot_compile_the_kernels_is_named(monkeypatch: pytest.MonkeyPatch, release: str) -> None:
    import triton

    assert build.missing() is None
    assert build.OLDEST == OLDEST_TRITON
    monkeypatch.setattr(triton, "__version__", release)
    assert build.missing() == (
        f"Triton {release} cannot compile the kernels, which need 3.5 or newer; install torch 2.9 or newer, which "
        "brings one"
    )


def test_a_kernel_that_is_not_compiled_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every tiling fails the first is launched, and Triton's own error says neither of what nor what to do."""
    import triton
    from triton.compiler.errors import CompilationError
    from triton.runtime.errors import OutOfResources

    monkeypatch.setattr(triton, "__version__", "3.5.1")
    what = "backward kernel of cell 'gru' for H=64 and products in ieee"

    def failed(error: Exception) -> None:
        with build.told_if_not_compiled(what):
            raise error

    for error, said in (
        (RuntimeError("PassManager::run failed"), "PassManager::run failed"),
        (CompilationError("text", ast.Pass(), "no such function\n"), "no such function"),
    ):
        with pytest.raises(BackendError) as told:
            failed(error)
        assert str(told.value) == (
            f"Triton 3.5.1 does not compile the {what} ({said}). Install another release of torch, which brings "
            'another Triton, or take backend="plain"'
        )
    for other in (OutOfResources(3, 2, "shared memory"), RuntimeError("out of memory")):
        with pytest.raises(type(other)):
            failed(other)


def optimiser(monkeypatch: pytest.MonkeyPatch, told: str) -> tuple[Any, list[dict[str, Any]]]:
    """Triton's module with an optimiser that keeps what it is given, and that."""
    from triton.backends.nvidia import compiler

    given: list[dict[str, Any]] = []

    def optimize_module(module: object, **named: Any) -> None:
        given.append(named)

    optimize_module.__doc__ = told
    monkeypatch.setattr(compiler.llvm, "optimize_module", optimize_module)
    return compiler.llvm, given


@pytest.mark.usefixtures("as_new")
def test_nothing_else_is_compiled_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not other precisions, nor the kernels that other threads compile at the same time, nor any afterwards."""
    llvm, given = optimiser(monkeypatch, f"optimize_module(mod, {SLP_OFF}: bool = False)")
    named = {SLP_OFF: False, "flags": ["a"]}
    with compiling("ieee"):
        llvm.optimize_module(None, **named)
        other = Thread(target=lambda: llvm.optimize_module(None, **named))
        other.start()
        other.join()
        with compiling("tf32"):
            llvm.optimize_module(None, **named)
        llvm.optimize_module(None)
    llvm.optimize_module(None, **named)
    assert given == [named | {SLP_OFF: True}, named, named, {SLP_OFF: True}, named]
    assert [without_slp(precision) for precision in ("ieee", "tf32", "bf16")] == [True, False, False]


@pytest.mark.usefixtures("as_new")
def test_a_release_without_the_argument_is_not_given_it(monkeypatch: pytest.MonkeyPatch) -> None:
    llvm, given = optimiser(monkeypatch, "optimize_module(mod, flags)")
    with compiling("ieee"):
        llvm.optimize_module(None)
    assert given == [{}]
    assert not without_slp("ieee")
