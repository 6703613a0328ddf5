"""Draw comparisons: forest plots, rank diagrams and robustness curves."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from cello.report import ranking, robustness
from cello.report.metrics import Interval
from cello.report.picture_limits import MOST_ROWS, TITLE, bars, called_rows, drawn, limits, tall
from cello.report.plot_style import FAINT, GRID, INK, PAPER, SERIES, Axes, end_labels, legend, look
from cello.report.plots import Panel
from cello.report.results import StudyResults
from cello.report.visible import elided, names
from cello.statistics.comparisons import Comparison
from cello.statistics.ranks import Ranking

LINE_INCHES, ROW_INCHES = 0.15, 0.12
PAIR_LETTERS = 26
MOST_TICKS = 12
# an interval may leave out 0 where Holm's correction finds no difference: the picture has to say which is which
UNCORRECTED, SIGNIFICANT = "not corrected for the number of pairs", "significant with Holm’s correction"


def forest(results: StudyResults) -> list[Panel]:
    """The differences of a column's pairs with their 95 % intervals, one panel a column."""
    panels = []
    for column in ranking.compared(results):
        shown = ranking.shown(column.comparisons)
        pairs = shown[:MOST_ROWS]
        part = f" (the first {MOST_ROWS} of {len(shown):,})" if len(pairs) < len(shown) else ""
        called = names((name for pair in pairs for name in (pair.first, pair.second)), lambda name: elided(name, TITLE))
        labels = [_pair_label(called[pair.first], called[pair.second]) for pair in pairs]
        height = 1.55 + sum(ROW_INCHES + LINE_INCHES * (label.count("\n") + 1) for label in labels)

        def draw(ax: Axes, pairs: Sequence[Comparison] = pairs, labels: Sequence[str] = labels) -> None:
            _forest(ax, pairs, labels)

        title = f"Differences in test accuracy{f', {column.column}' if column.column else ''}{part}"
        described = f"{title}, one row a pair with its 95 % interval, {UNCORRECTED}; filled where {SIGNIFICANT}."
        panels.append(Panel(title, described, (4.9, height), draw))
    return panels


def _pair_label(first: str, second: str) -> str:
    """Both names on one line where they fit, else one below the other."""
    whole = f"{first} − {second}"
    if len(whole) <= PAIR_LETTERS:
        return whole
    return "\n".join([textwrap.fill(first, PAIR_LETTERS), textwrap.fill(f"− {second}", PAIR_LETTERS)])


def _forest(ax: Axes, pairs: Sequence[Comparison], labels: Sequence[str]) -> None:
    heights = [ROW_INCHES + LINE_INCHES * (label.count("\n") + 1) for label in labels]
    at = [sum(heights[:k]) + height / 2 for k, height in enumerate(heights)]
    looks = {True: (SIGNIFICANT, SERIES[0], SERIES[0]), False: (f"not {SIGNIFICANT}", FAINT, PAPER)}
    named = set()
    ax.axvline(0, color=INK, linewidth=0.8)
    for y, pair in zip(at, pairs, strict=True):
        name, colour, face = looks[pair.differs]
        found = pair.difference
        low, value, high = (100 * min(max(v, -1.0), 1.0) for v in (found.low, found.value, found.high))
        ax.plot([low, high], [y, y], color=colour, linewidth=1.2)
        ax.plot(value, y, "o", color=colour, markerfacecolor=face, markersize=5, label=None if name in named else name)
        named.add(name)
    ax.set_ylim(sum(heights), 0)
    ax.set_yticks(at, labels)
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("Points of test accuracy, first minus second\n(95 % intervals of single pairs, uncorrected)")
    legend(ax, 0.56)


def order(results: StudyResults) -> list[Panel]:
    """The critical-difference diagram over columns, lying on its side: one row a model, so that any name fits."""
    found = ranking.order(results)
    if found is None:
        return []
    part = f" (the best {MOST_ROWS} of {len(found.ranks):,})" if len(found.ranks) > MOST_ROWS else ""
    title = f"Mean rank over {found.blocks} {results.column_title.lower()}s{part}"
    described = f"{title}, 1 the best; bars join models whose mean ranks differ by less than the critical difference."
    size = (4.9, 1.25 + 0.25 * min(len(found.ranks), MOST_ROWS))
    return [Panel(title, described, size, lambda ax: _order(ax, found))]


