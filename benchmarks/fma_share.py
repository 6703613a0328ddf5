"""Measure kernels in shares of what this machine's fused multiply-adds can do, in the same run.

    python benchmarks/fma_share.py [--precision bf16] [--cells NAME ...] [--sizes BxTxDxH ...] [--rounds 21]

The peak is that of a loop of 16 independent sums, one thread, run before every round. What is counted are the multiply-
adds of the cell's products: forward G·H·(D + H) for each frame of each clip, backward as many for the matrices' and as
many again, but for the frame's, for what goes on to the states before; padding and functions count nothing. One thread
is timed by its own processor time, as other programs run beside; two threads by the clock, beside what they gain for
the loop itself, which says what there was to gain: 2 on an idle machine of two cores. For that the loop runs sixteen
times as long, as a thread takes a tenth of a millisecond to begin.

With ``--precision bf16`` kernels in float32 and in bfloat16 run in turns instead, one thread, each in shares of the
loop in its own precision.

Writes benchmarks/results/DATE-fma-share.json, or DATE-bf16.json; --out FILE another one.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import threading
import time
from collections.abc import Callable
from datetime import date
from functools import cache, partial
from importlib import resources
from math import prod
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from cello.bench.measure import machine
from cello.bench.record import can_save, save
from cello.bench.settings import Size, parse_size
from cello.bench.table import about
from cello.cells.definition import Cell
from cello.cells.load import load_cell
from cello.cells.sizes import size as elements_of
from cello.compiler.backends import PRECISIONS
from cello.compiler.c.launch import BatchLayout, Call, by_length, compiled, inputs_of, run_backward, run_forward
from cello.compiler.c.text import with_headers
from cello.compiler.inputs import with_fixed
from cello.compiler.kernel import kernel
from cello.compiler.memory import keep_freed_memory
from cello.native.build import load

RESULTS = Path(__file__).parent / "results"
CELLS = ("lstm", "gru", "rnn", "lstm-peephole-full")
SIZES = tuple(map(parse_size, ("64x49x39x64", "64x49x39x128", "64x49x39x256", "128x49x39x128")))
LOOPS = 200_000
LONG_LOOPS = 16 * LOOPS
CLOCK = -1
"""Beside the numbers of threads: one thread by the clock."""

PEAK = """
double fused_multiply_adds(long rounds, real *result) {
    vec sum[16], a = broadcast(0.999f), b = broadcast(0.001f);
    for (int k = 0; k < 16; k++) sum[k] = broadcast(k);
    for (long n = 0; n < rounds; n++) {
#pragma GCC unroll 16
        for (int k = 0; k < 16; k++) sum[k] = sum[k] * a + b;
    }
    for (int k = 0; k < 16; k++) store(result + k * V, sum[k]);
    return 16.0 * V * rounds;
}
"""


IN_PAIRS = PEAK.replace("sum[k] * a + b", "add_product(sum[k], a[0], b)").replace("16.0 * V", "32.0 * V")


@cache
def library(precision: str = "float32") -> ctypes.CDLL:
    bf16 = precision == "bf16"
    pairs = resources.files("cello.compiler.c").joinpath("bf16.h").read_text("utf-8") + IN_PAIRS if bf16 else PEAK
    found = load(with_headers("float", pairs, bf16=bf16), "peak")
    found.fused_multiply_adds.restype = ctypes.c_double
    return found


def loop(rounds: int, precision: str = "float32") -> float:
    """Run the loop; how many multiply-adds that were."""
    return float(library(precision).fused_multiply_adds(ctypes.c_long(rounds), (ctypes.c_float * 256)()))


def peak(precision: str = "float32") -> float:
    """Multiply-adds a second of one thread."""
    start = time.thread_time()
    count = loop(LOOPS, precision)
    return count / (time.thread_time() - start)


def in_two_threads() -> None:
    """The same loop, half of it in each of two threads."""
    other = threading.Thread(target=loop, args=(LONG_LOOPS // 2,))
    other.start()
    loop(LONG_LOOPS // 2)
    other.join()


def counted(cell: Cell, size: Size) -> tuple[int, int]:
    """Multiply-adds of the products of one pass forward, and of one backward without the frames' derivative."""
    plan, forward, onward = kernel(cell), 0, 0
    nodes, frames = plan.graph.nodes, size.batch * size.frames
    for each in plan.sums:
        for matrix, vector in each.products:
            count = prod(elements_of(text, size.inputs, size.hidden) for text in nodes[matrix].shape)
            forward += count
            onward += count * (nodes[vector].op != "input")
    return frames * forward, frames * (forward + onward)


