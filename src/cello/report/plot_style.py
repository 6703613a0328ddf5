"""Colours, markers, legends and names at curves, the same in every plot of a study.

In SVG the inks are CSS variables (``--ink``, ``--series-1`` …) with the printed colour as fallback, so that a page
can turn them for a dark background.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib import axes
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from cello.report.picture_limits import NAME_GAP, spread
from cello.report.results import StudyResults

Axes = axes.Axes  # diagrams.py draws into them too
INK, FAINT, GRID = "#1c2024", "#6b737b", "#dfe3e6"
PAPER = "#fefefe"  # not quite white, so that white letters on dark squares stay white on a dark page
SERIES = ("#005dc8", "#b33e22", "#00624e", "#ac79c8", "#c18d01", "#213b66", "#829299")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES: tuple[str | tuple[int, tuple[float, ...]], ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)))
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


def inks() -> dict[str, str]:
    """Every colour of the plots by the name of its CSS variable."""
    series = {f"series-{k}": colour for k, colour in enumerate(SERIES, 1)}
    return {"ink": INK, "faint": FAINT, "grid": GRID, "paper": PAPER} | series


def look(results: StudyResults, row: str) -> tuple[str, str, str | tuple[int, tuple[float, ...]]]:
    """Colour, marker and dash of a model: the same in every picture of a study."""
    turn, place = divmod(results.rows.index(row), len(SERIES))
    return SERIES[place], MARKERS[(place + turn) % len(MARKERS)], DASHES[turn % len(DASHES)]


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


def legend(ax: Axes, inches: float = 0.42) -> None:
    """A legend under the axis label, so far below the axis, at the right; each panel of a picture has its own."""
    if not ax.get_legend_handles_labels()[0]:
        return
    below = ax.transAxes + ScaledTranslation(0, -inches, ax.figure.dpi_scale_trans)
    ax.legend(
        loc="upper right", bbox_to_anchor=(1, 0), bbox_transform=below, borderaxespad=0, frameon=False,
        fontsize=8, handletextpad=0.4,
    )  # fmt: skip


def whole_numbers() -> MaxNLocator:
    """At most eight ticks of an axis in percent, at whole numbers."""
    return MaxNLocator(7, steps=[1, 2, 5, 10])
