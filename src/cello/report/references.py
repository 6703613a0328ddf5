"""Cite the papers of a study's cells as BibTeX."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from itertools import chain, count
from string import ascii_lowercase
from typing import NamedTuple

from cello.cells.load import bare_name, every_cell, is_own
from cello.cells.paper import Paper
from cello.report.results import StudyResults
from cello.report.visible import visible
from cello.training.config import RunConfig

MEETINGS = {
    "CVPR": "IEEE/CVF Conference on Computer Vision and Pattern Recognition",
    "EMNLP": "Conference on Empirical Methods in Natural Language Processing",
    "ICLR": "International Conference on Learning Representations",
    "ICML": "International Conference on Machine Learning",
    "IJCNN": "International Joint Conference on Neural Networks",
    "AAAI": "AAAI Conference on Artificial Intelligence",
    "ACML": "Asian Conference on Machine Learning",
    "EMNLP Findings": "Findings of the Association for Computational Linguistics: EMNLP",
    "Interspeech": "Annual Conference of the International Speech Communication Association (Interspeech)",
    "KDD": "ACM SIGKDD International Conference on Knowledge Discovery and Data Mining",
    "NAACL-HLT": "Conference of the North American Chapter of the Association for Computational Linguistics",
    "NeurIPS": "Advances in Neural Information Processing Systems",
}
SPECIAL = {letter: f"\\{letter}" for letter in "&%#$_"} | dict.fromkeys("{}\\~^", " ")
"""Letters that mean something to TeX: written out, or left out where BibTeX would take them for its own."""
ACCENTS = {"\N{COMBINING ACUTE ACCENT}": "'", "\N{COMBINING DIAERESIS}": '"', "\N{COMBINING CARON}": "v "}


class Reference(NamedTuple):
    """A paper: its BibTeX key, how a sentence names it, the whole entry, and the cells that come from it."""

    key: str
    short: str
    bibtex: str
    cells: tuple[str, ...]


def used(results: StudyResults) -> tuple[Reference, ...]:
    """The papers of the study's cells, in the order of its runs."""
    return of(results, (run.result.config for run in results.runs))


def of(results: StudyResults, configs: Iterable[RunConfig]) -> tuple[Reference, ...]:
    """The papers of the cells of some runs, each once; PyTorch's layers have those of the same cells."""
    papers = dict.fromkeys(paper for config in configs if (paper := _paper(results, config)) is not None)
    known = library(results)
    return tuple(known[paper] for paper in papers)


def unnamed(results: StudyResults) -> list[str]:
    """The study's cells that name no paper: somebody's own, and those that a later zoo no longer has."""
    configs = {run.result.config.model.cell: run.result.config for run in results.runs}
    return [bare_name(cell) for cell, config in configs.items() if _paper(results, config) is None]


def bibtex(results: StudyResults) -> str:
    """The entries of the study's cells, for a .bib file."""
    entries = [paper.bibtex for paper in used(results)]
    return "\n\n".join(entries or ["% No cell of this study names a paper."]) + "\n"


def _paper(results: StudyResults, config: RunConfig) -> Paper | None:
    cell = config.model.cell
    if is_own(cell):
        return results.papers.get(config.model.equations)
    found = every_cell().get(cell.removeprefix("torch:"))
    return found.paper if found is not None else None


def library(results: StudyResults | None = None) -> dict[Paper, Reference]:
    """Every paper of the zoo, so that each has the same key in every study; after them those of a study's own cells."""
    cells: dict[Paper, list[str]] = {}
    for cell in every_cell().values():
        if cell.paper is not None:
            cells.setdefault(cell.paper, []).append(cell.name)
    if results is not None and results.papers:
        for config in (run.result.config for run in results.runs):
            paper, name = _paper(results, config), bare_name(config.model.cell)
            if paper is not None and is_own(config.model.cell) and name not in cells.setdefault(paper, []):
                cells[paper].append(name)
    return dict(zip(cells, _references(tuple((paper, *names) for paper, names in cells.items())), strict=True))


@lru_cache(maxsize=16)  # a report asks in every section that cites a paper
def _references(cells: tuple[tuple[Paper, *tuple[str, ...]], ...]) -> tuple[Reference, ...]:
    """Each paper, given with the names of its cells, under a key of its own."""
    found: dict[str, Reference] = {}
    for paper, *names in cells:
        stem = re.sub(r"[^a-z]", "", _family(paper.authors[0]).lower()) or "paper"
        keys = (f"{stem}{paper.year}{letter}" for letter in chain(("", *ascii_lowercase[1:]), map(str, count(27))))
        key = next(key for key in keys if key not in found)
        found[key] = Reference(key, _short(paper), entry(key, paper), tuple(names))
    return tuple(found.values())


def entry(key: str, paper: Paper) -> str:
    """One BibTeX entry of a paper.

    >>> print(entry("elman1990", Paper(authors=("J. L. Elman",), year=1990, title="Finding structure in time",
    ...                                journal="Cognitive Science", volume="14", number="2", pages="179-211")))
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
    elsewhere = "" if paper.journal or paper.meeting else paper.url or (f"arXiv:{paper.arxiv}" if paper.arxiv else "")
    fields = {
        "author": " and ".join(_tex(author) for author in paper.authors),
        "title": f"{{{_tex(paper.title)}}}",
        "year": str(paper.year),
        "journal": _tex(paper.journal),
        "volume": _tex(paper.volume),
        "number": _tex(paper.number),
        "booktitle": "" if paper.journal else _tex(MEETINGS.get(paper.meeting, paper.meeting)),
        "pages": _tex(paper.pages.replace("-", "--")),
        "howpublished": _tex(elsewhere),
        "eprint": _tex(paper.arxiv),
        "archiveprefix": "arXiv" if paper.arxiv else "",
        "url": _tex(paper.url) if paper.journal or paper.meeting else "",
    }
    kind = "article" if paper.journal else "inproceedings" if paper.meeting else "misc"
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])


def _tex(text: str) -> str:
    """Text as every BibTeX reads it, old ones included.

    >>> print(_tex("J. Koutník & co"))
    J. Koutn{\\'i}k \\& co
    """
    out = ""
    for letter in unicodedata.normalize("NFD", "".join(SPECIAL.get(one, one) for one in visible(text))):
        out = f"{out[:-1]}{{\\{ACCENTS[letter]}{out[-1]}}}" if letter in ACCENTS else out + letter
    return unicodedata.normalize("NFC", out)


def _family(author: str) -> str:
    """The name without initials.

    >>> _family("J. van der Westhuizen")
    'van der Westhuizen'
    """
    return " ".join(part for part in author.split() if not part.endswith("."))


def _short(paper: Paper) -> str:
    names = [visible(_family(author)) for author in paper.authors]
    return f"{names[0]} et al. {paper.year}" if len(names) > 2 else f"{' and '.join(names)} {paper.year}"
