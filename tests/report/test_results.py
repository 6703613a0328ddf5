from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from cello.errors import ReportError, StoreError
from cello.report.results import Run, StudyResults, gather, load_results
from cello.study.store import Store

Without = Callable[[StudyResults, Callable[[Run], bool]], StudyResults]
Fill = Callable[[Path, StudyResults], Store]


def test_a_store_comes_back_as_the_study_that_filled_it(stored: Path, small: StudyResults) -> None:
    results = load_results(stored)
    assert (results.rows, results.columns, results.seeds) == (small.rows, small.columns, small.seeds)
    assert len(results.runs) == len(results.planned) == 8
    for place, runs in small.cells().items():
        assert [r.test for r in results.cell(*place)] == [r.test for r in runs]


def test_a_partial_store_keeps_its_whole_plan(
    tmp_path: Path, windows: StudyResults, without: Without, fill: Fill
) -> None:
    store = fill(tmp_path / "s", without(windows, lambda r: r.row == "gru" and r.seed == 1))
    results = gather(store)
    assert (len(results.runs), len(results.planned)) == (44, 48)
    assert results.planned_seeds("gru", "40 ms") == 2
    assert len(results.cell("gru", "40 ms")) == 1


def test_a_failed_run_is_reported_with_its_reason(
    tmp_path: Path, windows: StudyResults, without: Without, fill: Fill
) -> None:
    store = fill(tmp_path / "s", without(windows, lambda r: (r.row, r.column, r.seed) == ("gru", "40 ms", 0)))
    (missing,) = store.pending()
    store.note("failed", missing.id, "loss is not finite")
    (failure,) = gather(store).failures
    assert (failure.row, failure.column, failure.seed, failure.reason) == ("gru", "40 ms", 0, "loss is not finite")


def test_a_store_without_finished_runs_says_what_to_do(tmp_path: Path, windows: StudyResults, fill: Fill) -> None:
    fill(tmp_path / "s", windows)
    for result in (tmp_path / "s" / "runs").glob("*/result.json"):
        result.unlink()
    with pytest.raises(ReportError, match=r"none of the 48 planned runs of study 'windows' is finished.*resume"):
        load_results(tmp_path / "s")


def test_results_that_cannot_be_used_are_why_there_is_nothing_to_report(
    tmp_path: Path, windows: StudyResults, fill: Fill
) -> None:
    fill(tmp_path / "s", windows)
    for result in (tmp_path / "s" / "runs").glob("*/result.json"):
        result.write_bytes(b"{")
    with pytest.raises(ReportError, match=r"is finished \(.*, seed 0: its result\.json is damaged: .*\), so there is"):
        load_results(tmp_path / "s")


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no study"):
        load_results(tmp_path / "nothing")


def test_seeds_of_a_cell_are_in_order_however_they_finished(windows: StudyResults) -> None:
    reversed_runs = msgspec.structs.replace(windows, runs=windows.runs[::-1])
    assert [r.config.seed for r in reversed_runs.cell("gru", "40 ms")] == [0, 1]


def test_columns_that_share_a_window_are_not_called_windows(windows: StudyResults) -> None:
    assert windows.column_title == "Window"
    same = tuple(msgspec.structs.replace(r, column=f"{r.seed}") for r in windows.runs if r.column == "40 ms")
    assert msgspec.structs.replace(windows, columns=("0", "1"), runs=same).column_title == "Column"
