"""Write the report as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape as escape_html
from importlib import resources
from itertools import groupby
from typing import NamedTuple

from cello import __version__
from cello.report import diagrams, plots
from cello.report.plots import Panel
from cello.report.results import StudyResults, place_name
from cello.report.sections import MOST_PICTURES, NAMED_LABELS, Section, report_sections
from cello.report.tables import Table

WIDE_LABELS = 20
LISTED = 24
LONG = 24  # letters of a text that may stand on several lines
NOT_DRAWN = (
    "The other {} are not drawn here, for a page of so many pictures opens slowly; their figures stand in report.json "
    "(cello report … --format json)."
)
PICTURES: dict[str, tuple[str, Callable[[StudyResults], list[Panel]]]] = {
    "accuracy": ("large", plots.accuracy),
    "comparisons": ("large", diagrams.forest),
    "order": ("large", diagrams.order),
    "conditions": ("large", diagrams.conditions),
    "cost": ("large", plots.cost),
    "curves": ("small", plots.curves),
    "confusions": ("medium", plots.confusions),
}


def report(results: StudyResults) -> str:
    """The whole page; it fetches nothing, carries no script, and has every text escaped."""
    sections = report_sections(results)
    style = (resources.files("cello.report.formats") / "html.css").read_text("utf-8")
    links = "".join(f'<li><a href="#{s.key}">{escape(s.title)}</a></li>' for s in sections)
    pictures = _drawn({s.key: _pictures(s.picture, results) for s in sections if s.picture})
    body = "\n".join(_section(section, pictures.get(section.key, "")) for section in sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(results.title)}</title>
<style>
{style}</style>
</head>
<body>
<header><h1>{escape(results.title)}</h1></header>
<nav aria-label="Sections"><ul>{links}</ul></nav>
<main>
{body}
</main>
<footer><p>Written by Cello {escape(__version__)} from the runs of study “{escape(results.name)}”.</p></footer>
</body>
</html>
"""


def escape(text: str) -> str:
    """Text that HTML shows as it stands, with an interval and its unit kept on one line.

    >>> escape("<b> 95.0 ± 0.3 %").encode("ascii", "xmlcharrefreplace")
    b'&lt;b&gt; 95.0&#160;&#177;&#160;0.3&#160;%'
    """
    return (
        escape_html(text).replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}").replace(" %", "\N{NO-BREAK SPACE}%")
    )


def table(content: Table) -> str:
    """One table in a box that scrolls sideways where the screen is narrow."""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(content.title)}">\n<table>\n'
        f"<caption>{escape(content.title)}</caption>\n<thead>{_head(content)}</thead>\n{_body(content)}</table></div>\n"
        f'<p class="note">{escape(content.note)}</p>'
    )


def _section(section: Section, pictures: str) -> str:
    parts = [f'<section id="{section.key}">', f"<h2>{escape(section.title)}</h2>"]
    parts += [f"<p>{escape(p)}</p>" for p in section.paragraphs]
    parts.append(_list(section.points))
    tables = [table(t) for t in section.tables]
    parts += [*tables[:1], pictures, *tables[1:], _list(section.closing[:LISTED])]
    rest = (*section.closing[LISTED:], *section.folded)
    if rest:
        parts.append(f"<details><summary>The other {len(rest)}</summary>{_list(rest)}</details>")
    if section.code:
        parts.append(f'<pre tabindex="0">{escape_html(section.code.rstrip())}</pre>')
    return "\n".join(part for part in [*parts, "</section>"] if part)


