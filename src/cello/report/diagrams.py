"""Pictures of what the data can tell, drawn into the axes that plots.py makes and with its inks."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from cello.report import ranking
from cello.report.plots import FAINT, INK, PAPER, SERIES, Axes, Panel
from cello.report.results import StudyResults
from cello.study.comparisons import Comparison

LINE_INCHES, ROW_INCHES = 0.15, 0.12
PAIR_LETTERS = 26


def forest(results: StudyResults) -> list[Panel]:
    """The differences of a column's pairs with their 95 % intervals, one panel a column."""
    panels = []
    for column in ranking.weighed(results):
        pairs = ranking.shown(column.comparisons)
        labels = [_pair_label(pair) for pair in pairs]
        height = 1.1 + sum(ROW_INCHES + LINE_INCHES * (label.count("\n") + 1) for label in labels)

        def draw(ax: Axes, pairs: Sequence[Comparison] = pairs, labels: Sequence[str] = labels) -> None:
            _forest(ax, pairs, labels)

        title = f"Differences in test accuracy{f', {column.column}' if column.column else ''}"
        described = f"{title}, one row a pair with its 95 % interval; filled where the pair can be told apart."
        panels.append(Panel(title, described, (4.9, height), draw))
    return panels


def _pair_label(pair: Comparison) -> str:
    """Both names on one line where they fit, else one below the other."""
    whole = f"{pair.first} − {pair.second}"
    if len(whole) <= PAIR_LETTERS:
        return whole
    return "\n".join([textwrap.fill(pair.first, PAIR_LETTERS), textwrap.fill(f"− {pair.second}", PAIR_LETTERS)])


def _forest(ax: Axes, pairs: Sequence[Comparison], labels: Sequence[str]) -> None:
    heights = [ROW_INCHES + LINE_INCHES * (label.count("\n") + 1) for label in labels]
    at = [sum(heights[:k]) + height / 2 for k, height in enumerate(heights)]
    looks = {True: ("told apart", SERIES[0], SERIES[0]), False: ("not told apart", FAINT, PAPER)}
    legend = set()
    ax.axvline(0, color=INK, linewidth=0.8)
    for y, pair in zip(at, pairs, strict=True):
        name, colour, face = looks[pair.differs]
        low, value, high = (100 * v for v in (pair.difference.low, pair.difference.value, pair.difference.high))
        ax.plot([low, high], [y, y], color=colour, linewidth=1.2)
        ax.plot(value, y, "o", color=colour, markerfacecolor=face, markersize=5, label=None if name in legend else name)
        legend.add(name)
    ax.set_ylim(sum(heights), 0)
    ax.set_yticks(at, labels)
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("Points of test accuracy, first minus second")
    ax.figure.legend(loc="outside lower right", ncols=2, frameon=False, fontsize=8, handletextpad=0.2)
