"""Write the report's tables as LaTeX for booktabs."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from itertools import groupby

from cello.report import findings, paper, ranking, reference_figures, robustness, single, tables
from cello.report.metrics import ACCURACY, BY_KEY, COST, LOSS
from cello.report.results import StudyResults
from cello.report.tables import Table
from cello.report.visible import elided
from cello.study.own_cells import WrittenCell

PREAMBLE = r"""% Needs \usepackage{booktabs}, \usepackage{graphicx} and \usepackage[T1]{fontenc}.
"""
BEYOND = r"""% Letters outside Latin script: pdfLaTeX prints their code points; for the letters themselves
% use LuaLaTeX or XeLaTeX and a font that has them.
\ifdefined\pdftexversion\providecommand\celloletters[2]{\texttt{U+#1}}\else
\providecommand\celloletters[2]{#2}\fi
"""
AMSMATH = "\n% The equations of this study's own cells need \\usepackage{amsmath}.\n"
WRAP = 14
LONGEST = 60
"""Letters of a cell's text: a path of two hundred would make its table too small to read."""
NOT_IN_T1 = re.compile(
    "[^\\n -~\u00a0-\u00b7\u00b9-\u0125\u0128-\u0137\u0139-\u013e\u0141-\u0148\u014a-\u0165\u0168-\u017e"
    "ǍǎǏǐǑǒǓǔǦǧǨǩǪǫȘșȚțẞ‐–—‘’‚“”„†‡•…‰‹›€™←→]+"
)
"""What pdfLaTeX has no letter for."""
SPECIAL = str.maketrans(
    {
        "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "_": r"\_",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "×": r"$\times$", "†": r"$\dagger$",
        "–": "--", "“": "``", "”": "''", "’": "'", "<": r"\textless{}", ">": r"\textgreater{}",
        "µ": r"$\mu$", "≤": r"$\leq$", "≥": r"$\geq$", "Δ": r"$\Delta$", "−": "$-$", "′": "$'$",
        "\n": " ", "\r": " ", "\t": " ",
        # after a line's end these would be read as its arguments
        "[": "{[}", "]": "{]}", "*": "{*}",
    }
)  # fmt: skip


def escape(text: str) -> str:
    r"""Text that LaTeX prints as it stands.

    >>> print(escape("a_b 95 % ± 1"))
    a\_b 95 \% $\pm$ 1
    """
    whole = unicodedata.normalize("NFC", text).translate(SPECIAL)
    return NOT_IN_T1.sub(_beyond, whole)


def _beyond(found: re.Match[str]) -> str:
    r"""Letters that not every LaTeX has, with their code points.

    >>> print(escape("שם 1"))
    \celloletters{05E9 05DD}{שם} 1
    """
    points = " ".join(f"{ord(letter):04X}" for letter in found[0])
    shown = "".join(letter for letter in found[0] if not unicodedata.category(letter).startswith("C"))
    return rf"\celloletters{{{points}}}{{{shown}}}"


def _defined(text: str) -> str:
    """The text, after the command for letters outside Latin script where it uses it."""
    return f"{BEYOND}{text}" if r"\celloletters{" in text else text


def table(content: Table, label: str) -> str:
    """One ``table`` environment, no wider than the text; neighbouring columns of a group stand under a common rule."""
    columns = "l" * content.words + "r" * (len(content.headings) - content.words)
    lines = [
        r"\begin{table}[htbp]",
        r"\centering\footnotesize\setlength{\tabcolsep}{3.5pt}",
        rf"\caption{{{escape(content.title)}. {escape(content.note)}}}",
        rf"\label{{tab:{label}}}\smallskip",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
        r"\toprule",
        *_group_lines(content),
        _line([_stacked(h.title, "l" if k < content.words else "r") for k, h in enumerate(content.headings)]),
        r"\midrule",
        *_body(content),
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def report(results: StudyResults) -> str:
    """The tables of results: overview, accuracies, losses with times, ranking, pairs, reference figures, clips."""
    parts = [
        tables.details(results, ACCURACY, "Accuracy"),
        tables.details(results, LOSS + COST, "Loss and training time"),
        tables.times(results),
    ]
    if len(results.columns) > 1:
        parts.insert(0, tables.overview(results, BY_KEY["test_accuracy"]))
    compare = reference_figures.table(results)
    parts += robustness.tables(results)
    compared = (ranking.table(results), ranking.matrix(results), ranking.differences(results))
    parts += [part for part in (*compared, compare) if part]
    parts += single.tables(results)
    parts[0] = parts[0]._replace(note=parts[0].note + findings.cut_off(results))  # once, not under each table
    equations = "".join(_equations(cell) for cell in results.own_cells)
    stem = "".join(c if c.isascii() and c.isalnum() else "-" for c in results.name)
    labels = [f"{stem}-{number}" for number in range(1, len(parts) + 1)]
    whole = "\n".join(table(part, label) for part, label in zip(parts, labels, strict=True))
    return f"{PREAMBLE}{_defined(whole + (AMSMATH + equations if equations else ''))}"


def _equations(cell: WrittenCell) -> str:
    return f"\n% {' '.join(cell.name.split())}\n\\begin{{equation*}}\n{cell.latex}\n\\end{{equation*}}\n"


def methods(results: StudyResults) -> str:
    """The methods paragraph, which cites the entries of ``references.bib``; what is to be added stands in comments."""
    text = paper.paragraph(results, cite=lambda found: rf"\cite{{{found.key}}}", escape=escape)
    alone = re.sub(r" \((\\cite\{\w+\})\)", r"~\1", text)  # brackets of its own round nothing but a citation
    notes = [f"% {' '.join(note.split())}" for note in paper.unrecorded(results)]
    lines = textwrap.wrap(alone, 100, break_long_words=False, break_on_hyphens=False)
    return "\n".join([*notes, _defined("\n".join(lines))]) + "\n"


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
        cells = [escape(elided(text, LONGEST)) for text in row]
        cells = [rf"\textbf{{{text}}}" if (number, k) in content.strong else text for k, text in enumerate(cells)]
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
