"""Draw a study's pictures with matplotlib.

Without pyplot, so that a notebook's own figures are left alone; only this and ``fonts`` import matplotlib.

A ``Panel`` is one picture; ``svg`` dresses it for a page, ``png`` lays several out side by side for a notebook.
In SVG the inks are CSS variables (``--ink``, ``--series-1`` …) with the printed colour as fallback, so that a page
can turn them for a dark background.
"""

from __future__ import annotations

import html
import io
import math
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from matplotlib import axes, style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from cello.report.confusion import pooled, squares
from cello.report.cost import COSTS, Cost, front, points
from cello.report.fonts import dress
from cello.report.metrics import ACCURACY, BY_KEY, Interval, Metric
from cello.report.parallel import on_all_cores
from cello.report.picture_limits import (
    LABEL,
    MOST_EPOCHS,
    MOST_PIXELS,
    MOST_SQUARES,
    NAME_GAP,
    TICK_LETTERS,
    TICKS,
    TITLE,
    bars,
    called_rows,
    drawn,
    limits,
    spread,
    tall,
    wide,
)
from cello.report.results import StudyResults, place_name
from cello.report.sections import MOST_PICTURES, NAMED_LABELS
from cello.report.tables import best_column
from cello.report.visible import elided, names
from cello.report.vocabulary import has_spoken_words
from cello.training.result import RunResult

Axes = axes.Axes  # diagrams.py draws into them too
INK, FAINT, GRID = "#1c2024", "#6b737b", "#dfe3e6"
PAPER = "#fefefe"  # not quite white, so that white letters on dark squares stay white on a dark page
SERIES = ("#005dc8", "#b33e22", "#00624e", "#ac79c8", "#c18d01", "#213b66", "#829299")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES: tuple[str | tuple[int, tuple[float, ...]], ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)))
LABELLED = 16
LETTERS_PER_INCH = 12
SHORT, NARROW, NAMES_PER_INCH = 16, 16, 17.0  # names that need no more room at the left; letters of a title; of names
NAMES_AT, CLEAR = (0.16, 0.55, 0.9), 0.2  # heights for the names of curves, and how far off a line has to be
MANY = 6  # pictures that are worth a second process
STYLE: dict[str, Any] = {
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 9, "axes.titlesize": 9,
    "axes.titlelocation": "left", "axes.titleweight": "bold", "axes.edgecolor": FAINT, "axes.linewidth": 0.7,
    "axes.spines.top": False, "axes.spines.right": False, "axes.labelcolor": INK, "axes.facecolor": "none",
    "figure.facecolor": "none", "text.color": INK, "xtick.color": FAINT, "ytick.color": FAINT,
    "xtick.labelcolor": INK, "ytick.labelcolor": INK, "xtick.labelsize": 8, "ytick.labelsize": 8, "axes.grid": True,
    "axes.grid.axis": "y", "grid.color": GRID, "grid.linewidth": 0.6, "axes.axisbelow": True, "lines.linewidth": 1.6,
    "lines.markersize": 5, "svg.fonttype": "none", "svg.hashsalt": "cello", "figure.constrained_layout.use": True,
    "text.parse_math": False,  # a $ in a name is a $
}  # fmt: skip


class Panel(NamedTuple):
    """One picture: what it shows in words, its size in inches, and how it is drawn into axes."""

    title: str
    description: str
    size: tuple[float, float]
    draw: Callable[[Axes], None]


def accuracy(results: StudyResults) -> list[Panel]:
    """Test accuracy against the column, a line a model; in a study of one column, all three splits by model."""
    results, part = drawn(results)
    splits = f"Train, validation and test accuracy of each model{part}"
    if len(results.columns) == 1:
        height = 0.9 + 0.3 * len(results.rows)
        return [
            Panel(
                splits, f"{splits}.", (wide(results), height), lambda ax: _split_dots(ax, results, results.columns[0])
            )
        ]
    title = f"Test accuracy by {results.column_title.lower()}{part}"
    described = f"{title}, one line a model; bars are 95 % t-intervals."
    return [Panel(title, described, (4.9, tall(results, 3.6)), lambda ax: _lines(ax, results))]


def cost(results: StudyResults) -> list[Panel]:
    """Test accuracy against seconds per epoch and against parameters, one point a cell, the Pareto front marked."""
    panels = []
    results, part = drawn(results)
    for axis in COSTS:
        title = f"Test accuracy by {axis.axis}{part}"

        def draw(ax: Axes, axis: Cost = axis) -> None:
            _scatter(ax, results, axis)

        described = f"{title}, one point a cell of the table; rings mark the Pareto front."
        panels.append(Panel(title, described, (4.9, tall(results, 3.7)), draw))
    return panels


def curves(results: StudyResults, places: Sequence[tuple[str, str]] | None = None) -> list[Panel]:
    """Training and validation accuracy by epoch, one panel a cell of the table, all on the same scale."""
    limits = _curve_limits(results)
    panels = []
    for place in _by_model(results) if places is None else places:

        def draw(ax: Axes, runs: tuple[RunResult, ...] = results.cell(*place)) -> None:
            _curve(ax, runs, limits)

        name = place_name(*place)
        panels.append(Panel(name, f"Training and validation accuracy by epoch: {name}.", (2.9, 2.0), draw))
    return panels


