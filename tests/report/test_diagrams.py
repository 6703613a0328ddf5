"""What hurts: a difference drawn on the wrong side, or one that is not proven drawn as if it were."""

from __future__ import annotations

import msgspec
import numpy as np
from matplotlib.figure import Figure

from cello.report import diagrams, plots
from cello.report.results import StudyResults


def drawn(panel: plots.Panel) -> plots.Axes:
    ax = Figure(figsize=panel.size).add_subplot()
    panel.draw(ax)
    return ax


def test_forest_draws_each_pair_where_it_lies_and_fills_what_is_told_apart(gates: StudyResults) -> None:
    (panel,) = diagrams.forest(gates)
    ax = drawn(panel)
    pairs = gates.evidence[0].comparisons
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    bars = [line for line in ax.lines[1:] if line.get_marker() != "o"]
    assert [dot.get_xdata()[0] for dot in dots] == [100 * pair.difference.value for pair in pairs]
    for pair, bar, dot in zip(pairs, bars, dots, strict=True):
        assert list(bar.get_xdata()) == [100 * pair.difference.low, 100 * pair.difference.high]
        assert (dot.get_markerfacecolor() == plots.SERIES[0]) == pair.differs
    labels = [label.get_text().replace("\n", " ") for label in ax.get_yticklabels()]
    assert labels == [f"{pair.first} − {pair.second}" for pair in pairs]


def test_forest_gives_long_names_more_room(gates: StudyResults) -> None:
    (column,) = gates.evidence
    long = tuple(pair._replace(first="a very long name " * 4) for pair in column.comparisons)
    study = msgspec.structs.replace(gates, evidence=(msgspec.structs.replace(column, comparisons=long),))
    (before,), (after,) = diagrams.forest(gates), diagrams.forest(study)
    assert after.size[1] > before.size[1] + 2
    heights = drawn(after).get_yticks()
    assert np.diff(heights).min() >= 4 * diagrams.LINE_INCHES


def test_a_study_that_could_not_be_compared_has_no_forest(gates: StudyResults) -> None:
    assert diagrams.forest(msgspec.structs.replace(gates, evidence=())) == []
