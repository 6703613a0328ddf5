"""What hurts: a thesis whose plots are screenshots, or a picture for every cell of a large table."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable

import msgspec

from cello.report.formats import pdf
from cello.report.results import Run, StudyResults


def pages(content: bytes) -> int:
    return content.count(b"/Type /Page ")


def fonts(content: bytes) -> list[bytes]:
    """The TrueType files in a PDF."""
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, re.DOTALL)
    packed = [stream for stream in streams if stream.startswith(b"x")]
    return [font for font in map(zlib.decompress, packed) if font.startswith(b"\0\1\0\0")]


def test_each_kind_is_a_file_with_a_page_a_picture(
    small: StudyResults, gates: StudyResults, without: Callable[[StudyResults, Callable[[Run], bool]], StudyResults]
) -> None:
    assert (len(small.rows), len(small.columns)) == (2, 2)
    three = gates.rows[:3]
    of_one_column = msgspec.structs.replace(without(gates, lambda run: run.row not in three), rows=three)
    for results in (small, of_one_column):
        found = pdf.files(results)
        assert all(content.startswith(b"%PDF-") for content in found.values())
        assert {"accuracy.pdf", "cost.pdf", "curves.pdf", "confusions.pdf"} <= found.keys()
        assert pages(found["cost.pdf"]) == 2
        # with several columns, each model in its best one
        assert pages(found["curves.pdf"]) == pages(found["confusions.pdf"]) == len({row for row, _ in results.cells()})
        letters = fonts(found["cost.pdf"])
        assert letters
        for font in letters:
            assert b"glyf" in font[:400]
            assert not re.search(rb"GSUB|GPOS|GDEF", font[:400])  # a fourth of a plot's time, for what nobody reads
