"""Time cells of papers and repositories: their eager loops in torch against Cello's kernels in C.

    python benchmarks/cells_real.py [--cells NAME ...] [--sizes BxTxDxH ...] [--rounds 7] [--out FILE]
    python benchmarks/cells_real.py --docs

The first measures and writes benchmarks/results/DATE-real-cells.json, anew after every cell; of cells that are not
named it keeps what stood there. The second writes the table of docs/cells.md from the newest of these files and
measures nothing. The cells are those of tests/real_cells.

A pass is forward and backward, float32, one thread, gradients of all weights and none of the frames, as in a first
layer. The loop is what its source writes, gates stacked in one product. All sides of a cell run in turn within one
process, and times are the processor's, as other programs may run beside; ratios are medians over rounds of two sides in
the same round. Before, everything is compared in float64:
``differences`` are the largest ones from the eager loop, relative to the largest element.

A cell's floor is how long its products take at the rate of torch.mm on square matrices of 1024, and its bytes at that
of copying 64 MB, both measured just before. Products: 2·B·T operations each forward for an element of its matrix, as
many for the gradient of its matrix where it is learned, as many for that of its vector where that is not the frame;
products with the matrices of heads, and of two of these, count with both gradients, sums over units count nothing.
Bytes, of four each: the frames read twice; the outputs written, and their gradient read; every other state and every
sum of products written and read again, for backward needs them; the weights read twice and their gradients written.
Functions unit by unit count nothing. Exponentials and inverses of matrices are taken once a pass, by torch in the loop:
how long Cello's take with their gradients, measured just before, is part of the floor.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from cello.bench.measure import alternate, machine, torch_threads  # noqa: E402
from cello.bench.record import can_save, save  # noqa: E402
from cello.bench.settings import Size, parse_size  # noqa: E402
from cello.cells.definition import Cell  # noqa: E402
from cello.cells.graph import MULTIPLYING, reached  # noqa: E402
from cello.cells.sizes import size as elements_of  # noqa: E402
from cello.cells.summed import summed  # noqa: E402
from cello.compiler.inputs import fixed_tensors  # noqa: E402
from cello.compiler.kernel import kernel  # noqa: E402
from cello.compiler.loop_invariant import loop_invariant, recipe  # noqa: E402
from cello.compiler.memory import keep_freed_memory  # noqa: E402
from cello.compiler.scan import scan  # noqa: E402
from cello.files import write_whole  # noqa: E402
from real_cells.equal import EQUAL, differences  # noqa: E402
from real_cells.real import RealCell, as_parameters, loop, weights  # noqa: E402
from real_cells.table import REAL_CELLS  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
DOCS = ROOT / "docs" / "cells.md"
SIZES = (Size(64, 49, 39, 64), Size(128, 49, 39, 128))
BACKENDS = ("plain", "c")
SQUARE, COPIED, RUNS = 1024, 2**24, 5
BEGIN, END = "<!-- real cells -->", "<!-- end of real cells -->"
Row = dict[str, Any]


def seconds_of(run: Callable[[], object]) -> float:
    """Processor time: the median of some runs after one to warm up."""
    seconds = []
    for _ in range(1 + RUNS):
        began = time.process_time()
        run()
        seconds.append(time.process_time() - began)
    return median(seconds[1:])


def rates() -> tuple[float, float]:
    """Operations a second of torch.mm, bytes read and written a second of a copy; both in units of 1e9."""
    a, b = torch.randn(SQUARE, SQUARE), torch.randn(SQUARE, SQUARE)
    source, target = torch.ones(COPIED), torch.zeros(COPIED)
    gemm = 2 * SQUARE**3 / seconds_of(lambda: torch.mm(a, b))
    return gemm / 1e9, 2 * 4 * COPIED / seconds_of(lambda: target.copy_(source)) / 1e9


def counted(cell: Cell, size: Size) -> tuple[int, int]:
    """Operations of the products and bytes of one pass."""
    plan, fixed = kernel(summed(cell)), cell.fixed()
    nodes, frames, operations = plan.graph.nodes, size.batch * size.frames, 0

    def elements(k: int) -> int:
        return prod(elements_of(each, size.inputs, size.hidden) for each in nodes[k].shape)

    output, *others = [prod(sizes) for sizes in cell.state_sizes(size.inputs, size.hidden)]
    kept = sum(others)
    for each in plan.sums:
        kept += elements(each.node)
        for matrix, vector in each.products:
            learned = any(nodes[k].op == "parameter" and nodes[k].name not in fixed for k in reached(nodes, [matrix]))
            frame = nodes[vector].op == "input"
            operations += (1 + learned + (not frame)) * 2 * frames * elements(matrix)
    for stage in plan.stages:
        heads = [nodes[k].args[0] for k in stage.reductions if nodes[k].op in ("row_sum", "column_sum")]
        operations += 3 * 2 * frames * sum(map(elements, heads))
        for k in (each for each in stage.reductions if nodes[each].op in MULTIPLYING):
            columns = elements_of(nodes[k].shape[1], size.inputs, size.hidden)
            operations += 3 * 2 * frames * elements(nodes[k].args[0]) * columns
    weighed = sum(prod(shape) for shape in cell.parameters(size.inputs, size.hidden).values())
    return operations, 4 * (frames * (2 * size.inputs + 2 * output + 2 * kept) + 3 * weighed)


def matrix_functions(cell: Cell, size: Size) -> float:
    """Milliseconds of a pass for matrices that are exponentials or inverses of parameters; 0 for none."""
    values, wanted, _ = recipe(summed(cell))
    if not any(op in ("expm", "inverse") for _, op, *_ in values):
        return 0.0
    shapes = cell.parameters(size.inputs, size.hidden).items()
    weights = {name: (torch.randn(shape) * size.hidden**-0.5).requires_grad_() for name, shape in shapes}
    fixed = {name: value.float() for name, value in fixed_tensors(cell, size.inputs, size.hidden).items()}
    computed = [k for k, op, *_ in values if k in wanted and op != "parameter"]

    def run() -> None:
        found = loop_invariant(values, {**weights, **fixed}, size.inputs, size.hidden)
        made = [found[k] for k in computed]
        torch.autograd.grad(made, [*weights.values()], [*map(torch.ones_like, made)], allow_unused=True)

    return 1e3 * seconds_of(run)


def passes(one: RealCell, size: Size) -> dict[str, Callable[[], Any]]:
    """One forward and backward pass of every side, on the same frames and weights."""
    assert one.cell is not None
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(size.batch, size.frames, size.inputs, generator=draw)
    output = one.cell.output_size(size.inputs, size.hidden)
    upstream = torch.randn(size.batch, size.frames, output, generator=draw)
    own = weights(one, size.inputs, size.hidden, torch.float32)
    parts = as_parameters(one, own, size.inputs, size.hidden)
    parameters = {name: part.detach().clone().requires_grad_() for name, part in parts.items()}

    def both(outputs: Tensor, leaves: Iterable[Tensor]) -> None:
        torch.autograd.grad(outputs, [*leaves], upstream, allow_unused=True)

    def through(backend: str) -> Callable[[], None]:
        cell = one.cell
        assert cell is not None
        return lambda: both(scan(cell, x, parameters, backend=backend).outputs, parameters.values())

    found: dict[str, Callable[[], Any]] = {"eager": lambda: both(loop(one, x, own, size.hidden)[0], own.values())}
    return found | {backend: through(backend) for backend in BACKENDS}


def measure(one: RealCell, size: Size, rounds: int) -> Row:
    """Milliseconds of every side, ratios and the floor, at one size."""
    assert one.cell is not None
    operations, size_bytes = counted(one.cell, size)
    gemm, copying = rates()
    functions = matrix_functions(one.cell, size)
    floor = operations / gemm / 1e6 + size_bytes / copying / 1e6 + functions
    times = alternate(passes(one, size), rounds, clock=time.process_time)
    pairs = {side: [own / c for own, c in zip(times[side], times["c"], strict=True)] for side in ("eager", "plain")}
    return {
        "operations": operations,
        "bytes": size_bytes,
        "milliseconds": {side: median(found) for side, found in times.items()},
        "all_milliseconds": times,
        "ratio": {side: median(found) for side, found in pairs.items()},
        "floor_milliseconds": floor,
        "matrix_functions_milliseconds": functions,
        "above_floor": median(times["c"]) / floor,
        "gemm_gflops": gemm,
        "copy_gbytes": copying,
    }


def row_of(one: RealCell, sizes: Iterable[Size], rounds: int) -> Row:
    """One cell's part of the record."""
    row: Row = {"name": one.name, "source": one.source, "waiting": one.waiting, "sizes": {}}
    if one.cell is None:
        return row
    row["differences"] = {backend: max(differences(one, backend).values()) for backend in BACKENDS}
    with torch_threads(1):
        row["sizes"] = {str(size): measure(one, size, rounds) for size in sizes}
    return row


