"""Where the time of a kernel goes that does not run at the peak of fused multiply-adds.

    python benchmarks/fma_profile.py [--cells NAME ...] [--sizes BxTxDxH ...] [--rounds 31]

One thread, float32. Each cell's kernel is built several times, each time of its own text with something around its
parts or in their place, and all of them run in turns on the same tensors:

- as it is;
- with the processor's counter read before and after every part of a step: products, loops over units, frames and states
  into tiles and back, packing of matrices, lists of what is to be prefetched;
- with every product taken twice, of which the second is timed: its operands lie where the first left them;
- with all steps reading and writing the same memory, which stays in the cache;
- so, and with functions (sigmoid, tanh) that cost nothing.

The products' time beside that of the peak's loop is the rate at which they run; beside that of the same product taken
again, what they wait for operands and prefetches. Loops are split into functions, by what they take less without them,
loads and stores in the cache, and what they wait for memory. What no part holds is the rest, reading the counter
included. Numbers that the last two kernels compute mean nothing. Of every part the fastest third of all runs counts, as
other programs run beside; products that these interrupt in every run are what is left of the processor time.

Writes benchmarks/results/DATE-fma-profile.json; --out FILE another one.
"""

from __future__ import annotations

import argparse
import ctypes
import re
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from fma_share import CELLS, LOOPS, RESULTS, SIZES, counted, library, loop, passes
from rich import box
from rich.console import Console
from rich.table import Table

from cello.bench.measure import machine
from cello.bench.record import can_save, save
from cello.bench.settings import Size, parse_size
from cello.bench.table import about
from cello.cells.definition import Cell
from cello.cells.load import load_cell
from cello.cells.sizes import size as elements_of
from cello.compiler.c import launch
from cello.compiler.c.text import source
from cello.compiler.kernel import kernel
from cello.compiler.memory import keep_freed_memory

KINDS = ("forward", "backward")
PARTS = ("products", "loops", "tiles", "packing", "queue")
CALLS = {
    "products": ("add_products", "add_ahead", "product", "outer"),
    "tiles": ("load_tile", "store_tile", "find_rows", "load_ahead"),
    "packing": ("pack", "unpack", "fill"),
    "queue": ("queue_step", "clear_prefetches"),
}
TIMERS = """
static long spent[%(parts)d], begun;
#if defined(__x86_64__)
static inline long ticks(void) { return __builtin_ia32_rdtsc(); }
#else
#include <time.h>
static inline long ticks(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000 + now.tv_nsec;
}
#endif
#define TIMED(part, call) do { const long begin_ = ticks(); call; spent[part] += ticks() - begin_; } while (0)
#define TWICE(part, call) do { call; TIMED(part, call); } while (0)
long ticks_now(void) { return ticks(); }
long rows_of_block(void) { return ROWS; }
void take_spent(long *to) { for (int k = 0; k < %(parts)d; k++) to[k] = spent[k], spent[k] = 0; }
"""


class Edit(NamedTuple):
    """How a kernel's text is changed: see this file's first lines."""

    timed: bool = True
    twice: bool = False
    near: bool = False
    no_functions: bool = False


EDITS = {
    "timed": Edit(),
    "products twice": Edit(twice=True),
    "near": Edit(near=True),
    "near, no functions": Edit(near=True, no_functions=True),
    "as it is": Edit(timed=False),
}
"""The last one leaves behind what backward reads."""

NEAR = (
    (r"\(a->keeping \? t : t & 1\)", "(t & 1)"),
    (r"\(a->keeping \? t \+ 1 : ~t & 1\)", "(~t & 1)"),
    (r"if \(a->keeping\) kept \+= [^;]+;", ";"),
    (r"kept -= [^;]+;", ";"),
    (r"history \+ \(t \*", "history + ((t & 1) *"),
    (r"history \+ \(t \+ slot( - 1)?\) \*", r"history + (slot) *"),
    (r"offset\.(history|kept)", "0"),
    (r"\+ \(0 \+ c\.steps \* rows\)", "+ (0)"),
    (r"\{(a->(?:d_)?outputs), (a->T \* \w+), \w+\}", r"{\1, \2, 0}"),
    (r"a->x_clip_stride, a->x_frame_stride\}", "a->x_clip_stride, 0}"),
)
"""What makes all steps read and write the same memory: patterns of the text, and what is written in their place."""


