"""What hurts: a difference drawn on the wrong side, or one that is not proven drawn as if it were."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cello.report import diagrams, plot_style, plots, ranking
from cello.report.results import StudyResults


def drawn(panel: plots.Panel) -> plot_style.Axes:
    ax = Figure(figsize=panel.size).add_subplot()
    panel.draw(ax)
    return ax


def test_forest_draws_each_pair_where_it_lies_and_fills_what_is_told_apart(gates: StudyResults) -> None:
    (panel,) = diagrams.forest(gates)
    ax = drawn(panel)
    pairs = gates.comparisons[0].comparisons
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    bars = [line for line in ax.lines[1:] if line.get_marker() != "o"]
    assert [dot.get_xdata()[0] for dot in dots] == [100 * pair.difference.value for pair in pairs]
    for pair, bar, dot in zip(pairs, bars, dots, strict=True):
        assert list(bar.get_xdata()) == [100 * pair.difference.low, 100 * pair.difference.high]
        assert (dot.get_markerfacecolor() == plot_style.SERIES[0]) == pair.differs
    labels = [label.get_text().replace("\n", " ") for label in ax.get_yticklabels()]
    assert labels == [f"{pair.first} − {pair.second}" for pair in pairs]


def test_forest_says_that_marks_are_corrected_and_intervals_are_not(gates: StudyResults) -> None:
    pairs = gates.comparisons[0].comparisons
    found = pairs[0].difference._replace(value=0.02, low=0.001, high=0.04)
    alone = pairs[0]._replace(difference=found, p=0.04, p_holm=0.2)  # its interval leaves out 0, its mark is hollow
    column = msgspec.structs.replace(gates.comparisons[0], comparisons=(alone, *pairs[1:]))
    (panel,) = diagrams.forest(msgspec.structs.replace(gates, comparisons=(column,)))
    ax = drawn(panel)
    legend = ax.get_legend()
    assert legend is not None
    told = {text.get_text() for text in legend.get_texts()}
    assert told == {"not significant with Holm’s correction", "significant with Holm’s correction"}
    assert ax.get_xlabel().endswith("(95 % intervals of single pairs, uncorrected)")
    assert "not corrected for the number of pairs" in panel.description


def test_forest_gives_long_names_more_room(gates: StudyResults) -> None:
    (column,) = gates.comparisons
    long = tuple(pair._replace(first="a very long name " * 4) for pair in column.comparisons)
    study = msgspec.structs.replace(gates, comparisons=(msgspec.structs.replace(column, comparisons=long),))
    (before,), (after,) = diagrams.forest(gates), diagrams.forest(study)
    assert after.size[1] > before.size[1] + 2
    heights = drawn(after).get_yticks()
    assert np.diff(heights).min() >= 4 * diagrams.LINE_INCHES


def test_a_study_that_could_not_be_compared_has_no_forest(gates: StudyResults) -> None:
    assert diagrams.forest(msgspec.structs.replace(gates, comparisons=())) == []


def test_order_joins_the_models_that_cannot_be_told_apart(windows: StudyResults) -> None:
    found = ranking.order(windows)
    assert found is not None
    (panel,) = diagrams.order(windows)
    ax = drawn(panel)
    names = [label.get_text() for label in ax.get_yticklabels()]
    dots, *bars, difference = ax.lines
    assert dict(zip(names, dots.get_xdata(), strict=True)) == found.ranks
    joined = [tuple(names[round(k) :][: round(to) - round(k) + 1]) for k, to in (_span(bar) for bar in bars)]
    assert joined == list(found.groups)
    assert np.ptp(difference.get_xdata()) == pytest.approx(found.critical_difference)


def _span(bar: Line2D) -> tuple[float, float]:
    low, high = bar.get_ydata()
    return low + 0.25, high - 0.25


def test_two_columns_have_no_order(small: StudyResults) -> None:
    assert diagrams.order(small) == []


def test_forty_models_have_their_names_apart(windows: StudyResults) -> None:
    rows = tuple(f"model {k} with a long name that goes on" for k in range(40))
    first = [run for run in windows.runs if run.row == "gru"]
    runs = tuple(msgspec.structs.replace(run, row=row) for row in rows for run in first)
    (panel,) = diagrams.order(msgspec.structs.replace(windows, rows=rows, runs=runs))
    assert panel.size[1] > 0.2 * len(rows)
    assert all(len(label.get_text()) <= diagrams.PAIR_LETTERS for label in drawn(panel).get_yticklabels())


def test_every_panel_side_by_side_has_one_legend(windows: StudyResults) -> None:
    for draw in (diagrams.forest, plots.cost):
        for panel in draw(windows):
            ax = drawn(panel)
            assert ax.get_legend() is not None
            assert not ax.figure.legends
