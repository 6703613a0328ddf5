"""What hurts: a thesis whose plots are screenshots, or a picture for every cell of a large table."""

from __future__ import annotations

from cello.report.formats import pdf
from cello.report.results import StudyResults


def pages(content: bytes) -> int:
    return content.count(b"/Type /Page ")


def test_each_kind_is_a_file_with_a_page_a_picture(windows: StudyResults, gates: StudyResults) -> None:
    assert len(windows.columns) > 1
    for results in (windows, gates):
        found = pdf.files(results)
        assert all(content.startswith(b"%PDF-") for content in found.values())
        assert {"accuracy.pdf", "cost.pdf", "curves.pdf", "confusions.pdf"} <= found.keys()
        assert pages(found["cost.pdf"]) == 2
        # with several columns, each model in its best one
        assert pages(found["curves.pdf"]) == pages(found["confusions.pdf"]) == len({row for row, _ in results.cells()})