def newest() -> Path | None:
    """The last of the results by its date."""
    return max(RESULTS.glob("*-real-cells.json"), default=None)


def said(row: Mapping[str, Any] | None) -> list[str]:
    """Eager ÷ C, C ÷ floor and plain ÷ C, each at all sizes."""
    found = [(row or {}).get("sizes", {}).get(str(size)) for size in SIZES]
    if None in found:
        return ["", "", ""]
    figures = [[each["ratio"]["eager"], each["above_floor"], each["ratio"]["plain"]] for each in found]
    return [", ".join(f"{one:.1f}" for one in each) for each in zip(*figures, strict=True)]


def table(record: Mapping[str, Any], cells: Iterable[RealCell] = REAL_CELLS) -> str:
    """The table of docs/cells.md: cells in their order, with what the record knows of them."""
    rows = {row["name"]: row for row in record["rows"]}
    machine = record["machine"]
    lines = [
        f"At {' and '.join(map(str, SIZES))} (B×T×D×H), one thread of {machine['processor']}, {machine['date'][:10]}:",
        "",
        "| cell | source | | ÷ eager | of floor | ÷ plain |",
        "| :-- | :-- | :-- | --: | --: | --: |",
    ]
    for one in cells:
        row = rows.get(one.name)
        equal = one.waiting or "not measured"
        if one.cell is not None and row and "differences" in row:
            largest = max(row["differences"].values())
            equal = "EQUAL" if largest <= EQUAL else f"differs by {largest:.0e}"
        lines.append(f"| {' | '.join([one.name, one.source, equal, *said(row)])} |")
    return "\n".join(lines)


