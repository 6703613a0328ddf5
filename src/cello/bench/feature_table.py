"""Print a benchmark of features as tables. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.table import Table

from cello.bench.record import FeatureRecord, FeatureRow
from cello.bench.settings import FAIR
from cello.bench.table import about

SAME = 1e-4
"""Features that differ by more than this from Cello's are pointed out."""


def show_features(record: FeatureRecord, console: Console) -> None:
    """Print the header, a table without and one with augmentation, and what is missing or does not compare."""
    for line in header(record):
        console.print(line, markup=False, highlight=False)
    for table in tables(record):
        console.print()
        console.print(table, end="")
    for line in notes(record):
        console.print(line, markup=False, highlight=False)


def header(record: FeatureRecord) -> list[str]:
    """On what, with what, how."""
    settings = record.settings
    return [
        *about(record.machine),
        f"13 MFCC with Δ and ΔΔ of {settings.clips} clips of 1 s at 16 kHz, CPU time of one thread:",
        f"medians of {settings.rounds} rounds, sides in turn.",
    ]


def tables(record: FeatureRecord) -> Iterator[Table]:
    """Features alone, then with augmentation; a library that is not available has a line without figures."""
    for augmented, title in ((False, "Features alone"), (True, f"Augmentation and features: {_changes()}")):
        rows = [row for row in record.rows if row.augmented == augmented]
        if rows:
            yield _table(title, rows, tuple(record.unavailable))


def _changes() -> str:
    return f"speed ±{FAIR.speed:.0%}, shift ±{FAIR.shift_ms:g} ms, noise on {FAIR.noise_share:.0%}"


def _table(title: str, rows: list[FeatureRow], unavailable: tuple[str, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
    for name in ("window", "through"):
        table.add_column(name, overflow="fold")
    for name in ("clips/s", "µs/clip", "÷ cello", "difference"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        for number, side in enumerate(row.sides):
            first = f"{row.window_ms:g} ms" if number == 0 else ""
            rate = side.clips_per_second
            figures = (f"{rate:,.0f}", f"{1e6 / rate:,.0f}" if rate else "–", f"{side.ratio:.2f}")
            table.add_row(
                first, side.name, *figures, "" if number == 0 else f"{side.difference:.0e}{'*' * side.static}"
            )
    for name in unavailable:
        table.add_row("", name, *["–"] * 3, "not available")
    return table


def notes(record: FeatureRecord) -> list[str]:
    """How to read the tables, what is missing and why, what computes something else."""
    sides = [(row, side) for row in record.rows for side in row.sides]
    lines = ["÷ cello: time over Cello's in the same round. Batched: the fastest of several batch sizes."]
    if any(row.augmented and len(row.sides) > 1 for row in record.rows):
        lines.append("Other libraries get sound that NumPy has augmented, which is in their time.")
    if any(side.static for _, side in sides):
        lines.append("* of the MFCC alone: this library's deltas repeat the first and last frame.")
    lines += [f"Not available: {name}. {reason}" for name, reason in record.unavailable.items()]
    for row, side in sides:
        if not side.difference <= SAME:  # NaN too
            lines.append(
                f"{row.window_ms:g} ms{', augmented' * row.augmented}: features of {side.name} differ from Cello's by "
                f"{side.difference:.1g}; its time may be of something else."
            )
    return lines