def edited(text: str, edit: Edit) -> str:
    """A kernel's text with its parts timed, or some of them changed."""
    if edit.near:
        for pattern, instead in NEAR:
            text, count = re.subn(pattern, instead, text)
            if not count and "slot" not in pattern:  # no cell is without the others
                raise ValueError(f"kernels are no longer written as this file reads them: {pattern} is nowhere")
    if not edit.timed:
        return text
    head, own = text.split("struct arguments {", 1)
    lines = [TIMERS % {"parts": len(PARTS) + 1}]
    for part, names in CALLS.items():
        verb = "TWICE" if edit.twice and part == "products" else "TIMED"
        number = PARTS.index(part)
        lines += [f"#define {name}(...) {verb}({number}, {name}(__VA_ARGS__))" for name in names]
    if edit.no_functions:
        lines += [f"#define {name}(v) (v)" for name in ("sigmoid", "hyperbolic", "exponential")]
    number = PARTS.index("loops")
    own = re.sub(
        r"^(    +)for \(long j = 0; j < \w+; j \+= V\) \{\n.*?^\1\}$",
        lambda m: f"{m[1]}begun = ticks();\n{m[0]}\n{m[1]}spent[{number}] += ticks() - begun;",
        own,
        flags=re.MULTILINE | re.DOTALL,
    )
    for kind in KINDS:
        own = own.replace(
            f"int {kind}(const struct arguments *a) {{", f"static int own_{kind}(const struct arguments *a) {{"
        )
        lines.append(f"struct arguments;\nstatic int own_{kind}(const struct arguments *a);")
        own += f"""
int {kind}(const struct arguments *a) {{
    const long begin = ticks();
    const int failed = own_{kind}(a);
    spent[{len(PARTS)}] += ticks() - begin;
    return failed;
}}"""
    return "\n".join([head, *lines, "struct arguments {" + own])


class Variant(NamedTuple):
    """A kernel whose text was changed, on the tensors of the unchanged one."""

    library: ctypes.CDLL
    calls: dict[str, launch.Call]

    def run(self, kind: str) -> None:
        """One pass."""
        getattr(self.library, kind)(self.calls[kind].values.buffer_info()[0])

    def spent(self) -> list[int]:
        """Ticks of each part and of the whole since this was asked last."""
        found = (ctypes.c_long * (len(PARTS) + 1))()
        self.library.take_spent(found)
        return [*found]


def variants(cell: Cell, size: Size) -> dict[str, Variant]:
    """Its kernels with the names of their edits."""
    calls = {kind: run.func.__self__ for kind, run in passes(cell, size, 1).items()}  # type: ignore[attr-defined]
    found = dict[str, Variant]()
    for label, edit in EDITS.items():

        def changed(*given: Any, edit: Edit = edit, **options: Any) -> str:
            return edited(source(*given, **options), edit)

        with patch.object(launch, "source", changed):
            found[label] = Variant(launch.compiled.__wrapped__(cell, torch.float32).library, calls)
    return found


