from __future__ import annotations

from collections.abc import Callable

from cello.report import published
from cello.report.results import Run, StudyResults
from cello.report.tables import ABSENT

Without = Callable[[StudyResults, Callable[[Run], bool]], StudyResults]


def test_printed_figures_stand_beside_what_they_measured(gates: StudyResults) -> None:
    table = published.gates(gates)
    assert table is not None
    assert [row[:3] for row in table.rows] == [
        ("LSTM", "92.42", "68.7"),
        ("Peephole", "97.55", "70.5"),
        ("Coupled", "95.31", "74.6"),
        ("No forget", "95.20", "75.3"),
        ("No input", "51.95", "30.4"),
        ("No output", "92.93", "71.3"),
    ]
    assert table.headings[1].title == "“accuracy”, on its training clips"
    for words in ("trained on", "35 words", "12 words", "not directly comparable", "± 0.3"):
        assert words in table.note


def test_ours_are_matched_by_cell_not_by_row_name(gates: StudyResults) -> None:
    table = published.gates(gates)
    assert table is not None
    assert table.rows[1][3] == "lstm-peephole-full, 40 ms"


def test_a_model_we_have_not_run_is_left_open(gates: StudyResults, without: Without) -> None:
    table = published.gates(without(gates, lambda r: r.row == "lstm-coupled"))
    assert table is not None
    assert table.rows[2] == ("Coupled", "95.31", "74.6", *[ABSENT] * 5)


def test_other_stages_have_no_gates_table(windows: StudyResults) -> None:
    assert published.gates(windows) is None


def test_the_windows_text_gives_only_the_figure_that_stands_in_an_output() -> None:
    assert "68.30 %" in published.WINDOWS_TEXT
    assert published.WINDOWS_TEXT.count("%") == 1