def with_table(page: str, record: Mapping[str, Any]) -> str:
    """The page with its table anew."""
    parts = re.split(f"(?<={BEGIN}\n).*?(?={END})", page, flags=re.DOTALL)
    assert len(parts) == 2
    return f"{parts[0]}{table(record)}\n{parts[1]}"


def write_docs() -> None:
    """The table of docs/cells.md from the newest results."""
    path = newest()
    assert path is not None
    record = json.loads(path.read_text("utf-8"))
    write_whole(DOCS, with_table(DOCS.read_text("utf-8"), record).encode())


def line(row: Row) -> str:
    """What is printed of a cell."""
    figures = " ".join(f"{part:>11}" for part in said(row))
    return f"{row['name']:36s} {max(row.get('differences', {'': 0.0}).values()):8.0e} {figures}"


def main() -> None:
    """Measure and write, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", help="default: all of them")
    parser.add_argument("--sizes", nargs="+", type=parse_size, default=SIZES)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULTS / f"{date.today()}-real-cells.json")
    parser.add_argument("--docs", action="store_true", help="write the table of docs/cells.md; measure nothing")
    options = parser.parse_args()
    if options.docs:
        write_docs()
        return
    can_save(options.out)
    before = json.loads(options.out.read_text("utf-8"))["rows"] if options.cells and options.out.is_file() else []
    rows = {row["name"]: row for row in before}
    record = {"machine": machine(keeps_memory=keep_freed_memory()), "rounds": options.rounds, "rows": []}
    console = Console(width=200, highlight=False)
    for one in REAL_CELLS:
        if options.cells is None or one.name in options.cells:
            rows[one.name] = row_of(one, options.sizes, options.rounds)
            console.print(line(rows[one.name]))
            record["rows"] = [rows[each.name] | {"source": each.source} for each in REAL_CELLS if each.name in rows]
            save(record, options.out)
    record["load_after"] = os.getloadavg()[0]
    save(record, options.out)
    console.print(options.out, soft_wrap=True)


if __name__ == "__main__":
    main()
