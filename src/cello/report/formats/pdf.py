"""Write a report's pictures as PDF files for a paper, one file a kind and one page a picture."""

from __future__ import annotations

from cello.report import plots
from cello.report.formats.html import PICTURES
from cello.report.plots import Panel
from cello.report.results import StudyResults
from cello.report.sections import MOST_PICTURES, report_sections

EACH_PLACE = {"curves": plots.curves, "confusions": plots.confusions}
"""Kinds with a picture for each cell of the table; a paper gets each model in its best column."""


def files(results: StudyResults) -> dict[str, bytes]:
    """The PDF files by name, as accuracy.pdf; page k of a file is its k-th picture in the HTML report."""
    keys = [section.picture for section in report_sections(results) if section.picture]
    drawn = {key: _panels(key, results)[:MOST_PICTURES] for key in keys}
    return {f"{key}.pdf": plots.pdf(panels) for key, panels in drawn.items() if panels}


def _panels(key: str, results: StudyResults) -> list[Panel]:
    if key in EACH_PLACE and len(results.columns) > 1:
        return EACH_PLACE[key](results, plots.best_places(results))
    return PICTURES[key][1](results)
