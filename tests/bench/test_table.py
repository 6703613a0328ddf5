"""What hurts: a figure in the wrong row, a time beside another's that does not compare and does not say so."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from cello.bench.record import FORMAT, Compiling, Record, Row, summarise
from cello.bench.settings import BenchConfig, Size
from cello.bench.table import notes, show

ABOUT = {name: name for name in ("processor", "cores", "system", "load", "torch", "cello", "python", "date")}


def row(cell: str, threads: int, difference: float) -> Row:
    times = {"plain": [6.0], "c": [3.0]}
    sides = summarise(times, {"plain": 0.0, "c": difference}, "c", (30_000_000, 100.0))
    size = Size(64, 49, 39, 64)
    return Row(
        cell=cell, size=size, threads=threads, x_gradient=False, flops=30_000_000, gemm_gflops=100.0, sides=sides
    )


def record(*rows: Row) -> Record:
    settings = BenchConfig(cells=("[red]gru",), rounds=1)
    about = {"format": FORMAT, "machine": ABOUT, "settings": settings, "reference": "c"}
    compiling = (Compiling(cell="[red]gru", backend="c", new_seconds=None, cached_seconds=0.0123),)
    return Record(**about, unavailable={}, without_peer=(), rows=rows, compiling=compiling)  # type: ignore[arg-type]


def test_everything_is_in_its_row() -> None:
    printed = StringIO()
    show(record(row("[red]gru", 1, 0.0), row("lstm", 2, 0.0)), Console(width=80, file=printed))
    lines = [" ".join(line.split()) for line in printed.getvalue().splitlines()]
    first, second = (k for k, line in enumerate(lines) if line.endswith("GEMM 100 to 100 GFLOP/s"))
    assert lines[first].startswith("1 thread, gradients of weights;")
    assert lines[second].startswith("2 threads,")
    place = lines.index("[red]gru 64×49×39×64 plain 6.00 2.00 5 5%")
    assert lines[place + 1] == "c 3.00 1.00 10 10%"
    assert first < place < second < lines.index("lstm 64×49×39×64 plain 6.00 2.00 5 5%")
    assert "[red]gru c – 0.012" in lines
    assert [name for name in ABOUT if name not in printed.getvalue()] == []


@pytest.mark.parametrize("difference", [0.5, float("nan")])
def test_a_side_that_computes_something_else_is_pointed_out(difference: float) -> None:
    (line,) = notes(record(row("gru", 1, difference)))
    assert "gru 64×49×39×64: outputs of c differ" in line


def test_rounding_is_not_pointed_out() -> None:
    assert notes(record(row("gru", 1, 1e-6))) == []


def test_what_does_not_compare_or_is_not_there_is_said() -> None:
    peer, backend = notes(replace(record(), without_peer=("ran", "sru"), unavailable={"c": "No compiler."}))
    assert "no layer with the equations of ran, sru; the time of another would not compare" in peer
    assert backend == "Not available: c. No compiler."
