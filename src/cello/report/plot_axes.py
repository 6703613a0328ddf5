"""Draw accuracies, costs, learning curves and confusion matrices into matplotlib axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from cello.report.confusion import pooled, squares
from cello.report.cost import Cost, front, points
from cello.report.metrics import ACCURACY, BY_KEY, Interval, Metric
from cello.report.picture_limits import (
    LABEL,
    MOST_EPOCHS,
    MOST_SQUARES,
    TICK_LETTERS,
    TICKS,
    bars,
    called_rows,
    limits,
)
from cello.report.plot_style import GRID, INK, SERIES, Axes, end_labels, legend, look, whole_numbers
from cello.report.results import StudyResults
from cello.report.sections import NAMED_LABELS
from cello.report.visible import elided, names
from cello.training.result import RunResult

LABELLED = 16
NAMES_AT, CLEAR = (0.16, 0.55, 0.9), 0.2  # heights for the names of curves, and how far off a line has to be


def lines(ax: Axes, results: StudyResults) -> None:
    """Test accuracy by column, one line a model."""
    ends: list[tuple[float, float, str, str]] = []
    shown: list[Interval] = []
    called = called_rows(results)
    for number, row in enumerate(results.rows):
        found = [(k, results.cell(row, c)) for k, c in enumerate(results.columns) if results.cell(row, c)]
        if not found:
            continue
        values = [BY_KEY["test_accuracy"].over(runs) for _, runs in found]
        shown += values
        colour, marker, dash = look(results, row)
        nudge = 0.03 * (number - (len(results.rows) - 1) / 2)
        at = [k + nudge for k, _ in found]
        ax.errorbar(
            at, [v.mean for v in values], bars(values), color=colour, marker=marker, linestyle=dash,
            elinewidth=0.9, markersize=4.5, alpha=0.95,
        )  # fmt: skip
        ends.append((at[-1], values[-1].mean, called[row], colour))
    ax.set_ylim(*limits(shown))
    ax.set_xlim(-0.3, len(results.columns) - 0.7)
    _column_ticks(ax, results.columns)
    ax.set_xlabel(results.column_title)
    ax.set_ylabel("Test accuracy, %")
    ax.yaxis.set_major_locator(whole_numbers())
    end_labels(ax, ends, len(results.columns) - 0.7)


def _column_ticks(ax: Axes, columns: Sequence[str]) -> None:
    """The columns' names side by side or, where they would overlap, upright; of very many some."""
    texts = list(names(columns, lambda name: elided(name, LABEL)).values())
    upright = sum(map(len, texts)) > TICK_LETTERS and len(texts) > 1
    step = math.ceil(len(texts) / TICKS)
    ax.set_xticks(range(0, len(texts), step), texts[::step], rotation=90 if upright else 0)


def split_dots(ax: Axes, results: StudyResults, column: str) -> None:
    """Train, validation and test accuracy of one column, one row a model."""
    looks = (("train", SERIES[1], "s", "none"), ("validation", SERIES[0], "^", "none"), ("test", INK, "o", INK))
    rows = [row for row in results.rows if results.cell(row, column)]
    shown: list[Interval] = []
    for y, row in enumerate(rows):
        values = [metric.over(results.cell(row, column)) for metric in ACCURACY[:3]]
        shown += values
        means = [v.mean for v in values]
        ax.plot([min(means), max(means)], [y, y], color=GRID, linewidth=3, zorder=1)
        ax.errorbar(means[2], y, xerr=bars(values[2:]), color=INK, elinewidth=1.0, zorder=2)
        for mean, (name, colour, marker, fill) in zip(means, looks, strict=True):
            face = colour if fill != "none" else "none"
            label = name if y == 0 else None
            ax.plot(mean, y, marker, color=colour, markerfacecolor=face, markersize=5.5, zorder=3, label=label)
    ax.set_xlim(*limits(shown))
    ax.xaxis.set_major_locator(whole_numbers())
    ax.set_ylim(len(rows) - 0.5, -0.6)
    called = called_rows(results)
    ax.set_yticks(range(len(rows)), [called[row] for row in rows])
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("Accuracy, %")
    ax.figure.legend(loc="outside lower right", ncols=3, frameon=False, fontsize=8, handletextpad=0.2)


def scatter(ax: Axes, results: StudyResults, cost: Cost) -> None:
    """Test accuracy by cost, one point a cell of the table."""
    metric: Metric = BY_KEY["test_accuracy"]
    ends: list[tuple[float, float, str, str]] = []
    found = points(results, cost)
    xs = [point.cost for point in found]
    shown = [metric.over(runs) for runs in results.cells().values()]
    called = called_rows(results)
    for row in results.rows:
        own = [point for point in found if point.row == row]
        if not own:
            continue
        colour, marker, dash = look(results, row)
        at, tests = [point.cost for point in own], [point.accuracy for point in own]
        ax.plot(at, tests, color=colour, linewidth=0.7, alpha=0.6, linestyle=dash)
        ax.plot(at, tests, marker, color=colour, markersize=5, alpha=0.9)
        last = max(range(len(own)), key=lambda k: at[k])
        ends.append((at[last], tests[last], called[row], colour))
    best = front(found)
    ax.step(
        [p.cost for p in best], np.maximum.accumulate([p.accuracy for p in best]), where="post", color=INK,
        linewidth=0.9, linestyle=(0, (3, 2)), zorder=1.5,
    )  # fmt: skip
    ax.plot(
        [p.cost for p in best], [p.accuracy for p in best], "o", color=INK, markersize=9.5, markerfacecolor="none",
        markeredgewidth=0.8, zorder=1.5, label="Pareto front",
    )  # fmt: skip
    _cost_axis(ax, min(xs), max(xs))
    ax.set_ylim(*limits(shown))
    ax.yaxis.set_major_locator(whole_numbers())
    ax.set_xlabel(cost.axis.capitalize())
    ax.set_ylabel("Test accuracy, %")
    legend(ax)
    end_labels(ax, ends, ax.get_xlim()[1])