def _order(ax: Axes, found: Ranking) -> None:
    best, ranks = list(found.ranks)[:MOST_ROWS], list(found.ranks.values())[:MOST_ROWS]
    at = {name: k for k, name in enumerate(best)}
    ax.hlines(range(len(best)), 1, ranks, color=GRID, linewidth=2)
    ax.plot(ranks, range(len(best)), "o", color=SERIES[0], linestyle="none")
    widest = 1 + max(len(best) - 1, found.critical_difference)
    step = 0.05 * (widest - 1)
    groups = [own for group in found.groups if len(own := [name for name in group if name in at]) > 1][:MOST_ROWS]
    for k, group in enumerate(groups):
        x = widest + step * (k + 1)
        ends = [at[group[0]] - 0.25, at[group[-1]] + 0.25]
        ax.plot(
            [x, x],
            ends,
            color=INK,
            linewidth=2.5,
            solid_capstyle="butt",
            label=None if k else "no significant difference",
        )
    above = -0.9
    ax.plot([1, 1 + found.critical_difference], [above, above], "|-", color=INK, linewidth=1.2, markersize=6)
    ax.text(1, above - 0.25, f"critical difference {found.critical_difference:.2f}", fontsize=8, va="bottom")
    ax.set_ylim(len(best) - 0.4, above - 1.0)
    ax.set_yticks(range(len(best)), list(names(best, lambda name: elided(name, PAIR_LETTERS)).values()))
    ax.set_xlim(0.9, widest + step * (len(groups) + 1))
    ax.set_xticks(range(1, len(best) + 1) if len(best) <= MOST_TICKS else range(1, len(best) + 1, 5))
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("Mean rank by test accuracy")
    legend(ax)


def conditions(results: StudyResults) -> list[Panel]:
    """Accuracy against the signal-to-noise ratio and against the shift, a panel a column, a scale a kind."""
    panels = []
    results, part = drawn(results)
    for kind in robustness.present(results):
        for column in results.columns:
            cells = {row: results.cell(row, column) for row in results.rows}
            if not any(run.conditions for runs in cells.values() for run in runs):
                continue

            def draw(ax: Axes, kind: robustness.Kind = kind, column: str = column) -> None:
                _conditions(ax, results, kind, column)

            title = f"{kind.title}{f', {column}' if column else ''}{part}"
            described = f"{title}, one line a model; bars are 95 % t-intervals."
            panels.append(Panel(title, described, (4.9, tall(results, 3.6)), draw))
    return panels


def _conditions(ax: Axes, results: StudyResults, kind: robustness.Kind, column: str) -> None:
    values = robustness.values(results, kind)
    noise = kind.key == "snr_db"
    # noise: clean clips stand one step before the quietest; a shift of 0 is no shift, a share of 0 loses no frame
    clean = values[0] + max((values[0] - values[-1]) / max(len(values), 2), 1.0) if noise else 0.0
    at: dict[float, float | None] = {value: value for value in values}
    lossy = any(run.config.data.lost_frames for runs in results.cells().values() for run in runs)
    if kind.key != "lost_frames" or not lossy:  # else clips as they are have no place on this axis
        at = {clean: None, **at}
    order = sorted(at, reverse=noise)
    width = abs(order[-1] - order[0]) or 1.0
    shown: list[Interval] = []
    for place in results.cells():
        found = [robustness.accuracy(results.cell(*place), kind, value) for value in at.values()]
        shown += [figure for figure in found if figure is not None]
    ends: list[tuple[float, float, str, str]] = []
    called = called_rows(results)
    for number, row in enumerate(results.rows):
        runs = results.cell(row, column)
        figures = [(x, robustness.accuracy(runs, kind, at[x])) for x in order]
        known = [(x, figure) for x, figure in figures if figure is not None]
        if len(known) < 2:
            continue
        colour, marker, dash = look(results, row)
        nudge = 0.006 * width * (number - (len(results.rows) - 1) / 2)
        xs = [x + nudge for x, _ in known]
        ax.errorbar(
            xs, [f.mean for _, f in known], bars([f for _, f in known]), color=colour, marker=marker,
            linestyle=dash, elinewidth=0.9, markersize=4.5, alpha=0.95,
        )  # fmt: skip
        ends.append((xs[-1], known[-1][1].mean, called[row], colour))
    ax.set_ylim(*limits(shown))
    ax.set_xlim(order[0] - 0.05 * (order[-1] - order[0]), order[-1] + 0.07 * (order[-1] - order[0]))
    ax.set_xticks(order, [("none" if noise else "0") if x == clean else f"{x:g}".replace("-", "−") for x in order])
    ax.set_xlabel(kind.axis)
    ax.set_ylabel("Test accuracy, %")
    end_labels(ax, ends, ax.get_xlim()[1])
