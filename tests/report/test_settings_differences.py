"""What hurts: a setting that some runs have told of all, or of the wrong ones."""

from __future__ import annotations

import re
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from cello.report.results import StudyResults
from cello.report.settings_differences import LISTED, Kind, StudySettings, ValueGroup, names_of, settings
from cello.training.config import CorpusRef, OptimiserConfig, RunConfig

ROWS, COLUMNS = ("A", "B", "C", "D", "E", "F"), ("clean", "noisy")


def table(batch: Callable[[str, str], int], rows: tuple[str, ...] = ROWS) -> StudySettings:
    """A study whose runs differ in their batch."""
    corpus = CorpusRef(name="", checksum="")
    kinds = (
        Kind(row, column, RunConfig(corpus=corpus, optimiser=OptimiserConfig(batch=batch(row, column))))
        for column in COLUMNS
        for row in rows
    )
    return StudySettings(tuple(kinds), "condition")


def told(found: StudySettings) -> str:
    return found.told(lambda run: run.optimiser.batch)


def test_one_value_stands_alone() -> None:
    assert told(table(lambda row, column: 8)) == "8"


def test_a_value_that_rows_decide_names_the_rows_and_what_most_have_is_the_others() -> None:
    assert told(table(lambda row, column: 4 if row == "B" else 8)) == "8 (the other 5) or 4 (B)"
    assert told(table(lambda row, column: 4 if row == "B" else 8, ROWS[:3])) == "8 (A, C) or 4 (B)"


def test_a_value_that_columns_decide_names_the_columns() -> None:
    assert told(table(lambda row, column: {"clean": 4, "noisy": 8}[column])) == "4 (clean) or 8 (noisy)"


def test_where_neither_decides_both_are_said_to() -> None:
    one = table(lambda row, column: 4 if (row, column) == ("A", "clean") else 8)
    assert told(one) == "4 or 8 (by model and condition)"


def test_many_values_are_a_range() -> None:
    assert told(table(lambda row, column: 10 + ROWS.index(row))) == "10 to 15 (by model)"


def test_columns_named_after_their_value_do_not_name_it_twice(windows: StudyResults) -> None:
    assert settings(windows).told(lambda run: run.features.window_ms) == "20, 40, 80 or 120"


def test_names_with_commas_stay_apart() -> None:
    assert names_of(ValueGroup("8", ("rnn, both ways", "gru"))) == "rnn, both ways; gru"


@given(st.lists(st.integers(1, 3), min_size=len(ROWS) * 2, max_size=len(ROWS) * 2))
def test_every_value_is_told_and_no_row_is_named_for_another(values: list[int]) -> None:
    at = dict(zip(((row, column) for column in COLUMNS for row in ROWS), values, strict=True))
    text = told(table(lambda row, column: at[row, column]))
    assert {int(number) for number in re.findall(r"(?<!other )\b\d\b", text)} == set(values)
    for value, names in re.findall(r"(\d) \(([A-F, ]+|clean|noisy)\)", text):
        for name in names.split(", "):
            assert {seen for place, seen in at.items() if name in place} == {int(value)}
    assert all(len(names.split(", ")) <= LISTED for names in re.findall(r"\(([A-F, ]+)\)", text))
