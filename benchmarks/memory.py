"""Measure the memory of one LSTM step, forward and backward: C kernels, plain back end, nn.LSTM.

    python benchmarks/memory.py [--sizes BxTxDxH ...] [--x-gradient] [--out FILE]

Counted, not sampled: a small library put before malloc (count_allocations.c, LD_PRELOAD, so Linux with glibc and a C
compiler) sees every heap allocation of the process: torch's tensors, a kernel's own room, oneDNN's. torch's profiler
would miss the last two, and the resident size what is freed and kept. A figure is the most that was allocated at once
during a step, less what was allocated before it (frames, weights); so it holds the outputs, what is kept for the
backward pass, gradients and scratch. Each side runs in a process of its own, with two steps before the counted ones:
what is made once and stays (compiled code, packed weights) is not in it. One thread, float32.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from cello.bench.measure import Case, backends, machine, sides
from cello.bench.peers import PEERS
from cello.bench.record import can_save, save
from cello.bench.settings import SIZES, Size, parse_size
from cello.bench.table import about
from cello.cells.load import load_cell

HERE = Path(__file__).parent
OUT = HERE / "results" / f"{date.today()}-memory.json"
CELL = "lstm"
MIB = 2**20


def child(side: str, size: Size, x_gradient: bool) -> int:
    """Bytes that one step of a side takes, in this process, which counts."""
    torch.set_num_threads(1)
    usable = () if side == PEERS[CELL].name else (side,)
    step = sides(Case(CELL, load_cell(CELL), size, 1, x_gradient), usable, torch.float32)[side]
    counter = ctypes.CDLL(None)
    for name in ("count_from_now", "most_counted"):
        getattr(counter, name).restype = ctypes.c_long

    def most() -> int:
        before: int = counter.count_from_now()
        step()
        return int(counter.most_counted()) - before

    before = counter.count_from_now()
    known = torch.empty(MIB, dtype=torch.uint8)
    if not MIB <= counter.most_counted() - before < 1.1 * MIB:
        raise SystemExit("the counting library does not see torch's allocations")
    del known
    step()
    step()
    return max(most() for _ in range(3))


def in_a_new_process(library: Path, side: str, size: Size, x_gradient: bool) -> int:
    """What :func:`child` returns, from a process whose allocations are counted."""
    shape = str(size).replace("×", "x")
    command = [sys.executable, __file__, "--child", side, "--sizes", shape, *["--x-gradient"] * x_gradient]
    environment = {**os.environ, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"}
    return int(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout)


def counting_library(folder: str) -> Path:
    """count_allocations.c, compiled."""
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if compiler is None or sys.platform != "linux":
        raise SystemExit("counting allocations needs Linux and a C compiler on PATH")
    library = Path(folder) / "count_allocations.so"
    flags = ("-O2", "-shared", "-fPIC", "-fno-builtin")
    subprocess.run([compiler, *flags, str(HERE / "count_allocations.c"), "-o", str(library)], check=True)
    return library


def main() -> None:
    """Count, print, write; or, as a child, print one number."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=parse_size, default=SIZES)
    parser.add_argument("--x-gradient", action="store_true", help="also the gradient of the frames")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(child(options.child, options.sizes[0], options.x_gradient))  # noqa: T201
        return
    can_save(options.out)
    names = [*backends(torch.float32)[0], PEERS[CELL].name]
    result = {"machine": machine(keeps_memory=False), "cell": CELL, "x_gradient": options.x_gradient, "rows": []}
    title = f"{CELL}, MiB of one step, forward and backward, gradients of weights{' and x' * options.x_gradient}"
    table = Table("B×T×D×H", box=box.SIMPLE_HEAD)
    for name in names:
        table.add_column(name, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        library = counting_library(folder)
        for size in options.sizes:
            counted = {name: in_a_new_process(library, name, size, options.x_gradient) for name in names}
            result["rows"].append({"size": size, "bytes": counted})
            table.add_row(str(size), *(f"{counted[name] / MIB:.2f}" for name in names))
            save(result, options.out)
    console = Console()
    for line in [*about(result["machine"]), title]:
        console.print(line, highlight=False)
    console.print(table)
    console.print(options.out, soft_wrap=True)


if __name__ == "__main__":
    main()
