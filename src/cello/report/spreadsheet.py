"""Write tables as CSV that spreadsheets open without computing anything."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
"""What formulas begin with, in both widths."""


def written(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A header line and the rows; a text that a spreadsheet would compute begins with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(_text, names))
    writer.writerows(map(_text, row) for row in rows)
    return out.getvalue()


def _text(value: object) -> object:
    """A value for a spreadsheet: text that it would take for a formula is marked as text, numbers are left alone.

    >>> _text("=1+1"), _text("gru"), _text(-0.5), _text(" @x")
    ("'=1+1", 'gru', -0.5, "' @x")
    """
    if not isinstance(value, str):
        return value
    lines = value.replace("\r\n", "\n").replace("\r", "\n")  # csv does not quote a bare return, which ends a row
    return f"'{lines}" if lines.lstrip()[:1] in FORMULA or lines[:1] in ("\t", "\n") else lines
