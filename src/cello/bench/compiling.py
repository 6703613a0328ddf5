"""Measure the time from a cell's equations to a running kernel, in new processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from cello.bench.record import Compiling
from cello.bench.settings import DType
from cello.cache import VARIABLE
from cello.cells.definition import Cell
from cello.cells.definition import cell as traced
from cello.cells.load import load_cell
from cello.compiler.scan import scan
from cello.errors import BackendError

BATCH, FRAMES, INPUTS, HIDDEN = 2, 3, 5, 8


def compiling(names: Sequence[str], backend: str, dtype: DType) -> list[Compiling]:
    """Seconds of every cell, once with an empty cache and once with what that left; the user's own is not touched.

    Raises:
        BackendError: a cell cannot be compiled.
    """
    names = [*dict.fromkeys(names)]
    with tempfile.TemporaryDirectory(prefix="cello-bench-") as folder:
        caches = [Path(folder) / str(number) for number in range(len(names))]
        new = _in_a_new_process(names, backend, dtype, folder)
        filled = [any(path.is_file() for path in cache.rglob("*")) for cache in caches]
        cached = _in_a_new_process(names, backend, dtype, folder)
    return [
        Compiling(cell=name, backend=backend, new_seconds=first if full else None, cached_seconds=second)
        for name, first, second, full in zip(names, new, cached, filled, strict=True)
    ]


def _in_a_new_process(names: list[str], backend: str, dtype: DType, folder: str) -> list[float]:
    command = [sys.executable, "-P", "-m", "cello.bench.compiling", folder, backend, dtype, *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise BackendError(
            f'the time to compile {", ".join(names)} for backend="{backend}" cannot be measured: {last[:600]} '
            f"See whether cello.scan(..., backend={backend!r}) runs them, and report this if it does."
        )
    seconds: list[float] = json.loads(done.stdout.splitlines()[-1])  # a user's file may print when it is imported
    return seconds


def first_step(cell: Cell, backend: str, dtype: torch.dtype) -> float:
    """Seconds from the cell's function to the end of a small step, forward and backward."""
    x = torch.zeros(BATCH, FRAMES, INPUTS, dtype=dtype)

    def ones(shape: tuple[int, ...]) -> Tensor:
        return torch.ones(shape, dtype=dtype, requires_grad=True)

    weights = {name: ones(shape) for name, shape in cell.parameters(INPUTS, HIDDEN).items()}
    began = time.perf_counter()
    outputs = scan(traced(cell.function), x, weights, backend=backend).outputs
    torch.autograd.grad(outputs.sum(), [*weights.values()], allow_unused=True)
    return time.perf_counter() - began


def _another_cell(x, h, W, U):  # type: ignore[no-untyped-def]
    return W @ x + U @ h


def main(arguments: Sequence[str]) -> list[float]:
    """Seconds of every cell, each with a cache folder of its own, so that cells of the same text do not share one.

    What all cells share lies there already: another cell was called before.
    """
    folder, backend, name_of_dtype, *names = arguments
    dtype, shared = getattr(torch, name_of_dtype), Path(folder) / "shared"
    os.environ[VARIABLE] = str(shared)
    shared.mkdir(exist_ok=True)
    first_step(traced(_another_cell), backend, dtype)
    seconds = []
    for number, name in enumerate(names):
        own = Path(folder) / str(number)
        if not own.exists():
            shutil.copytree(shared, own)
        os.environ[VARIABLE] = str(own)
        cell = load_cell(name)
        first_step(cell, "plain", dtype)  # what torch itself does once is no part of compiling
        seconds.append(first_step(cell, backend, dtype))
    return seconds


if __name__ == "__main__":
    sys.stdout.write(f"\n{json.dumps(main(sys.argv[1:]))}\n")
