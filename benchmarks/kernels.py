"""Run `cello bench cells` for the repository's own figures, with and without the frames' gradient.

    python benchmarks/kernels.py [--zoo] [--cells NAME ...] [--sizes BxTxDxH ...] [--threads N ...] [--rounds 15]

Prints the tables and writes benchmarks/results/DATE-kernels.json, anew after every cell, so that a broken run leaves
what it has. What the figures mean: docs/bench.md.
"""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path

from rich.console import Console

from cello.bench.measure import machine, run
from cello.bench.record import can_save, save
from cello.bench.settings import CELLS, SIZES, BenchConfig, parse_size
from cello.bench.table import show
from cello.cells.load import zoo
from cello.compiler.memory import keep_freed_memory

OUT = Path(__file__).parent / "results" / f"{date.today()}-kernels.json"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", action="store_true", help="every cell that comes with Cello")
    parser.add_argument("--cells", nargs="+", default=[*CELLS, "lstm-coupled"])
    parser.add_argument("--sizes", nargs="+", type=parse_size, default=SIZES)
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    settings = BenchConfig(
        cells=tuple(zoo() if options.zoo else options.cells),
        sizes=tuple(options.sizes),
        threads=tuple(options.threads),
        rounds=options.rounds,
        dtype=options.dtype,
        x_gradients=(False, True),
    )
    can_save(options.out)
    about = machine(keeps_memory=keep_freed_memory())
    console = Console()
    with console.status("") as status:
        record = run(
            settings, about, on_start=lambda what, _: status.update(what), on_row=lambda known: save(known, options.out)
        )
    show(record, console)
    console.print(options.out, soft_wrap=True)


if __name__ == "__main__":
    main()