def confusions(results: StudyResults, places: Sequence[tuple[str, str]] | None = None) -> list[Panel]:
    """Confusion matrices on the test clips, rows normalised, one panel a cell of the table."""
    panels, said = [], "Spoken word" if has_spoken_words(results) else "Label"
    for place in _by_model(results) if places is None else places:
        runs = results.cell(*place)
        labels = len(runs[0].labels)
        side = 5.0 if labels > NAMED_LABELS else max(3.3, 1.0 + 0.15 * labels)

        def draw(ax: Axes, runs: tuple[RunResult, ...] = runs) -> None:
            _confusion(ax, runs, said)

        name = place_name(*place)
        panels.append(Panel(name, f"Confusion matrix on the test clips: {name}.", (side + 0.2, side), draw))
    return panels


def best_places(results: StudyResults) -> list[tuple[str, str]]:
    """Each model in the column where its validation accuracy is highest."""
    return [(row, best_column(results, row)) for row in results.rows if any(r == row for r, _ in results.cells())]


def svg(panel: Panel, name: str) -> str:
    """A panel as an ``<svg>`` element for a page; ``name`` keeps its ids apart from other pictures'."""
    with _style():
        return _svg(panel, name)


def svgs(named: Sequence[tuple[Panel, str]]) -> list[str]:
    """Panels with their names, each as ``svg`` makes it; the style is set once, which takes its time."""
    with _style():
        return on_all_cores(lambda one: _svg(*one), named, worth=len(named) >= MANY)


def _svg(panel: Panel, name: str) -> str:
    out = io.StringIO()
    with _quiet():
        # the letters are drawn by whoever shows the page, with fonts of theirs
        figure = _figure([panel], 1)
        # savefig would draw twice, the first time only to lay out
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        FigureCanvasSVG(figure).print_svg(out, metadata=nothing)  # type: ignore[no-untyped-call]
    text = out.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<[^>]+>", _tags(name, text), text)
    text = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", text, count=1)
    label = html.escape(panel.description, quote=True)
    text = re.sub(r"<style.*?</style>\s*", "", text, flags=re.DOTALL)
    attributes = f'role="img" aria-label="{label}" stroke-linejoin="round"'
    return re.sub(r'(<svg\b[^>]*?) width="[^"]*"', lambda m: f"{m[1]} {attributes}", text, count=1)


