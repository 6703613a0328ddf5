"""Run compiled GPU kernels on the CPU, emulated instruction by instruction, and compare them with float64.

    nice python benchmarks/gpu_emulated.py --zoo --out benchmarks/results/gpu-emulated.json [--hidden 16]
    python benchmarks/gpu_emulated.py --cells lstm gru --hidden 64,100 [--precision ieee,tf32,bf16] [--capability 90]
        [--split 2 [--cluster] [--reread scatter]] [--chosen] [--reverse-order]
    python benchmarks/gpu_emulated.py --random 20 --random-sized 4 --hidden 6 --chosen

Each cell is compiled as for a launch on such a GPU, and its PTX emulated: outputs, last states and every gradient of
ragged clips. A row of the table is a pass of a kernel: its largest error, as a share of the largest value of each
tensor, and the instructions that a thread executes in a step. What a kernel must not do (memory that is not its own,
a missing barrier) is told instead. Neither time nor what ptxas makes of it shows here.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from functools import partial
from itertools import product
from math import isnan
from pathlib import Path
from time import process_time
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

from cello.cells.definition import Cell
from cello.cells.load import load_cell, zoo
from cello.compiler.triton.launch import Tiling
from cello.compiler.triton.spaces import Sizes
from cello.compiler.triton.text import names_of
from cello.compiler.triton.tiling import tiling
from cello.errors import BackendError
from cello.files import write_whole

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from ptx.arithmetic import NotEmulatedError  # noqa: E402
from ptx.launch import Device, emulated  # noqa: E402
from ptx.machine import Order  # noqa: E402
from ptx.memory import KernelError  # noqa: E402
from random_cells import random_cell, random_sized_cell  # noqa: E402
from scans import case, errors, everything, wider  # noqa: E402

PRECISIONS = {"ieee": "highest", "tf32": "high", "bf16": "medium"}
"""What torch calls them."""
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", action="store_true", help="every cell that comes with Cello")
    parser.add_argument("--cells", nargs="+", default=["lstm", "gru"])
    parser.add_argument("--random", type=int, default=0, help="so many random cells, as the tests draw them, instead")
    parser.add_argument("--random-sized", type=int, default=0, help="so many with values of several sizes")
    parser.add_argument("--hidden", default="16")
    parser.add_argument("--precision", default="ieee,tf32,bf16")
    parser.add_argument("--capability", type=int, default=90)
    parser.add_argument("--clips", type=int, default=5)
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--features", type=int, default=7)
    parser.add_argument("--split", type=int, help="programs that share the units of the same clips")
    parser.add_argument("--cluster", action="store_true", help="they are a cluster, and meet in shared memory")
    parser.add_argument("--reread", default="", help="how their kernels are written, as Tiling.reread says")
    parser.add_argument("--chosen", action="store_true", help="the tiling that the compiler's choice is on such a GPU")
    parser.add_argument("--reverse-order", action="store_true", help="warps and blocks run the last first")
    parser.add_argument("--out", type=Path, help="write all rows there as JSON")
    options = parser.parse_args()
    keys = [*product(wanted(options), map(int, options.hidden.split(",")), options.precision.split(","))]
    torch.use_deterministic_algorithms(True)  # which fills torch.empty with NaN
    rows, began = list[Row](), process_time()
    for (name, make), hidden, precision in track(keys, "cells", console=Console(stderr=True)):
        rows += [{"cell": name} | row for row in measured(make(), hidden, precision, options)]
        if options.out:
            about = {"date": f"{date.today()}", "capability": options.capability}
            lines = ",\n".join(map(json.dumps, rows))
            write_whole(options.out, f'{{"about": {json.dumps(about)}, "kernels": [\n{lines}\n]}}\n'.encode())
    said = "\n".join([*table(rows), "", f"{process_time() - began:.0f} s of one core"])
    Console().print(said, soft_wrap=True, markup=False)


def wanted(options: argparse.Namespace) -> list[tuple[str, Callable[[], Cell]]]:
    """The cells that are asked for: what they are called, and what makes them."""
    drawn = [(f"random {seed}", partial(random_cell, seed, 3 + seed % 9)) for seed in range(options.random)]
    of_sizes = range(options.random_sized)
    drawn += [(f"random of sizes {seed}", partial(random_sized_cell, seed, 3 + seed % 6)) for seed in of_sizes]
    names = [*zoo()] if options.zoo else options.cells
    return drawn or [(name, partial(load_cell, name)) for name in names]


def measured(cell: Cell, hidden: int, precision: str, options: argparse.Namespace) -> list[Row]:
    """A row for each pass of a cell's kernel at H units, rounded up to what the cell can have."""
    multiple = cell.multiple
    hidden = -(-hidden // multiple) * multiple
    row: Row = {"hidden": hidden, "precision": precision}
    order = Order(reverse=options.reverse_order)
    device = Device(options.capability, order, of_split(cell, hidden, precision, options), options.chosen)
    sizes = (options.clips, options.frames, options.features, hidden)
    lengths = [max(0, options.frames - n % (options.frames + 1)) for n in range(options.clips)]
    given = case(cell, sizes)
    expected = everything(cell, wider(given, torch.float64), "plain", lengths=lengths)
    torch.set_float32_matmul_precision(PRECISIONS[precision])
    began = process_time()
    try:
        with emulated(device):
            found = everything(cell, given, "triton", lengths=lengths)
    except (BackendError, KernelError, NotEmulatedError) as error:
        return [row | {"pass": "", "fault": f"{error}"}]
    finally:
        torch.set_float32_matmul_precision("highest")
    seconds = round(process_time() - began, 1)
    every = {key: float("inf") if isnan(error) else error for key, error in errors(found, expected).items()}
    passes = {"forward": [*filter(lambda key: not key.startswith("d "), every)]}
    passes["backward"] = [key for key in every if key.startswith("d ")]
    rows = []
    for one in device.ran:
        of, worst = max((every[key], key) for key in passes[one.program.name])
        how = {"blocks": one.grid[0] * one.grid[1], "threads": one.program.threads, "of a step": round(one.of_a_step)}
        rows.append(row | {"pass": one.program.name, "error": of, "of": worst} | how | {"seconds": seconds})
    return rows


def of_split(cell: Cell, hidden: int, precision: str, options: argparse.Namespace) -> Tiling | None:
    """A tiling of as many programs for the same clips as are asked for."""
    if not options.split:
        return None
    found = tiling(names_of(cell), Sizes(cell, options.features, hidden), precision)
    units = max(16 * options.split, found.units if found else 0)
    how = {"split": options.split, "cluster": options.cluster, "reread": options.reread}
    return replace(found or Tiling(16, units, 4), units=units, **how)


def table(rows: list[Row]) -> Iterator[str]:
    """What each pass gave."""
    yield "| cell | H | products | pass | largest error | of | blocks | threads | instructions a step |"
    yield "|---|---:|---|---|---:|---|---:|---:|---:|"
    for row in rows:
        what = f"| {row['cell']} | {row['hidden']} | {row['precision']} |"
        if "fault" in row:
            yield f"{what} | {row['fault']} | | | | |"
            continue
        numbers = f"{row['blocks']} | {row['threads']} | {row['of a step']}"
        yield f"{what} {row['pass']} | {row['error']:.1e} | {row['of']} | {numbers} |"


if __name__ == "__main__":
    main()
