"""What hurts: a figure in the wrong row, a library that is left out in silence."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from cello.bench.feature_table import notes, show_features
from cello.bench.record import FeatureRecord, FeatureRow, summarise_features
from cello.bench.settings import FeatureBenchConfig

ABOUT = {name: name for name in ("processor", "cores", "system", "load", "torch", "cello", "python", "date")}


def row(window_ms: float, augmented: bool, difference: float = 1e-5, static: bool = False) -> FeatureRow:
    times = {"cello": [4.0], "x, batched": [10.0]}
    differences = {"cello": 0.0, "x, batched": difference}
    sides = summarise_features(times, differences, {"x, batched"} if static else set(), clips=64)
    return FeatureRow(window_ms=window_ms, augmented=augmented, sides=sides)


def record(*rows: FeatureRow, **unavailable: str) -> FeatureRecord:
    return FeatureRecord(format=2, machine=ABOUT, settings=FeatureBenchConfig(), unavailable=unavailable, rows=rows)


def test_everything_is_in_its_row() -> None:
    printed = StringIO()
    found = record(row(20, False), row(40, True, static=True), y="It is not installed.")
    show_features(found, Console(width=80, file=printed))
    lines = [" ".join(line.split()) for line in printed.getvalue().splitlines()]
    alone = lines.index("Features alone")
    changed = lines.index("Augmentation and features: speed ±10%, shift ±100 ms, noise on 30%")
    first = lines.index("20 ms cello 16,000 62 1.00")
    assert lines[first + 1] == "x, batched 6,400 156 2.50 1e-05"
    assert lines[first + 2] == "y – – – not available"
    second = lines.index("40 ms cello 16,000 62 1.00")
    assert lines[second + 1] == "x, batched 6,400 156 2.50 1e-05*"
    assert alone < first < changed < second
    assert "Not available: y. It is not installed." in lines
    assert [name for name in ABOUT if name not in printed.getvalue()] == []


@pytest.mark.parametrize("difference", [0.5, float("inf"), float("nan")])
def test_a_side_that_computes_something_else_is_pointed_out(difference: float) -> None:
    assert (
        "40 ms, augmented: features of x, batched differ from Cello's by"
        in notes(record(row(40, True, difference)))[-1]
    )
    assert not any("differ" in line for line in notes(record(row(40, True))))


def test_what_is_in_the_time_of_others_and_what_a_star_means_is_said_where_it_applies() -> None:
    assert len(notes(record(row(40, False)))) == 1
    (_, changed, star) = notes(record(row(40, True, static=True)))
    assert "NumPy has augmented" in changed
    assert star.startswith("* of the MFCC alone")
