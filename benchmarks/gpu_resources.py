"""Compile kernels for GPUs that need not be there, and record what they take: registers, spills, shared memory.

    nice python benchmarks/gpu_resources.py --zoo [--precision tf32,bf16,ieee] [--capability 90,80] [--processes 2]
    python benchmarks/gpu_resources.py --cells lstm gru [--hidden 64,128,256]
    python benchmarks/gpu_resources.py --docs     # write the tables of docs/gpu-kernels.md from the file

Every kernel has one row in benchmarks/results/gpu-resources.json, written as it is known. A kernel whose row is of the
same text, options and release of Triton is not compiled again, so a second run is quick and a broken one goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import date
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from time import monotonic
from typing import Any

from rich.console import Console
from rich.progress import Progress

from cello.cells.load import load_cell, zoo
from cello.compiler.triton.resources import MEMORY, compilation
from cello.errors import BackendError
from cello.files import write_whole

RECORD = Path(__file__).parent / "results" / "gpu-resources.json"
DOCS = Path(__file__).parents[1] / "docs" / "gpu-kernels.md"
TABLED = ("gru", "lstm", "lstm-peephole-full")
PASSES, PRECISIONS = ("forward", "backward"), ("bf16", "tf32", "ieee")
OF_TILING = ("rows", "split", "warps", "stages", "all_registers", "reread", "cluster")
Key = tuple[int, str, int, str, str]
"""Capability, precision, H, cell and pass: in this order they are compiled and written."""
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", action="store_true", help="every cell that comes with Cello")
    parser.add_argument("--cells", nargs="+", default=[*TABLED])
    parser.add_argument("--hidden", default="64,128")
    parser.add_argument("--precision", default="tf32,bf16")
    parser.add_argument("--capability", default="90")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RECORD)
    parser.add_argument("--docs", action="store_true", help="write the tables of docs/gpu-kernels.md; compile nothing")
    options = parser.parse_args()
    if options.docs:
        page = with_tables(DOCS.read_text("utf-8"), read(options.out))
        write_whole(DOCS, page.encode())
        return
    names = [*zoo()] if options.zoo else options.cells
    hidden, capabilities = (list(map(int, text.split(","))) for text in (options.hidden, options.capability))
    keys = [*product(capabilities, options.precision.split(","), hidden, names, PASSES)]
    rows = record(keys, options.out, options.processes)
    said = [row for row in map(rows.get, keys) if row is not None]
    Console().print("\n".join([*table(said)] if not options.zoo else spills(said)), soft_wrap=True, markup=False)


def read(path: Path) -> dict[Key, Row]:
    """The rows of a file, by what they are of; none if there is no file."""
    rows: Iterable[Row] = json.loads(path.read_text("utf-8"))["kernels"] if path.exists() else ()
    return {key_of(row): row for row in rows}


def key_of(row: Mapping[str, Any]) -> Key:
    return row["capability"], row["precision"], row["hidden"], row["cell"], row["pass"]


def write(path: Path, rows: Mapping[Key, Row]) -> None:
    """One row a line, so that a change of one kernel is a change of one line."""
    lines = ",\n".join(json.dumps(rows[key]) for key in sorted(rows))
    write_whole(path, f'{{"kernels": [\n{lines}\n]}}\n'.encode())


def record(keys: Sequence[Key], path: Path, processes: int) -> dict[Key, Row]:
    """Compile what the file does not have as it is now; what was asked for and what else it has."""
    rows, about, written = read(path), {"date": f"{date.today()}", "source": source()}, monotonic()
    with (
        tempfile.TemporaryDirectory() as cache,
        ProcessPoolExecutor(processes, get_context("spawn"), _begin, (cache,)) as pool,
        Progress(console=Console(stderr=True)) as progress,
    ):
        shown = progress.add_task("kernels", total=len(keys))
        waiting = [pool.submit(compiled, key, rows.get(key, {})) for key in keys]
        for done in as_completed(waiting):
            progress.advance(shown)
            if (row := done.result()) is None:
                continue
            progress.update(shown, description=f"{row['cell']}, {row['pass']}")
            rows[key_of(row)] = row | about
            if monotonic() > written + 5:
                write(path, rows)
                written = monotonic()
        write(path, rows)
    return rows


def _begin(cache: str) -> None:
    os.environ["TRITON_CACHE_DIR"] = os.environ["CELLO_CACHE"] = cache


def compiled(key: Key, known: Row) -> Row | None:
    """What a kernel takes; None if it is the one that is known."""
    import triton

    capability, precision, hidden, name, way = key
    row: Row = dict(zip(("capability", "precision", "hidden", "cell", "pass"), key, strict=True))
    try:
        one = compilation(load_cell(name), way, hidden, precision, capability)
    except BackendError as error:
        return row | {"kernel": "", "refused": str(error)}
    whole, first = (f"{one.digest(tried)}, Triton {triton.__version__}" for tried in (None, 1))
    alone = known.get("kernel") == first and not known["spilled"] and known["shared"] <= MEMORY[capability]
    if known.get("kernel") == whole or alone:
        return None
    began = monotonic()
    found = one.resources()
    seconds = round(monotonic() - began, 1)
    of_tiling = {field: getattr(found.tiling, field) for field in OF_TILING}
    takes = {"registers": found.registers, "spilled": found.spilled, "shared": found.shared}
    alone = found.tiling == one.tilings[0] and not found.spilled  # no other tiling was tried
    return row | of_tiling | takes | {"seconds": seconds, "kernel": first if alone else whole}


def source() -> str:
    """The commit of this tree, and whether files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, cwd=DOCS.parent, capture_output=True, text=True, check=False).stdout.strip()


