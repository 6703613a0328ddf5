"""Print a benchmark's record as tables. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cello.bench.record import Record, Row
from cello.terminal import one_line

SAME = 1e-3
"""Outputs that differ by more than this from plain evaluation's, relative to the largest, are pointed out."""


def show(record: Record, console: Console) -> None:
    """Print the header, a table for each number of threads, compile times, and what does not compare."""
    for line in header(record):
        console.print(line, markup=False, highlight=False)
    for table in tables(record):
        console.print()
        console.print(table, end="")
    for line in notes(record):
        console.print(line, markup=False, highlight=False)


def header(record: Record) -> list[str]:
    """On what, with what, how."""
    settings = record.settings
    return [
        *about(record.machine),
        f"One layer, forward and backward, {settings.dtype}: medians of {settings.rounds} rounds, sides in turn;",
        "GEMM is torch.mm at 1024³, measured before each cell.",
    ]


def about(machine: Mapping[str, str]) -> list[str]:
    """The machine and the versions, for any benchmark's header."""
    return [
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}; load before {machine['load']}",
        f"torch {machine['torch']}, cello {machine['cello']}, Python {machine['python']}; {machine['date']}",
    ]


def tables(record: Record) -> Iterator[Table]:
    """Times, one table for each number of threads with and without x's gradient; then compile times."""
    for (threads, x_gradient), group in groupby(record.rows, key=lambda row: (row.threads, row.x_gradient)):
        yield _times(record, threads, x_gradient, [*group])
    if record.compiling:
        yield _compiling(record)


def _times(record: Record, threads: int, x_gradient: bool, rows: list[Row]) -> Table:
    gemm = [row.gemm_gflops for row in rows]
    given = f"{threads} thread{'s' * (threads > 1)}, gradients of weights{' and x' * x_gradient}"
    title = f"{given}; GEMM {min(gemm):.0f} to {max(gemm):.0f} GFLOP/s"
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for name in ("cell", "B×T×D×H", "through"):
        table.add_column(name, overflow="fold")
    for name in ("ms", f"÷ {record.reference}", "GFLOP/s", "of GEMM"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        for number, side in enumerate(row.sides):
            first = (Text(one_line(row.cell)), str(row.size)) if number == 0 else ("", "")
            figures = (f"{side.milliseconds:.2f}", f"{side.ratio:.2f}", f"{side.gflops:.3g}", f"{side.gemm_share:.0%}")
            table.add_row(*first, side.name, *figures)
    return table


def _compiling(record: Record) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="From equations to the first step, seconds", title_justify="left")
    table.add_column("cell", overflow="fold")
    for name in ("through", "new", "from the cache"):
        table.add_column(name, justify="right")
    for row in record.compiling:
        new = "–" if row.new_seconds is None else f"{row.new_seconds:.2f}"
        table.add_row(Text(one_line(row.cell)), row.backend, new, f"{row.cached_seconds:.3f}")
    return table


def notes(record: Record) -> list[str]:
    """What does not compare, what is missing and why, what computes something else."""
    lines = []
    if record.without_peer:
        names = ", ".join(record.without_peer)
        lines.append(f"torch has no layer with the equations of {names}; the time of another would not compare.")
    lines += [f"Not available: {name}. {reason}" for name, reason in record.unavailable.items()]
    for row in record.rows:
        for side in row.sides:
            if not side.difference <= SAME:  # NaN too
                lines.append(
                    f"{row.cell} {row.size}: outputs of {side.name} differ from plain evaluation's by "
                    f"{side.difference:.1g} of the largest; its time may be of something else."
                )
    return lines
