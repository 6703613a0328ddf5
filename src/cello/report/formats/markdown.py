"""Write the report as GitHub Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable

from cello.report.results import StudyResults
from cello.report.sections import report_sections
from cello.report.tables import Table

# a backslash is written out, for notebooks take two and a bracket for the beginning of mathematics
SPECIAL = str.maketrans({c: "\\" + c for c in "`*_[]<>|#~$&"} | {"\\": "&#92;", "\n": " ", "\r": " "})
LINK = re.compile(r"(?<=[A-Za-z])(?=://)|(?<=\bwww)(?=\.)|(?=@)|(?<=mailto)(?=:)|(?<=xmpp)(?=:)", re.IGNORECASE)
BLOCK = re.compile(r"\s*(?:([-+=:])|(\d+)([.)]))")


def escape(text: str) -> str:
    """Text that Markdown shows as it stands; an address in it is no link.

    >>> print(escape("lstm_coupled | a*b, https://a.org"))
    lstm\\_coupled \\| a\\*b, https\\://a.org
    """
    return LINK.sub(r"\\", text.translate(SPECIAL))


def block(text: str) -> str:
    """Text that begins a paragraph or a point, and neither a list nor a heading nor code of its own.

    >>> block("1. of all"), block("- me"), block("    x")
    ('1\\\\. of all', '\\\\- me', 'x')
    """
    escaped = escape(text).lstrip()
    return (
        BLOCK.sub(lambda m: f"\\{m[1]}" if m[1] else f"{m[2]}\\{m[3]}", escaped, count=1)
        if BLOCK.match(escaped)
        else escaped
    )


def table(content: Table) -> str:
    """One table with its title and note; group headings are folded into the columns' own."""
    heads = [_heading(h.group, h.title) for h in content.headings]
    rule = [":--" if index < content.words else "--:" for index in range(len(heads))]
    lines = [_line(heads), _line(rule)]
    previous = ""
    for number, row in enumerate(content.rows):
        cells = [f"**{escape(c)}**" if (number, k) in content.strong else escape(c) for k, c in enumerate(row)]
        if content.grouped:
            cells[0], previous = ("" if row[0] == previous else f"**{cells[0]}**"), row[0]
        lines.append(_line(cells))
    return "\n".join([f"**{escape(content.title)}**", "", *lines, "", block(content.note)])


def points(texts: Iterable[str]) -> str:
    """A bulleted list."""
    return "\n".join(f"- {block(text)}" for text in texts)


def paragraphs(texts: Iterable[str]) -> str:
    """Texts with an empty line between them."""
    return "\n\n".join(block(text) for text in texts)


def code(text: str, language: str = "bibtex") -> str:
    """A text to be copied as it stands."""
    return f"```{language}\n{text.rstrip()}\n```"


def report(results: StudyResults) -> str:
    """The whole report but its pictures, which the page and the notebook carry."""
    blocks = [f"# {escape(results.title)}"]
    for section in report_sections(results):
        if not (section.paragraphs or section.points or section.tables) or section.key in ("curves", "confusions"):
            continue
        blocks.append(f"## {section.title}")
        blocks += [paragraphs(section.paragraphs), points(section.points), *map(table, section.tables)]
        blocks += [points(section.closing), code(section.code, section.language) if section.code else ""]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _heading(group: str, title: str) -> str:
    return escape(f"{group}: {title}" if group else title)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
