"""What hurts: a table of real cells on a page that is not what was measured, a floor that counts too much."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from cello.bench.settings import Size
from cello.cells.load import zoo
from real_cells.table import REAL_CELLS

FILE = Path(__file__).parents[2] / "benchmarks" / "cells_real.py"
ONE = Size(batch=1, frames=1, inputs=10, hidden=100)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("real_cells_benchmark", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_the_page_is_that_of_the_newest_results(script: ModuleType) -> None:
    page = script.DOCS.read_text("utf-8")
    record = json.loads(script.newest().read_text("utf-8"))
    assert script.with_table(page, record) == page


def test_every_cell_is_measured_in_both_back_ends_and_equal(script: ModuleType) -> None:
    rows = {row["name"]: row for row in json.loads(script.newest().read_text("utf-8"))["rows"]}
    for one in REAL_CELLS:
        assert rows[one.name]["source"] == one.source
        if one.cell is not None:
            assert {*rows[one.name]["sizes"]} == {*map(str, script.SIZES)}
            assert max(rows[one.name]["differences"].values()) <= script.EQUAL


def test_the_floor_counts_products_and_traffic(script: ModuleType) -> None:
    operations, traffic = script.counted(zoo()["rnn"], ONE)
    assert operations == 2 * (2 * 100 * 10) + 3 * (2 * 100 * 100)
    assert traffic == 4 * (2 * 10 + (2 + 2) * 100 + 3 * (100 * 10 + 100 * 100 + 100))


def test_matrices_that_torch_computes_are_part_of_the_floor(script: ModuleType) -> None:
    assert script.matrix_functions(zoo()["exprnn"], ONE) > 0
    assert script.matrix_functions(zoo()["antisymmetric-rnn"], ONE) == 0  # U - U.T takes no time to speak of


def test_sums_over_units_are_no_products_of_the_floor(script: ModuleType) -> None:
    normalised, plain = (script.counted(zoo()[name], ONE)[0] for name in ("lstm-layer-norm", "lstm"))
    assert normalised == plain
