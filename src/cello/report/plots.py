"""Make a study's pictures: panels with their words, as SVG for a page, PDF for a paper and PNG for a notebook.

Without pyplot, so that a notebook's own figures are left alone; ``fonts``, this and the other ``plot`` files alone
import matplotlib. A ``Panel`` is one picture; ``svg`` dresses it for a page, ``png`` lays several out side by side.
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
from typing import NamedTuple

from fontTools import subset
from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf, PdfPages
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from cello.report.cost import Cost, costs
from cello.report.fonts import dress
from cello.report.parallel import on_all_cores
from cello.report.picture_limits import MOST_PIXELS, TITLE, drawn, tall, wide
from cello.report.plot_axes import confusion, curve, curve_limits, lines, scatter, split_dots
from cello.report.plot_style import STYLE, Axes, inks
from cello.report.results import StudyResults, place_name
from cello.report.sections import MOST_PICTURES, NAMED_LABELS
from cello.report.tables import best_column
from cello.report.visible import elided
from cello.report.vocabulary import has_spoken_words
from cello.training.result import RunResult

LETTERS_PER_INCH = 12
SHORT, NARROW, NAMES_PER_INCH = 16, 16, 17.0  # names that need no more room at the left; letters of a title; of names
MANY = 6  # pictures that are worth a second process


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
            Panel(splits, f"{splits}.", (wide(results), height), lambda ax: split_dots(ax, results, results.columns[0]))
        ]
    title = f"Test accuracy by {results.column_title.lower()}{part}"
    described = f"{title}, one line a model; bars are 95 % t-intervals."
    return [Panel(title, described, (4.9, tall(results, 3.6)), lambda ax: lines(ax, results))]


def cost(results: StudyResults) -> list[Panel]:
    """Test accuracy against seconds per epoch and against parameters, one point a cell, the Pareto front marked."""
    panels = []
    results, part = drawn(results)
    for axis in costs(results):
        title = f"Test accuracy by {axis.axis}{part}"

        def draw(ax: Axes, axis: Cost = axis) -> None:
            scatter(ax, results, axis)

        described = f"{title}, one point a cell of the table; rings mark the Pareto front."
        panels.append(Panel(title, described, (4.9, tall(results, 3.7)), draw))
    return panels


def curves(results: StudyResults, places: Sequence[tuple[str, str]] | None = None) -> list[Panel]:
    """Training and validation accuracy by epoch, one panel a cell of the table, all on the same scale."""
    limits = curve_limits(results)
    panels = []
    for place in _by_model(results) if places is None else places:

        def draw(ax: Axes, runs: tuple[RunResult, ...] = results.cell(*place)) -> None:
            curve(ax, runs, limits)

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
            confusion(ax, runs, said)

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
        for variable, colour in inks().items():
            tag = tag.replace(colour, f"var(--{variable}, {colour})")
        return tag

    return change


def svg_file(panel: Panel) -> bytes:
    """A panel as an SVG file of its own, on white paper, its letters as outlines."""
    out = io.BytesIO()
    with style.context([STYLE, {"svg.fonttype": "path"}], after_reset=True), _quiet():
        figure = _figure([panel], 1)
        dress(figure)
        figure.savefig(out, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
    return out.getvalue()


def pdf(panels: Sequence[Panel]) -> bytes:
    """Panels as one PDF file, a page each, with letters that a reader can search; the same bytes each time."""
    out = io.BytesIO()
    nothing = dict.fromkeys(("CreationDate", "Creator", "Producer"))
    with (
        style.context([STYLE, {"pdf.fonttype": 42}], after_reset=True),
        _quiet(),
        _letters_alone(),
        PdfPages(out, metadata=nothing) as pages,
    ):
        for panel in panels:
            figure = _figure([panel], 1)
            dress(figure)
            # savefig would draw twice, as above
            FigureCanvasPdf(figure).print_pdf(pages)  # type: ignore[no-untyped-call]
    return out.getvalue()


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


@contextmanager
def _letters_alone() -> Iterator[None]:
    """Fonts of a file without their rules for placing letters, which are placed: to read those takes half its time."""
    dropped = getattr(subset.Options, "_drop_tables_default", [])
    subset.Options._drop_tables_default = [*dropped, "GDEF", "GPOS", "GSUB"]
    try:
        yield
    finally:
        subset.Options._drop_tables_default = dropped


def _by_model(results: StudyResults) -> list[tuple[str, str]]:
    return sorted(results.cells(), key=lambda place: results.rows.index(place[0]))


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
