"""The comparison of exported forms: what hurts is a cell that comes with Cello and was never compared on real clips."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from cello.cells.load import every_cell

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
WITH_PARTS = {name for name, cell in every_cell().items() if cell.parts}
"""They have one layer, in a study of their own."""


def rows_of(study: str) -> set[str]:
    found = tomllib.loads((BENCHMARKS / study).read_text(encoding="utf-8"))
    return {row["model"]["cell"] for row in found["rows"]}


def test_every_cell_is_compared_with_one_layer_and_where_it_may_have_two_with_two() -> None:
    assert rows_of("exits.toml") == every_cell().keys() - WITH_PARTS
    assert rows_of("exits-parts.toml") == WITH_PARTS
    stored = json.loads((BENCHMARKS / "results" / "2026-11-27-exits.json").read_text(encoding="utf-8"))
    compared = {(run["row"], run["column"]) for run in stored["runs"]}
    two = {(cell, "two layers") for cell in every_cell().keys() - WITH_PARTS}
    assert compared == {(cell, "one layer") for cell in every_cell()} | two
    forms = [run["forms"][name] for run in stored["runs"] for name in ("ONNX", "C99", "JavaScript")]
    assert not any(form["decided_differently"] for form in forms)
    assert not any(form["clips_above_1e-4"] for form in forms)
