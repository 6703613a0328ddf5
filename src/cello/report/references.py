"""The papers of the cells that a study used, as BibTeX: only what a cell's own reference says, nothing looked up."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from cello.cells.load import bare_name, zoo
from cello.report.results import StudyResults

PAPER = re.compile(r"(?P<authors>.+?) \((?P<year>\d{4})\)\. (?P<title>.+?[.?]) (?P<place>.+)")
ARTICLE = re.compile(r"(?P<journal>\D+) (?P<volume>\d{1,3})(?:\((?P<number>\d+)\))?, (?P<pages>\d+-\d+)")
TALK = re.compile(r"(?P<booktitle>\D+ \d{4})(?:, (?P<pages>\d+-\d+))?")
ARXIV = re.compile(r"(?:, )?arXiv:(?P<eprint>[\d.]+\d)(?:v\d+)?")
MEETINGS = {
    "CVPR": "IEEE/CVF Conference on Computer Vision and Pattern Recognition",
    "EMNLP": "Conference on Empirical Methods in Natural Language Processing",
    "ICLR": "International Conference on Learning Representations",
    "ICML": "International Conference on Machine Learning",
    "IJCNN": "International Joint Conference on Neural Networks",
    "NeurIPS": "Advances in Neural Information Processing Systems",
}
ACCENTS = {"\N{COMBINING ACUTE ACCENT}": "'", "\N{COMBINING DIAERESIS}": '"'}


class Reference(NamedTuple):
    """A paper: its BibTeX key, how a sentence names it, the whole entry, and the zoo's cells that come from it."""

    key: str
    short: str
    bibtex: str
    cells: tuple[str, ...]


def used(results: StudyResults) -> tuple[Reference, ...]:
    """The papers of the study's cells, in the order of its runs; cells of one's own have none here."""
    return of(run.result.config.model.cell for run in results.runs)


def of(cells: Iterable[str]) -> tuple[Reference, ...]:
    """The papers of cells, torch's own layers included, each once."""
    names = dict.fromkeys(cell.removeprefix("torch:") for cell in cells)
    found = dict.fromkeys(key for name in names for key, paper in library().items() if name in paper.cells)
    return tuple(library()[key] for key in found)


def unnamed(results: StudyResults) -> list[str]:
    """The study's cells of which no paper is known: somebody's own, and those that a later zoo no longer has."""
    cells = dict.fromkeys(run.result.config.model.cell for run in results.runs)
    return [bare_name(cell) for cell in cells if not of([cell])]


def bibtex(results: StudyResults) -> str:
    """The entries of the study's cells, for a .bib file."""
    entries = [paper.bibtex for paper in used(results)]
    return "\n\n".join(entries or ["% No cell of this study names a paper."]) + "\n"


@cache
def library() -> dict[str, Reference]:
    """Every paper of the zoo by its key, so that a paper has the same key in every study."""
    texts: dict[tuple[str, str, str], str] = {}
    cells: dict[tuple[str, str, str], list[str]] = {}
    for cell in zoo().values():
        paper = _match(cell.reference)
        if paper is not None:
            name = (paper["authors"], paper["year"], paper["title"])
            texts.setdefault(name, cell.reference)
            cells.setdefault(name, []).append(cell.name)
    found: dict[str, Reference] = {}
    for name, text in texts.items():
        authors, year, _ = name
        first = _family(authors.split(", ")[0].removesuffix(" et al."))
        stem = re.sub(r"[^a-z]", "", first.lower()) + year
        key = next(key for key in (stem, *(f"{stem}{letter}" for letter in "bcdefgh")) if key not in found)
        found[key] = Reference(key, _short(authors, year), entry(key, text), tuple(cells[name]))
    return found


def entry(key: str, reference: str) -> str:
    """One BibTeX entry of a reference as the cells write it.

    Raises:
        ValueError: a reference of another form, which would lose what it says.

    >>> print(entry("elman1990", "J. L. Elman (1990). Finding structure in time. Cognitive Science 14(2), 179-211."))
    @article{elman1990,
      author = {J. L. Elman},
      title = {{Finding structure in time}},
      year = {1990},
      journal = {Cognitive Science},
      volume = {14},
      number = {2},
      pages = {179--211},
    }
    """
    paper = _match(reference)
    if paper is None:
        raise ValueError(f"{reference!r} is not 'AUTHORS (YEAR). TITLE. PLACE.'; write it so")
    fields = {
        "author": paper["authors"].replace(" et al.", ", others").replace(", ", " and "),
        "title": "{" + paper["title"].removesuffix(".") + "}",
        "year": paper["year"],
    }
    place = paper["place"].removesuffix(".").split(" (the ")[0]  # what follows says which of its variants a cell is
    arxiv = ARXIV.search(place)
    place = ARXIV.sub("", place)
    article, talk = ARTICLE.fullmatch(place), TALK.fullmatch(place)
    published = article or talk
    fields |= {k: v.replace("-", "--") if k == "pages" else v for k, v in _groups(published).items()}
    if talk is not None:
        meeting = talk["booktitle"].rpartition(" ")[0]
        fields["booktitle"] = MEETINGS.get(meeting, meeting)
    if published is None:
        fields["howpublished"] = place or f"arXiv:{arxiv['eprint']}" if arxiv else place
    if arxiv is not None:
        fields |= {"eprint": arxiv["eprint"], "archiveprefix": "arXiv"}
    kind = "article" if article else "inproceedings" if talk else "misc"
    lines = [f"  {name} = {{{_tex(value)}}}," for name, value in fields.items()]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])


def _match(reference: str) -> re.Match[str] | None:
    return PAPER.fullmatch(reference)


def _groups(match: re.Match[str] | None) -> dict[str, str]:
    return {} if match is None else {name: value for name, value in match.groupdict().items() if value}


def _tex(text: str) -> str:
    """Text as every BibTeX reads it, old ones included.

    >>> print(_tex("J. Koutník & co"))
    J. Koutn{\\'i}k \\& co
    """
    out = ""
    for letter in unicodedata.normalize("NFD", text.replace("&", r"\&")):
        out = f"{out[:-1]}{{\\{ACCENTS[letter]}{out[-1]}}}" if letter in ACCENTS else out + letter
    return unicodedata.normalize("NFC", out)


def _family(author: str) -> str:
    """The name without initials.

    >>> _family("J. van der Westhuizen")
    'van der Westhuizen'
    """
    return " ".join(part for part in author.split() if not part.endswith("."))


def _short(authors: str, year: str) -> str:
    names = [_family(author) for author in authors.removesuffix(" et al.").split(", ")]
    if len(names) > 2 or authors.endswith(" et al."):
        return f"{names[0]} et al. {year}"
    return f"{' and '.join(names)} {year}"
