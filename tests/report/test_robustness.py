"""What hurts: noise and its absence confused, a seed that was not heard counted, panels on different scales."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from matplotlib.figure import Figure

from cello.report import diagrams, paper, robustness
from cello.report.formats import html as html_format
from cello.report.formats import latex, markdown, notebook
from cello.report.results import Run, StudyResults
from cello.report.tables import ABSENT

Page = Callable[[StudyResults], str]

NOISE, SHIFT, LOST = robustness.KINDS


def test_noise_is_listed_from_quiet_to_loud_and_shifts_from_early_to_late(noisy: StudyResults) -> None:
    assert robustness.values(noisy, NOISE) == (20.0, -5.0)
    assert robustness.values(noisy, SHIFT) == (-100.0, 100.0)
    assert robustness.values(noisy, LOST) == (0.1, 0.5)


def test_clips_as_they_are_lose_no_frame_on_the_axis_only_where_that_is_so(
    noisy: StudyResults, reconfigured: Callable[..., StudyResults]
) -> None:
    def first(study: StudyResults) -> float:
        (panel, *_) = [panel for panel in diagrams.conditions(study) if panel.title.startswith(LOST.title)]
        ax = Figure(figsize=panel.size).add_subplot()
        panel.draw(ax)
        return min(float(x) for line in ax.lines for x in line.get_xdata())

    assert first(noisy) == pytest.approx(0.0, abs=0.01)
    assert first(reconfigured(noisy, "data", lost_frames=0.3)) == pytest.approx(0.1, abs=0.01)


def test_the_table_holds_means_over_seeds_beside_the_clips_as_they_are(noisy: StudyResults) -> None:
    table = robustness.table(noisy, NOISE)
    assert [heading.title for heading in table.headings] == ["Window", "Model", "as they are", "20", "−5"]
    row = next(row for row in table.rows if row[:2] == ("40 ms", "gru"))
    runs = noisy.cell("gru", "40 ms")
    clean = sum(100 * run.test.accuracy for run in runs) / len(runs)
    for shown, loss in zip(row[2:], (0, 1, 30), strict=True):
        assert shown.startswith((f"{clean - loss:.2f} ±", f"{clean - loss:.2f} ("))


def test_the_table_says_what_its_intervals_are_and_claims_none_for_one_seed(
    noisy: StudyResults, without: Callable[[StudyResults, Callable[[Run], bool]], StudyResults]
) -> None:
    note = robustness.table(noisy, NOISE).note
    assert "± is half the 95 % t-interval over seeds. With fewer than 5 seeds it is indicative only." in note
    single = robustness.table(without(noisy, lambda run: run.seed > 0), NOISE)
    assert single.note == "The same audio for every model and seed."
    assert not any("±" in cell for row in single.rows for cell in row)


def test_a_run_that_was_not_heard_is_not_counted(noisy: StudyResults) -> None:
    first, *others = noisy.runs
    silent = msgspec.structs.replace(first, result=msgspec.structs.replace(first.result, conditions=()))
    study = msgspec.structs.replace(noisy, runs=(silent, *others))
    found = robustness.accuracy(study.cell(first.row, first.column), NOISE, 20.0)
    assert found is not None
    assert found.n == len(noisy.cell(first.row, first.column)) - 1
    assert robustness.accuracy((silent.result,), NOISE, 20.0) is None


def test_a_value_that_one_model_lacks_is_absent_there(noisy: StudyResults) -> None:
    first, *others = noisy.runs
    only = msgspec.structs.replace(first.result, conditions=first.result.conditions[:1])
    less = msgspec.structs.replace(first, result=only)
    rest = [run for run in others if (run.row, run.column) != (first.row, first.column)]
    table = robustness.table(msgspec.structs.replace(noisy, runs=(less, *rest)), NOISE)
    row = next(row for row in table.rows if row[:2] == (first.column, first.row))
    assert row[-1] == ABSENT


def test_pictures_of_one_kind_share_their_scale_and_order(noisy: StudyResults) -> None:
    axes = []
    for panel in diagrams.conditions(noisy):
        ax = Figure(figsize=panel.size).add_subplot()
        panel.draw(ax)
        axes.append((panel.title, ax))
    expected = [f"{kind.title}, {column}" for kind in robustness.KINDS for column in noisy.columns]
    assert [title for title, _ in axes] == expected
    (_, first), (_, second) = axes[:2]
    assert first.get_ylim() == second.get_ylim()
    assert first.get_xlim()[0] > first.get_xlim()[1]
    assert [label.get_text() for label in first.get_xticklabels()] == ["none", "20", "−5"]
    assert [label.get_text() for label in axes[2][1].get_xticklabels()] == ["−100", "0", "100"]
    line = first.lines[0]
    assert line.get_ydata()[0] == pytest.approx(line.get_ydata()[2] + 30)


def test_lost_frames_are_named_only_where_a_run_has_them(noisy: StudyResults) -> None:
    def sound_alone(run: Run) -> Run:
        kept = tuple(each for each in run.result.conditions if each.kind != LOST.key)
        return msgspec.structs.replace(run, result=msgspec.structs.replace(run.result, conditions=kept))

    before = msgspec.structs.replace(noisy, runs=tuple(map(sound_alone, noisy.runs)))
    assert robustness.heading(noisy) == "Robustness to noise, time shifts and lost frames"
    assert robustness.heading(before) == "Robustness to noise and time shifts"
    assert "noise, shifted in time or without some of their frames: the same" in robustness.explanation(noisy)
    assert "noise or shifted in time: the same" in robustness.explanation(before)


def test_every_format_carries_the_conditions(noisy: StudyResults) -> None:
    for text in (markdown.report(noisy), html_format.report(noisy), latex.report(noisy)):
        assert LOST.title in text
        assert NOISE.title in text
        assert SHIFT.title in text
    assert "robustness.tables(results)[1]" in str(notebook.cells(noisy, "."))


def test_a_study_without_conditions_says_nothing_of_them(small: StudyResults, page: Page) -> None:
    assert robustness.present(small) == robustness.tables(small) == ()
    assert diagrams.conditions(small) == []
    assert "conditions." not in str(notebook.cells(small, "."))
    assert "noise and shifts" not in page(small)
    assert "evaluated again" not in paper.paragraph(small)
