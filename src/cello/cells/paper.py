"""Describe the paper that a cell comes from."""

from __future__ import annotations

import msgspec

from cello.errors import CellError


class Paper(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A paper: authors, year, title and where it was published.

    >>> print(Paper(authors=("J. L. Elman",), year=1990, title="Finding structure in time",
    ...             journal="Cognitive Science", volume="14", number="2", pages="179-211").text)
    J. L. Elman (1990). Finding structure in time. Cognitive Science 14(2), 179-211.

    Attributes:
        authors: each as "J. L. Elman", initials first
        year: of publication
        title: without a full stop at its end
        journal: where it is an article, with volume, number and pages
        meeting: where it is a talk: the conference, without the year
        arxiv: its number there, as 1406.1078
        url: where it can be read, if nowhere above

    Raises:
        CellError: no author, no title, or a year that cannot be.
    """

    authors: tuple[str, ...]
    year: int
    title: str
    journal: str = ""
    volume: str = ""
    number: str = ""
    pages: str = ""
    meeting: str = ""
    arxiv: str = ""
    url: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.authors, str) or not self.authors or not all(self.authors):
            raise CellError(f'Paper: authors={self.authors!r} is empty; write authors=("J. L. Elman",)')
        if not self.title.strip():
            raise CellError("Paper: title is empty; write the paper's title")
        if not 1000 <= self.year <= 9999:
            raise CellError(f"Paper: year={self.year} is invalid; write the year of publication, for example 1997")

    @property
    def text(self) -> str:
        """The paper as an entry of a reference list."""
        title = self.title if self.title.endswith(("?", "!")) else f"{self.title}."
        places = [self._journal(), self._meeting(), f"arXiv:{self.arxiv}" if self.arxiv else "", self.url]
        where = ", ".join(place for place in places if place)
        return f"{', '.join(self.authors)} ({self.year}). {title}{f' {where}.' if where else ''}"

    def _journal(self) -> str:
        if not self.journal:
            return ""
        volume = f" {self.volume}" if self.volume else ""
        number = f"({self.number})" if self.number else ""
        return f"{self.journal}{volume}{number}{f', {self.pages}' if self.pages else ''}"

    def _meeting(self) -> str:
        if not self.meeting:
            return ""
        return f"{self.meeting} {self.year}{f', {self.pages}' if self.pages and not self.journal else ''}"
