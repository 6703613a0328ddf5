"""The report's tables as LaTeX for booktabs, to be included in a paper."""

from __future__ import annotations

import re
import textwrap
from itertools import groupby

from cello.report import conditions, paper, published, ranking, tables
from cello.report.metrics import ACCURACY, BY_KEY, COST, LOSS
from cello.report.results import StudyResults
from cello.report.tables import Table
from cello.study.own_cells import WrittenCell

PREAMBLE = r"""% Needs \usepackage{booktabs} and \usepackage[T1]{fontenc};
% names outside Latin script need LuaLaTeX or XeLaTeX.
"""
AMSMATH = "\n% The equations of this study's own cells need \\usepackage{amsmath}.\n"
WRAP = 14
SPECIAL = str.maketrans(
    {
        "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "_": r"\_",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "×": r"$\times$", "†": r"$\dagger$",
        "–": "--", "“": "``", "”": "''", "’": "'", "<": r"\textless{}", ">": r"\textgreater{}",
        "µ": r"$\mu$", "Δ": r"$\Delta$", "−": "$-$", "′": "$'$", "\n": " ", "\r": " ", "\t": " ",
        # after a line's end these would be read as its arguments
        "[": "{[}", "]": "{]}", "*": "{*}",
    }
)  # fmt: skip


def escape(text: str) -> str:
    r"""Text that LaTeX prints as it stands.

    >>> print(escape("a_b 95 % ± 1"))
    a\_b 95 \% $\pm$ 1
    """
    return text.translate(SPECIAL)


def table(content: Table, label: str) -> str:
    """One ``table`` environment; neighbouring columns of a group stand under a common rule."""
    columns = "l" * content.words + "r" * (len(content.headings) - content.words)
    lines = [
        r"\begin{table}[htbp]",
        r"\centering\footnotesize\setlength{\tabcolsep}{3.5pt}",
        rf"\caption{{{escape(content.title)}. {escape(content.note)}}}",
        rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
        r"\toprule",
        *_group_lines(content),
        _line([_stacked(h.title, "l" if k < content.words else "r") for k, h in enumerate(content.headings)]),
        r"\midrule",
        *_body(content),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def report(results: StudyResults) -> str:
    """The tables of results: overview, accuracies, losses with times, ranking, differences, published figures."""
    parts = [
        tables.details(results, ACCURACY, "Accuracy"),
        tables.details(results, LOSS + COST, "Loss and training time"),
    ]
    if len(results.columns) > 1:
        parts.insert(0, tables.overview(results, BY_KEY["test_accuracy"]))
    compare = published.gates(results)
    parts += conditions.tables(results)
    evidence = (ranking.table(results), ranking.differences(results))
    parts += [part for part in (*evidence, compare) if part]
    equations = "".join(_equations(cell) for cell in results.own_cells)
    stem = "".join(c if c.isascii() and c.isalnum() else "-" for c in results.name)
    labels = [f"{stem}-{number}" for number in range(1, len(parts) + 1)]
    whole = "\n".join(table(part, label) for part, label in zip(parts, labels, strict=True))
    return f"{PREAMBLE}\n{whole}{AMSMATH + equations if equations else ''}"


def _equations(cell: WrittenCell) -> str:
    return f"\n% {cell.name}\n\\begin{{equation*}}\n{cell.latex}\n\\end{{equation*}}\n"


def methods(results: StudyResults) -> str:
    """The methods paragraph, which cites the entries of ``references.bib``; what is to be added stands in comments."""
    text = paper.paragraph(results, cite=lambda found: rf"\cite{{{found.key}}}", escape=escape)
    alone = re.sub(r" \((\\cite\{\w+\})\)", r"~\1", text)  # brackets of its own round nothing but a citation
    notes = [f"% {' '.join(note.split())}" for note in paper.unrecorded(results)]
    lines = textwrap.wrap(alone, 100, break_long_words=False, break_on_hyphens=False)
    return "\n".join([*notes, *lines]) + "\n"


def _group_lines(content: Table) -> list[str]:
    cells, rules, place = [], [], 1
    for group, members in groupby(content.headings, key=lambda h: h.group):
        width = len(list(members))
        if group:
            cells.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(group)}}}")
            rules.append(rf"\cmidrule(lr){{{place}-{place + width - 1}}}")
        else:
            cells += [""] * width
        place += width
    return [_line(cells), "".join(rules)] if rules else []


def _body(content: Table) -> list[str]:
    lines, previous = [], None
    for number, row in enumerate(content.rows):
        cells = [rf"\textbf{{{escape(c)}}}" if (number, k) in content.strong else escape(c) for k, c in enumerate(row)]
        if content.grouped and row[0] == previous:
            cells[0] = ""
        elif content.grouped and previous is not None:
            lines.append(r"\addlinespace")
        previous = row[0]
        lines.append(_line(cells))
    return lines


def _stacked(title: str, side: str) -> str:
    """A long heading on several lines, so that it does not widen its column."""
    lines = [escape(line) for line in textwrap.wrap(title, WRAP, break_long_words=False)]
    stacked = r" \\ ".join(lines)
    return rf"\shortstack[{side}]{{{stacked}}}" if len(lines) > 1 else stacked


def _line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"