def _list(texts: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>" if texts else ""


class Grid(NamedTuple):
    """Pictures side by side; ``key`` keeps their names apart from other grids'."""

    panels: Sequence[Panel]
    size: str
    key: str
    wide: bool


class Pictures(NamedTuple):
    """What a section shows: its pictures, a note above them, what is folded below them, or that it is not drawn."""

    shown: Grid
    note: str = ""
    folded: Grid | None = None
    not_drawn: str = ""


def _pictures(key: str, results: StudyResults) -> Pictures:
    """Pictures of a section; of one picture a cell, each model's best column stands open, the others folded."""
    size, draw = PICTURES[key]
    wide = key == "confusions" and WIDE_LABELS < len(results.corpus.labels) <= NAMED_LABELS
    if key not in ("curves", "confusions") or len(results.columns) == 1:
        return _bounded(Grid(draw(results), size, key, wide))
    panels = {panel.title: panel for panel in draw(results)}
    first = [place_name(*place) for place in plots.best_places(results)]
    rest = [panel for title, panel in panels.items() if title not in first]
    bounded = _bounded(Grid([panels[title] for title in first], size, key, wide))
    note = f'<p class="note">Each model at the {results.column_title.lower()} of its best validation accuracy.</p>'
    if not rest:
        return bounded
    if bounded.not_drawn or len(rest) > MOST_PICTURES:
        return Pictures(bounded.shown, note, not_drawn=_not_drawn(len(panels) - len(bounded.shown.panels)))
    return Pictures(bounded.shown, note, Grid(rest, size, f"{key}-more", wide))


def _bounded(grid: Grid) -> Pictures:
    """A grid as it is or, of very many pictures, the first and a word about the others."""
    rest = len(grid.panels) - MOST_PICTURES
    if rest <= 0:
        return Pictures(grid)
    return Pictures(grid._replace(panels=grid.panels[:MOST_PICTURES]), not_drawn=_not_drawn(rest))


def _not_drawn(pictures: int) -> str:
    return f'<p class="note">{NOT_DRAWN.format(pictures)}</p>'


def _drawn(sections: Mapping[str, Pictures]) -> dict[str, str]:
    """The HTML of each section's pictures; all are drawn in one go, for that is most of the work of a page."""
    grids = [grid for found in sections.values() for grid in (found.shown, found.folded) if grid]
    named = [(panel, f"{grid.key}-{number}") for grid in grids for number, panel in enumerate(grid.panels)]
    texts = iter(plots.svgs(named))
    drawn = {grid.key: _grid(grid, [next(texts) for _ in grid.panels]) for grid in grids}
    return {
        key: f"{found.note}{drawn[found.shown.key]}{found.not_drawn}{_folded(found.folded, drawn)}"
        for key, found in sections.items()
    }


def _folded(grid: Grid | None, drawn: Mapping[str, str]) -> str:
    if grid is None:
        return ""
    return f"<details><summary>The other {len(grid.panels)}</summary>{drawn[grid.key]}</details>"


def _grid(grid: Grid, texts: Sequence[str]) -> str:
    kind = ' class="wide"' if grid.wide else ""
    figures = "\n".join(f"<figure{kind}>{text}</figure>" for text in texts)
    return f'<div class="pictures {grid.size}">{figures}</div>'


def _head(content: Table) -> str:
    shown = content.headings[1:] if content.grouped else content.headings
    words = content.words - content.grouped
    tops: list[str] = []
    for group, members in groupby(shown, key=lambda h: h.group):
        width = len(list(members))
        title = f'<th class="group" scope="colgroup" colspan="{width}">{escape(group)}</th>'
        tops.append(title if group else "<td></td>" * width)
    cells = [f'<th scope="col"{_kind(k < words)}>{escape(h.title)}</th>' for k, h in enumerate(shown)]
    top = f"<tr>{''.join(tops)}</tr>" if any(h.group for h in shown) else ""
    return f"{top}<tr>{''.join(cells)}</tr>"


def _body(content: Table) -> str:
    if not content.grouped:
        return f"<tbody>{''.join(_row(row, k, content, 0) for k, row in enumerate(content.rows))}</tbody>"
    parts = []
    for name, members in groupby(enumerate(content.rows), key=lambda item: item[1][0]):
        span = len(content.headings) - 1
        title = f'<tr class="block"><th class="words" scope="rowgroup" colspan="{span}">{escape(name)}</th></tr>'
        parts.append(f"<tbody>{title}{''.join(_row(row, k, content, 1) for k, row in members)}</tbody>")
    return "\n".join(parts)


def _row(row: Sequence[str], number: int, content: Table, skip: int) -> str:
    cells = []
    for k, text in enumerate(row[skip:], skip):
        shown = f"<strong>{escape(text)}</strong>" if (number, k) in content.strong else escape(text)
        if k == skip:
            cells.append(f'<th class="words" scope="row">{shown}</th>')
        else:
            cells.append(f"<td{_kind(k < content.words, len(text) > LONG)}>{shown}</td>")
    return f"<tr>{''.join(cells)}</tr>\n"


def _kind(words: bool, long: bool = False) -> str:
    return f' class="words{" long" * long}"' if words else ""
