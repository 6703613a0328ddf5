"""Measure kernels in shares of what this machine's fused multiply-adds can do, in the same run.

    python benchmarks/fma_share.py [--cells NAME ...] [--sizes BxTxDxH ...] [--rounds 21] [--out FILE]

The peak is that of a loop of 16 independent sums, one thread, run before every round. What is counted are the multiply-
adds of the cell's products: forward G·H·(D + H) for each frame of each clip, backward as many for the matrices' and as
many again, but for the frame's, for what goes on to the states before; padding and functions count nothing. One thread
is timed by its own processor time, as other programs run beside; two threads by the clock, beside what they gain for
the loop itself, which is 2 on an idle machine and says what there was to gain.

Writes benchmarks/results/DATE-fma-share.json.
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
from cello.compiler.c.launch import BatchLayout, Call, by_length, compiled, inputs_of, run_backward, run_forward
from cello.compiler.c.text import with_runtime
from cello.compiler.inputs import with_fixed
from cello.compiler.kernel import kernel
from cello.compiler.memory import keep_freed_memory
from cello.native.build import load

OUT = Path(__file__).parent / "results" / f"{date.today()}-fma-share.json"
CELLS = ("lstm", "gru", "rnn", "lstm-peephole-full")
SIZES = tuple(map(parse_size, ("64x49x39x64", "64x49x39x128", "64x49x39x256", "128x49x39x128")))
LOOPS = 200_000
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


@cache
def library() -> ctypes.CDLL:
    found = load(with_runtime("float", PEAK), "peak")
    found.fused_multiply_adds.restype = ctypes.c_double
    return found


def loop(rounds: int) -> float:
    """Run the loop; how many multiply-adds that were."""
    return float(library().fused_multiply_adds(ctypes.c_long(rounds), (ctypes.c_float * 256)()))


def peak() -> float:
    """Multiply-adds a second of one thread."""
    start = time.thread_time()
    count = loop(LOOPS)
    return count / (time.thread_time() - start)


def in_two_threads() -> None:
    """The same loop, half of it in each of two threads."""
    other = threading.Thread(target=loop, args=(LOOPS // 2,))
    other.start()
    loop(LOOPS // 2)
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


def passes(cell: Cell, size: Size, threads: int) -> dict[str, Callable[[], Any]]:
    """The two passes of the kernel alone, on the same tensors every time, without what is done around them."""
    torch.set_num_threads(threads)
    x = torch.randn(size.batch, size.frames, size.inputs)
    shapes, states = cell.parameters(size.inputs, size.hidden).items(), cell.state_sizes(size.inputs, size.hidden)
    weights = {name: torch.randn(shape) * size.hidden**-0.5 for name, shape in shapes}
    whole = with_fixed(cell, x, size.hidden, weights)
    given = inputs_of(cell, whole, {}, tuple(x.new_zeros(size.batch, *each) for each in states))
    code, layout = compiled(cell, torch.float32), BatchLayout(*by_length(x, None), size.hidden, reverse=False)
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
        loops[1].append(timed(partial(loop, LOOPS), time.perf_counter))
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


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=CELLS)
    parser.add_argument("--sizes", nargs="+", type=parse_size, default=SIZES)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    library()
    can_save(options.out)
    console = Console()
    result: dict[str, Any] = {"machine": machine(keeps_memory=keep_freed_memory()), "rows": []}
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
            save(result, options.out)
    result["load_after"] = os.getloadavg()[0]
    save(result, options.out)
    for line in about(result["machine"]):
        console.print(line, highlight=False)
    console.print(table)
    console.print(options.out, soft_wrap=True)


if __name__ == "__main__":
    main()