def passes(cell: Cell, size: Size, threads: int, precision: str = "float32") -> dict[str, Callable[[], Any]]:
    """The two passes of the kernel alone, on the same tensors every time, without what is done around them."""
    torch.set_num_threads(threads)
    x = torch.randn(size.batch, size.frames, size.inputs)
    shapes, states = cell.parameters(size.inputs, size.hidden).items(), cell.state_sizes(size.inputs, size.hidden)
    weights = {name: torch.randn(shape) * size.hidden**-0.5 for name, shape in shapes}
    whole = with_fixed(cell, x, size.hidden, weights)
    given = inputs_of(cell, whole, {}, tuple(x.new_zeros(size.batch, *each) for each in states))
    code = compiled(cell, torch.float32, precision)
    layout = BatchLayout(*by_length(x, None), size.hidden, reverse=False)
    calls: dict[str, Call] = {}

    def known(call: Call, kind: str) -> None:
        calls[kind] = call
        run(call, kind)

    run = Call.run
    with patch.object(Call, "run", known):
        outputs, last, saved = run_forward(code, layout, x, given, None)
        upstream: list[Tensor | None] = [torch.randn_like(outputs), *[None] * len(last)]
        run_backward(code, layout, x, given, saved, upstream, wanted=[False, *[True] * len(given)])
    return {kind: partial(call.run, kind) for kind, call in calls.items()}


def timed(run: Callable[[], Any], clock: Callable[[], float]) -> float:
    start = clock()
    run()
    return clock() - start


def thread_start(rounds: int) -> float:
    """Seconds that a call of next to nothing takes longer with two threads than with one."""
    runs = {n: passes(load_cell("rnn"), Size(64, 2, 1, 1), n)["forward"] for n in (1, 2)}
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(10 * rounds):
        for n, run in runs.items():
            seconds[n].append(timed(run, time.perf_counter))
    return median(seconds[2]) - median(seconds[1])


def measure(name: str, size: Size, rounds: int) -> dict[str, Any]:
    """One row of the record: shares of the peak, with seconds, and what two threads gain."""
    cell = load_cell(name)
    by_threads = {threads: passes(cell, size, threads) for threads in (1, 2)}
    runs = {kind: {n: by_threads[n][kind] for n in by_threads} for kind in by_threads[1]}
    seconds: dict[tuple[str, int], list[float]] = {}
    peaks = []
    loops: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        peaks.append(peak())
        loops[1].append(timed(partial(loop, LONG_LOOPS), time.perf_counter))
        loops[2].append(timed(in_two_threads, time.perf_counter))
        for kind, run in runs.items():
            seconds.setdefault((kind, 1), []).append(timed(run[1], time.thread_time))
            seconds.setdefault((kind, CLOCK), []).append(timed(run[1], time.perf_counter))
            seconds.setdefault((kind, 2), []).append(timed(run[2], time.perf_counter))
    found: dict[str, Any] = {"cell": name, "size": size, "peak_gfma_s": median(peaks) / 1e9}
    found["loop_two_threads"] = median(loops[1]) / median(loops[2])
    for kind, count in zip(runs, counted(cell, size), strict=True):
        one = median(seconds[kind, 1])
        found[kind] = {
            "gfma": count / 1e9,
            "seconds": one,
            "share": count / one / median(peaks),
            "two_threads": median(seconds[kind, CLOCK]) / median(seconds[kind, 2]),
        }
    return found


