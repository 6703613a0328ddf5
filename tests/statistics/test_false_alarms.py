from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cello.statistics.false_alarms import (
    BY_FOLDS,
    BY_SPEAKERS,
    ONE_SPEAKER_A_FOLD,
    ONE_SPEAKER_OUTSIDE,
    OUTSIDE,
    caution,
)

SIMULATED = Path(__file__).parents[2] / "benchmarks" / "results" / "2026-11-26-statistics-few.json"


@pytest.fixture(scope="module")
def simulated() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(SIMULATED.read_text())
    return found


@pytest.mark.parametrize(("table", "name"), [(BY_SPEAKERS, "false alarms"), (OUTSIDE, "accuracy outside")])
def test_the_ranges_by_speakers_are_the_simulations(
    simulated: dict[str, Any], table: dict[int, dict[int, tuple[float, float]]], name: str
) -> None:
    for seeds, by_speakers in table.items():
        for speakers, known in by_speakers.items():
            rows = [row for row in simulated["few"] if (row["seeds"], row["speakers"]) == (seeds, speakers)]
            shares = [row[name]["percent"] for row in rows]
            assert len(shares) == 8
            assert known == pytest.approx((min(shares), max(shares)), abs=0.051)


def test_the_ranges_by_folds_are_the_simulations(simulated: dict[str, Any]) -> None:
    usual = [row for row in simulated["folds"] if row["seeds"] == 3 and row["taste"] == 0.002]
    for table, alone in ((BY_FOLDS, False), (ONE_SPEAKER_A_FOLD, True)):
        for folds, known in table.items():
            rows = [row for row in usual if row["folds"] == folds and (row["speakers"] == folds) == alone]
            low = min(row["corrected"]["percent"] for row in rows if row["training"] == 0)
            high = max(row["corrected"]["percent"] for row in rows if row["training"] == 0.5)
            assert known == pytest.approx((low, high), abs=0.051)


def test_the_intervals_of_one_speaker_a_fold_are_the_simulations(simulated: dict[str, Any]) -> None:
    for folds, known in ONE_SPEAKER_OUTSIDE.items():
        rows = [row for row in simulated["folds"] if row["folds"] == row["speakers"] == folds]
        shares = [row["outside"]["percent"] for row in rows]
        assert known == pytest.approx((min(shares), max(shares)), abs=0.051)


def test_files_that_count_as_speakers_are_called_clips() -> None:
    text = caution(6, 5, unit="clips")
    assert text.startswith(
        "In simulated studies with 6 test speakers and 5 seeds (this one has 6 clips, each taken for"
    )


def test_three_speakers_are_said_to_hide_differences() -> None:
    low, high = BY_SPEAKERS[5][3]
    assert caution(3, 5) == (
        f"In simulated studies with 3 test speakers and 5 seeds the test called equal models different in {low} to "
        f"{high} %, 5 % being allowed: below that, it misses more real differences than a test at that level would. "
        f"The interval of one model's accuracy missed the truth in {OUTSIDE[5][3][0]} to {OUTSIDE[5][3][1]} %, not in "
        "5 %: it is too narrow."
    )


def test_two_speakers_may_raise_more_false_alarms_than_allowed() -> None:
    assert "in 1.6 to 6.3 %, 5 % being allowed: a significant difference may be none more often" in caution(2, 5)


def test_no_simulation_is_claimed_that_was_not_run() -> None:
    assert caution(165, 4) == (
        "In simulated studies with 30 and 243 test speakers and 3 or 5 seeds (this one has 165 and 4) the test called "
        "equal models different in 2.2 to 5.5 %, 5 % being allowed: below that, it misses more real differences than a "
        "test at that level would. The interval of one model's accuracy missed the truth in 4.8 to 12.8 %, not in "
        "5 %: it is too narrow."
    )
    assert "with 243 test speakers and 3 seeds (this one has 1,000 and 2) the" in caution(1000, 2)
    assert "with 10 folds (this one has 30) the" in caution(60, 3, folds=30)


@pytest.mark.parametrize(("speakers", "seeds"), [(243, 5), (400, 5), (2618, 20)])
def test_where_the_promise_holds_nothing_is_said(speakers: int, seeds: int) -> None:
    assert caution(speakers, seeds) == ""


def test_between_two_simulated_numbers_of_speakers_the_range_is_of_both() -> None:
    assert "in 1.8 to 4.7 %" in caution(12, 5)
    assert "in 2.2 to 5.5 %" in caution(100, 4)
    assert "in 3.2 to 5.1 %" in caution(1000, 2)


def test_folds_are_always_said_with_what_they_rest_on() -> None:
    assert caution(30, 3, folds=5) == (
        "Training sets of 5 folds overlap. In simulated studies with 5 folds the corrected test (Nadeau & Bengio) "
        "called equal models different in 1.1 % where training sets hardly matter and in 10.1 % where they bring 0.5 "
        "points each, 5 % being allowed; nothing in one study tells which it is."
    )


def test_one_speaker_a_fold_is_the_more_careful_kind() -> None:
    assert "with 6 folds of one speaker each the corrected test" in caution(6, 3, folds=6)
    assert "different in 0.4 %" in caution(6, 3, folds=6)
    assert "There the interval of one model's accuracy missed the truth in 6.3 to 8.0 %" in caution(6, 1, folds=6)
    assert "different in 0.8 %" in caution(30, 3, folds=30)  # as ten folds: not simulated one by one