def table(rows: Iterable[Row]) -> Iterator[str]:
    """What each kernel takes."""
    yield "| cell | H | products | pass | programs a tile | warps | registers | spilled bytes | shared KiB |"
    yield "|---|---:|---|---|---:|---:|---:|---:|---:|"
    for row in sorted(rows, key=lambda row: (row["cell"], row["hidden"], row["precision"], row["pass"] != "forward")):
        if "refused" in row:
            continue
        what = (row["cell"], row["hidden"], row["precision"], row["pass"], row["split"], row["warps"])
        takes = (row["registers"], row["spilled"], f"{row['shared'] / 1024:.0f}")
        yield f"| {' | '.join(map(str, (*what, *takes)))} |"


def spills(rows: Sequence[Row]) -> list[str]:
    """How many kernels there are, how many keep values in memory, and which, with bytes of a thread."""
    some = [row for row in rows if row.get("spilled")]
    lines = ["| compute capability | products | H | kernels | that spill | bytes of a thread, at most |"]
    lines += ["|---|---|---:|---:|---:|---:|"]
    for group in sorted({key_of(row)[:3] for row in rows}, key=lambda key: (-key[0], key[1:])):
        mine = [row for row in rows if key_of(row)[:3] == group and "refused" not in row]
        most = [row["spilled"] for row in mine if row["spilled"]]
        capability, precision, hidden = group
        shown = f"{capability / 10:.1f}", precision, hidden, len(mine), len(most), max(most, default=0)
        lines.append(f"| {' | '.join(map(str, shown))} |")
    if not some:
        return [*lines, "", "No kernel spills."]
    lines += ["", "| kernel | spills, bytes of a thread |", "|---|---|"]
    for name, way in sorted({(row["cell"], row["pass"]) for row in some}):
        mine = [row for row in some if (row["cell"], row["pass"]) == (name, way)]
        parts = [f"{row['capability'] / 10:.1f} {row['precision']} H {row['hidden']}: {row['spilled']}" for row in mine]
        lines.append(f"| `{name}`, {way} | {', '.join(parts)} |")
    return lines


def with_tables(page: str, rows: Mapping[Key, Row]) -> str:
    """The page with both tables anew."""
    known = [rows[key] for key in sorted(rows)]
    tabled = [row for row in known if row["cell"] in TABLED and row["capability"] == 90 and row["precision"] != "ieee"]
    parts = {"resources": [*table(tabled)], "spills": spills([row for row in known if row["hidden"] <= 128])}
    for name, lines in parts.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, after = page.split(f"{begin}\n", maxsplit=1)[0], page.split(end)[1]
        page = f"{before}{begin}\n" + "\n".join(lines) + f"\n{end}{after}"
    return page


if __name__ == "__main__":
    sys.exit(main())