def _tags(name: str, text: str) -> Callable[[re.Match[str]], str]:
    """How a tag of a page differs from matplotlib's: ids of its own, inks that the page can turn. Texts stay."""
    used = {own for tag in re.findall(r"<[^>]+>", text) for own in re.findall(r'(?:url\(|href=")#([\w.-]+)', tag)}

    def change(found: re.Match[str]) -> str:
        if "#" not in found[0] and " id=" not in found[0]:
            return found[0]
        tag = re.sub(r' id="([\w.-]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", found[0])
        tag = re.sub(r'(url\(|href=")#', rf"\1#{name}-", tag)
        for variable, colour in _inks().items():
            tag = tag.replace(colour, f"var(--{variable}, {colour})")
        return tag

    return change


def png(panels: Sequence[Panel], across: int = 1, dpi: int = 100) -> bytes:
    """Panels side by side on white paper, as a notebook shows them."""
    out = io.BytesIO()
    with _style(), _quiet():
        figure = _figure(panels, across)
        dress(figure)
        figure.savefig(out, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return out.getvalue()


def pngs(panels: Sequence[Panel], across: int = 1, dpi: int = 100) -> list[bytes]:
    """As ``png``, in several pictures where one would be too large; of very many panels the first."""
    panels = panels[:MOST_PICTURES]
    if not panels:
        return []
    pixels = across * dpi**2 * max(p.size[0] for p in panels) * max(p.size[1] for p in panels)
    each = across * max(1, int(MOST_PIXELS / pixels))
    return [png(panels[k : k + each], across, dpi) for k in range(0, len(panels), each)]


@contextmanager
def _quiet() -> Iterator[None]:
    """What matplotlib would say of a picture that is drawn all the same."""
    with warnings.catch_warnings():
        for text in (
            "Glyph .* missing",
            "constrained_layout not applied",
            "Tight layout not applied",
            ".*does not have",
        ):
            warnings.filterwarnings("ignore", text, UserWarning)
        yield


def _by_model(results: StudyResults) -> list[tuple[str, str]]:
    return sorted(results.cells(), key=lambda place: results.rows.index(place[0]))


def _inks() -> dict[str, str]:
    series = {f"series-{k}": colour for k, colour in enumerate(SERIES, 1)}
    return {"ink": INK, "faint": FAINT, "grid": GRID, "paper": PAPER} | series


@contextmanager
def _style() -> Iterator[None]:
    with style.context(STYLE, after_reset=True):
        yield


def _figure(panels: Sequence[Panel], across: int) -> Figure:
    down = math.ceil(len(panels) / across)
    width, height = max(p.size[0] for p in panels), max(p.size[1] for p in panels)
    figure = Figure(figsize=(width * across, height * down))
    FigureCanvasAgg(figure)
    for number, panel in enumerate(panels, 1):
        ax = figure.add_subplot(down, across, number)
        panel.draw(ax)
        ax.set_title(textwrap.fill(elided(panel.title, TITLE), _letters(ax, panel.size[0])))
    return figure


def _letters(ax: Axes, inches: float) -> int:
    """How many letters of a title stand over the axes, which the names at their left make narrower."""
    named = max((len(line) for label in ax.get_yticklabels() for line in label.get_text().split("\n")), default=0)
    left = 0.8 + max(0.0, (named - SHORT) / NAMES_PER_INCH)
    return max(NARROW, int(LETTERS_PER_INCH * (inches - left)))


def look(results: StudyResults, row: str) -> tuple[str, str, str | tuple[int, tuple[float, ...]]]:
    """Colour, marker and dash of a model: the same in every picture of a study."""
    turn, place = divmod(results.rows.index(row), len(SERIES))
    return SERIES[place], MARKERS[(place + turn) % len(MARKERS)], DASHES[turn % len(DASHES)]


def _lines(ax: Axes, results: StudyResults) -> None:
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
    ax.yaxis.set_major_locator(_whole_numbers())
    end_labels(ax, ends, len(results.columns) - 0.7)


def _column_ticks(ax: Axes, columns: Sequence[str]) -> None:
    """The columns' names side by side or, where they would overlap, upright; of very many some."""
    texts = list(names(columns, lambda name: elided(name, LABEL)).values())
    upright = sum(map(len, texts)) > TICK_LETTERS and len(texts) > 1
    step = math.ceil(len(texts) / TICKS)
    ax.set_xticks(range(0, len(texts), step), texts[::step], rotation=90 if upright else 0)


def end_labels(ax: Axes, ends: Sequence[tuple[float, float, str, str]], x: float) -> None:
    """Names (of points at x, y, in a colour) in a column at ``x``, moved apart, each tied to its point."""
    low, high = ax.get_ylim()
    ends = sorted(ends, key=lambda end: end[1])
    gap = min(NAME_GAP, 1 / max(len(ends), 1)) if len(ends) > 1 / NAME_GAP else NAME_GAP
    heights = spread([y for _, y, _, _ in ends], gap * (high - low), low, high)
    for (at, y, name, colour), height in zip(ends, heights, strict=True):
        tie = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.4, "linestyle": ":", "shrinkA": 1, "shrinkB": 4}
        ax.annotate(
            name, (at, y), (x, height), color=colour, va="center", fontsize=8, annotation_clip=False, arrowprops=tie
        )


def _split_dots(ax: Axes, results: StudyResults, column: str) -> None:
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
    ax.xaxis.set_major_locator(_whole_numbers())
    ax.set_ylim(len(rows) - 0.5, -0.6)
    called = called_rows(results)
    ax.set_yticks(range(len(rows)), [called[row] for row in rows])
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("Accuracy, %")
    ax.figure.legend(loc="outside lower right", ncols=3, frameon=False, fontsize=8, handletextpad=0.2)


def _scatter(ax: Axes, results: StudyResults, cost: Cost) -> None:
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
        [p.cost for p in best], [p.accuracy for p in best], where="post", color=INK, linewidth=0.9,
        linestyle=(0, (3, 2)), marker="o", markersize=9.5, markerfacecolor="none", markeredgewidth=0.8, zorder=1.5,
        label="Pareto front",
    )  # fmt: skip
    _cost_axis(ax, min(xs), max(xs))
    ax.set_ylim(*limits(shown))
    ax.yaxis.set_major_locator(_whole_numbers())
    ax.set_xlabel(cost.axis.capitalize())
    ax.set_ylabel("Test accuracy, %")
    legend(ax)
    end_labels(ax, ends, ax.get_xlim()[1])


def legend(ax: Axes, columns: int = 1) -> None:
    """A legend under the axis label, at the right; each panel of a picture has its own."""
    if not ax.get_legend_handles_labels()[0]:
        return
    below = ax.transAxes + ScaledTranslation(0, -0.42, ax.figure.dpi_scale_trans)
    ax.legend(
        loc="upper right", bbox_to_anchor=(1, 0), bbox_transform=below, borderaxespad=0, ncols=columns, frameon=False,
        fontsize=8, handletextpad=0.4,
    )  # fmt: skip


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


def _whole_numbers() -> MaxNLocator:
    return MaxNLocator(7, steps=[1, 2, 5, 10])


def _curve_limits(results: StudyResults) -> tuple[float, float]:
    values = [
        100 * value
        for run in results.runs
        for epoch in run.result.history
        for value in (epoch.train_accuracy, epoch.validation_accuracy)
        if math.isfinite(value)
    ]
    return (min(values, default=0.0) // 10 * 10, 101.0)


def _curve(ax: Axes, runs: Sequence[RunResult], limits: tuple[float, float]) -> None:
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


def _confusion(ax: Axes, runs: Sequence[RunResult], said: str) -> None:
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