def measure_precisions(name: str, size: Size, rounds: int) -> dict[str, Any]:
    """One row of the record with both precisions in turns."""
    cell = load_cell(name)
    runs = {precision: passes(cell, size, 1, precision) for precision in PRECISIONS}
    seconds: dict[tuple[str, str], list[float]] = {}
    peaks: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    for _ in range(rounds):
        for precision in PRECISIONS:
            peaks[precision].append(peak(precision))
        for kind in ("forward", "backward"):
            for precision in PRECISIONS:
                run = runs[precision][kind]
                seconds.setdefault((precision, kind), []).append(timed(run, time.thread_time))
    count = dict(zip(("forward", "backward"), counted(cell, size), strict=True))
    found: dict[str, Any] = {"cell": name, "size": size}
    for precision in PRECISIONS:
        rate = median(peaks[precision])
        times = {kind: median(seconds[precision, kind]) for kind in count}
        shares = {kind: count[kind] / times[kind] / rate for kind in count}
        found[precision] = {"peak_gfma_s": rate / 1e9, "seconds": times, "share": shares}
    whole, half = (found[precision]["seconds"] for precision in PRECISIONS)
    found["faster"] = {kind: whole[kind] / half[kind] for kind in count}
    found["faster"]["both"] = sum(whole.values()) / sum(half.values())
    return found


def compare(options: argparse.Namespace, result: dict[str, Any], out: Path) -> Table:
    """The table of both precisions, written row by row."""
    table = Table("cell", "B×T×D×H", box=box.SIMPLE_HEAD)
    for column in ("float32, ms: forward", "backward", "bf16, ms: forward", "backward", "faster: forward", "backward"):
        table.add_column(column, justify="right")
    table.add_column("both", justify="right")
    for name in options.cells:
        for size in options.sizes:
            row = measure_precisions(name, size, options.rounds)
            result["rows"].append(row)
            times = [f"{1e3 * s:.2f}" for precision in PRECISIONS for s in row[precision]["seconds"].values()]
            table.add_row(name, str(size), *times, *(f"{gain:.2f}×" for gain in row["faster"].values()))
            save(result, out)
    return table


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=CELLS)
    parser.add_argument("--sizes", nargs="+", type=parse_size, default=SIZES)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    bf16 = options.precision == "bf16"
    out = options.out or RESULTS / f"{date.today()}-{'bf16' if bf16 else 'fma-share'}.json"
    library()
    can_save(out)
    console = Console(width=200, highlight=False)
    result: dict[str, Any] = {"machine": machine(keeps_memory=keep_freed_memory()), "rows": []}
    table = compare(options, result, out) if bf16 else shares_of_peak(options, result, out)
    result["load_after"] = os.getloadavg()[0]
    save(result, out)
    for line in about(result["machine"]):
        console.print(line, highlight=False)
    console.print(table)
    console.print(out, soft_wrap=True)


def shares_of_peak(options: argparse.Namespace, result: dict[str, Any], out: Path) -> Table:
    """The table of shares, written row by row."""
    result["thread_start_s"] = thread_start(options.rounds)
    table = Table("cell", "B×T×D×H", box=box.SIMPLE_HEAD)
    for column in ("peak, G/s", "forward", "backward", "2 threads: loop", "forward", "backward"):
        table.add_column(column, justify="right")
    for name in options.cells:
        for size in options.sizes:
            row = measure(name, size, options.rounds)
            result["rows"].append(row)
            both = row["forward"], row["backward"]
            shares, gains = [f"{each['share']:.1%}" for each in both], [f"{each['two_threads']:.2f}×" for each in both]
            gains = [f"{row['loop_two_threads']:.2f}×", *gains]
            table.add_row(name, str(size), f"{row['peak_gfma_s']:.1f}", *shares, *gains)
            save(result, out)
    return table


if __name__ == "__main__":
    main()