def _cost_axis(ax: Axes, low: float, high: float) -> None:
    """Logarithmic over a wide range, linear over a narrow one; thousands as k."""
    if high > 3 * low > 0:
        margin = (high / low) ** 0.08
        ax.set_xscale("log")
        ax.set_xlim(low / margin, high * margin)
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xticks(_log_ticks(*ax.get_xlim()))
    else:
        margin = max(0.1 * (high - low), 0.02 * high, 1e-9)
        ax.set_xlim(low - margin, high + margin)
        ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1000:g}k" if x >= 1000 else f"{x:.4g}"))


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        ticks = [m * 10.0**d for d in decades for m in steps if low <= m * 10.0**d <= high]
        if len(ticks) >= 3:
            return ticks
    return ticks


def curve_limits(results: StudyResults) -> tuple[float, float]:
    """From where to where the accuracies of all learning curves go, in percent."""
    values = [
        100 * value
        for run in results.runs
        for epoch in run.result.history
        for value in (epoch.train_accuracy, epoch.validation_accuracy)
        if math.isfinite(value)
    ]
    return (min(values, default=0.0) // 10 * 10, 101.0)


def curve(ax: Axes, runs: Sequence[RunResult], limits: tuple[float, float]) -> None:
    """Training and validation accuracy by epoch; the band spans the seeds."""
    ax.set_ylim(*limits)
    shortest = min((r.history for r in runs), key=len)
    # of very many epochs every so many-th, the last one too
    some = np.unique(np.linspace(0, len(shortest) - 1, min(len(shortest), MOST_EPOCHS)).astype(int))
    epochs = [shortest[k].epoch for k in some]
    late: list[float] = []
    for name, colour in (("train", SERIES[1]), ("validation", SERIES[0])):
        values = 100 * np.array([[getattr(r.history[k], f"{name}_accuracy") for k in some] for r in runs])
        mean = values.mean(axis=0)
        late += list(values[:, len(some) // 2 :].ravel())
        ax.plot(epochs, mean, color=colour, linewidth=1.3, linestyle=("-" if name == "validation" else (0, (4, 1.2))))
        if len(runs) > 1:
            ax.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.22, linewidth=0)
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(4))
    ax.set_xlabel("Epoch" if len(some) == len(shortest) else f"Epoch ({len(some)} of {len(shortest):,})", fontsize=8)
    ax.set_ylabel("Accuracy, %", fontsize=8)
    for place, (name, colour) in enumerate((("train", SERIES[1]), ("validation", SERIES[0]))):
        ax.text(
            0.98, _free(late, limits) - 0.12 * place, name, color=colour, transform=ax.transAxes, ha="right", fontsize=8
        )


def _free(values: Sequence[float], limits: tuple[float, float]) -> float:
    """Where names of two lines stand, as a share of the height: below if no line is there, else where most is free."""
    shares = (np.array(values) - limits[0]) / (limits[1] - limits[0])
    room = {place: float(np.nanmin(np.abs(shares - place), initial=1.0)) for place in NAMES_AT}
    below = NAMES_AT[0]
    return below if room[below] > CLEAR else max(room, key=room.__getitem__)


def confusion(ax: Axes, runs: Sequence[RunResult], said: str) -> None:
    """The runs' confusion matrix, rows normalised."""
    labels, size = runs[0].labels, len(runs[0].labels)
    shares, each = pooled([run.confusion for run in runs], MOST_SQUARES)
    image = np.empty((*shares.shape, 4), dtype=np.float32)
    image[..., :3] = to_rgb(SERIES[0])
    image[..., 3] = np.sqrt(shares)
    ax.imshow(image, interpolation="none", aspect="equal")
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("Prediction", fontsize=8)
    ax.set_ylabel(said, fontsize=8)
    if size > NAMED_LABELS:
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_xlabel(f"Prediction, {squares(size, each)}", fontsize=8)
        return
    font = 7 if size <= LABELLED else 5.5
    called = list(names(labels, lambda name: elided(name, LABEL)).values())
    ax.set_xticks(range(size), called, rotation=90, fontsize=font)
    ax.set_yticks(range(size), called, fontsize=font)
    shown = 0.005 if size <= LABELLED else 0.095
    for y, x in zip(*np.nonzero(shares >= shown), strict=True):
        colour = "white" if shares[y, x] > 0.25 else INK
        share = ax.text(x, y, f"{100 * shares[y, x]:.0f}", ha="center", va="center", fontsize=font - 1, color=colour)
        share.set_in_layout(False)  # it lies within its square; to measure all of them takes longer than to draw them