def up(n: int, unit: int) -> int:
    """The least multiple of the unit that is no less."""
    return -(-n // unit) * unit


def padded(cell: Cell, size: Size, vec: int, block: int) -> tuple[int, int]:
    """Multiply-adds of products with what fills up vecs and blocks of rows, forward and backward; see ``counted``."""
    plan, forward, onward, outer = kernel(cell), 0, 0, 0
    nodes, frames = plan.graph.nodes, size.batch * size.frames
    for each in plan.sums:
        for matrix, vector in each.products:
            high, low = (elements_of(text, size.inputs, size.hidden) for text in nodes[matrix].shape)
            forward += up(high, vec) * low
            outer += up(high, vec) * up(low, block)
            onward += up(low, vec) * high * (nodes[vector].op != "input")
    return frames * forward, frames * (outer + onward)


def least(found: list[float]) -> float:
    """The mean of the third of them that is least: what other programs interrupted does not count."""
    return fmean(sorted(found)[: -(-len(found) // 3)])


def timed(run: Callable[[], Any]) -> float:
    """Seconds of a run, by its own processor time."""
    time.sleep(0.0005)  # so that the processor is given for a while
    start = time.thread_time()
    run()
    return time.thread_time() - start


def seconds_of_tick(library: ctypes.CDLL) -> float:
    """How long the processor's counter takes from one number to the next."""
    library.ticks_now.restype = ctypes.c_long
    start, begin = time.perf_counter(), library.ticks_now()
    time.sleep(0.05)
    return (time.perf_counter() - start) / int(library.ticks_now() - begin)


def measure(name: str, size: Size, rounds: int) -> dict[str, Any]:
    """One row of the record: of each pass the parts of its time."""
    cell = load_cell(name)
    kernels = variants(cell, size)
    tick = seconds_of_tick(kernels["timed"].library)
    seconds: dict[tuple[str, str, str], list[float]] = {}
    peaks = []
    for _ in range(rounds):
        peaks.append(timed(partial(loop, LOOPS)))
        for kind in KINDS:
            for label, each in kernels.items():
                parts = {"whole": timed(partial(each.run, kind))}
                if EDITS[label].timed:
                    *ticks, whole = each.spent()
                    ticks.append(whole - sum(ticks))
                    parts |= {part: tick * count for part, count in zip((*PARTS, "rest"), ticks, strict=True)}
                for part, length in parts.items():
                    seconds.setdefault((kind, label, part), []).append(length)
    rate = loop(LOOPS) / least(peaks)
    units = kernels["timed"].library.vec_length(), kernels["timed"].library.rows_of_block()
    found: dict[str, Any] = {"cell": name, "size": size, "peak_gfma_s": rate / 1e9}
    for kind, needed, filled in zip(KINDS, counted(cell, size), padded(cell, size, *units), strict=True):
        of = {(label, part): least(each) for (own, label, part), each in seconds.items() if own == kind}
        found[kind] = parted(of, needed / rate, filled / rate)
    return found


def uninterrupted(counted_s: float, left_s: float) -> float:
    """What the counter says a part takes or, if that is clearly more, what is left for it of the processor time."""
    return counted_s if counted_s < 1.03 * left_s else left_s


def parted(of: dict[tuple[str, str], float], needed: float, filled: float) -> dict[str, Any]:
    """Shares of a kernel's time that add up to 1, and rates of its products; given are seconds.

    ``needed`` is what the peak's loop takes for the multiply-adds that count, ``filled`` for those of padding too.
    """
    others = sum(of["timed", part] for part in (*PARTS, "rest") if part != "products")
    products = uninterrupted(of["timed", "products"], of["timed", "whole"] - others)
    again = uninterrupted(of["products twice", "products"], of["products twice", "whole"] - of["timed", "whole"])
    whole = products + others
    seconds = {
        "at the peak": needed,
        "padding": filled - needed,
        "blocks": again - filled,
        "operands": products - again,
        "functions": of["near", "loops"] - of["near, no functions", "loops"],
        "loads and stores": of["near, no functions", "loops"],
        "memory": of["timed", "loops"] - of["near", "loops"],
        "frames": of["timed", "tiles"],
        "packing": of["timed", "packing"],
        "prefetching": of["timed", "queue"],
        "rest": of["timed", "rest"],
    }
    own = of["as it is", "whole"]
    return {
        "share": needed / own,
        "seconds": own,
        "timers": whole / own - 1,
        "rate": filled / products,
        "rate_again": filled / again,
        "parts": {part: each / whole for part, each in seconds.items()},
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=CELLS)
    parser.add_argument("--sizes", nargs="+", type=parse_size, default=SIZES)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    out = options.out or RESULTS / f"{date.today()}-fma-profile.json"
    library()
    can_save(out)
    console = Console(width=200, highlight=False)
    result: dict[str, Any] = {"machine": machine(keeps_memory=keep_freed_memory()), "rows": []}
    table = Table("cell", "B×T×D×H", "pass", box=box.SIMPLE_HEAD)
    for column in ("share", "rate", "again", "timers"):
        table.add_column(column, justify="right")
    for name in options.cells:
        for size in options.sizes:
            row = measure(name, size, options.rounds)
            result["rows"].append(row)
            for kind in KINDS:
                each = row[kind]
                if len(table.columns) < 8:
                    for column in each["parts"]:
                        table.add_column(column, justify="right")
                figures = [each[key] for key in ("share", "rate", "rate_again", "timers")]
                shown = [f"{100 * value:.1f}" for value in (*figures, *each["parts"].values())]
                table.add_row(name, str(size), kind, *shown)
            save(result, out)
    for line in about(result["machine"]):
        console.print(line, highlight=False)
    console.print(table)
    console.print(out, soft_wrap=True)


if __name__ == "__main__":
    main()
