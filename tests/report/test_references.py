"""What hurts: a citation that says what the cell's reference does not, or loses what it says."""

from __future__ import annotations

import re
import unicodedata

import msgspec
import pytest

from cello.cells.load import every_cell
from cello.cells.paper import Paper
from cello.report import paper as paper_text
from cello.report import references
from cello.report.results import StudyResults


def with_cell(study: StudyResults, cell: str) -> StudyResults:
    model = msgspec.structs.replace(study.runs[0].result.config.model, cell=cell)
    config = msgspec.structs.replace(study.runs[0].result.config, model=model)
    run = msgspec.structs.replace(study.runs[0], result=msgspec.structs.replace(study.runs[0].result, config=config))
    return msgspec.structs.replace(study, runs=(run,))


def fields_of(bibtex: str) -> dict[str, str]:
    return dict(re.findall(r"^  (\w+) = \{(.*)\},$", bibtex, flags=re.M))


def plain(text: str) -> str:
    """BibTeX as text: {\\'i} is í, -- is -."""
    accents = {"'": "\N{COMBINING ACUTE ACCENT}", '"': "\N{COMBINING DIAERESIS}", "v ": "\N{COMBINING CARON}"}
    text = re.sub(r"\{\\(['\"]|v )(\w)\}", lambda found: found[2] + accents[found[1]], text)
    return unicodedata.normalize("NFC", text).strip("{}").replace("--", "-")


@pytest.mark.parametrize("cell", every_cell())
def test_every_cell_of_the_zoo_is_cited_with_all_that_its_paper_says(cell: str) -> None:
    (paper,) = (paper for paper in references.library().values() if cell in paper.cells)
    fields = {name: plain(value) for name, value in fields_of(paper.bibtex).items()}
    said = every_cell()[cell].paper
    assert said is not None
    assert fields["author"].split(" and ") == list(said.authors)
    assert (fields["title"], fields["year"]) == (said.title, str(said.year))
    for name in ("journal", "volume", "number", "pages"):
        assert fields.get(name, "") == getattr(said, name)
    assert fields.get("eprint", "") == said.arxiv
    assert fields.keys() & {"journal", "booktitle", "howpublished"}


def test_every_entry_is_one_that_bibtex_reads() -> None:
    entries = {paper.key: paper for paper in references.library().values()}
    keys = list(entries)
    assert len(keys) == len(references.library())
    assert len(keys) == len({key.lower() for key in keys})
    for key, paper in entries.items():
        assert re.fullmatch(r"[a-z]+\d{4}[b-h]?", key)
        head, *lines, end = paper.bibtex.splitlines()
        assert re.fullmatch(rf"@(article|inproceedings|misc)\{{{key},", head)
        assert end == "}"
        assert all(re.fullmatch(r"  [a-z]+ = \{.+\},", line) for line in lines)
        assert paper.bibtex.count("{") == paper.bibtex.count("}")
        assert paper.bibtex.isascii()
        assert not re.search(r"(?<!\\)[&%#_$~]", paper.bibtex)


def test_two_papers_of_one_author_and_year_have_two_keys_that_never_change() -> None:
    keys = {cell: paper.key for paper in references.library().values() for cell in paper.cells}
    assert (keys["lstm"], keys["lstm-peephole"]) == ("gers2000", "gers2000b")
    assert keys["gru"] == keys["gru-original"]
    assert len(keys) == len(every_cell())


@pytest.mark.parametrize(
    ("cell", "kind", "field"),
    [
        ("lstm-peephole", "inproceedings", "booktitle = {International Joint Conference on Neural Networks}"),
        ("rnn", "article", "journal = {Cognitive Science}"),
        ("mingru", "misc", "howpublished = {arXiv:2410.01201}"),
        ("slstm", "inproceedings", 'author = {M. Beck and K. P{\\"o}ppel and M. Spanring and'),
        ("gru", "inproceedings", "eprint = {1406.1078}"),
    ],
)
def test_an_entry_is_of_the_kind_that_its_reference_shows(cell: str, kind: str, field: str) -> None:
    (paper,) = (paper for paper in references.library().values() if cell in paper.cells)
    assert paper.bibtex.startswith(f"@{kind}{{")
    assert field in paper.bibtex


def test_meetings_are_spelled_out_and_unknown_ones_stay_as_they_are() -> None:
    known = {fields_of(paper.bibtex).get("booktitle", "") for paper in references.library().values()} - {""}
    assert known == set(references.MEETINGS.values())
    nothing = Paper(authors=("A. Nobody",), year=2000, title="Nothing", meeting="ABC", pages="1-2")
    assert "booktitle = {ABC}" in references.entry("x", nothing)
    assert "pages = {1--2}" in references.entry("x", nothing)


def test_a_users_own_paper_reaches_the_report(gates: StudyResults) -> None:
    mine = Paper(
        authors=("A. Nobody", "B. Else"), year=2026, title="A cell of 100 % {evil} \\input{x}", url="https://a.b/c_d"
    )
    own = with_cell(gates, "mine.py:mine")
    model = msgspec.structs.replace(own.runs[0].result.config.model, equations="f" * 16)
    config = msgspec.structs.replace(own.runs[0].result.config, model=model)
    run = msgspec.structs.replace(own.runs[0], result=msgspec.structs.replace(own.runs[0].result, config=config))
    own = msgspec.structs.replace(own, runs=(run,), papers={"f" * 16: mine})
    (cited,) = references.used(own)
    assert (cited.key, cited.short, cited.cells) == ("nobody2026", "Nobody and Else 2026", ("mine",))
    assert references.unnamed(own) == []
    text = references.bibtex(own)
    assert "title = {{A cell of 100 \\%  evil   input x }}," in text
    assert r"howpublished = {https://a.b/c\_d}" in text
    assert text.count("{") == text.count("}")
    assert "Nobody and Else 2026" in paper_text.paragraph(own)


def test_torchs_layers_cite_the_same_papers_and_cells_of_ones_own_none(gates: StudyResults) -> None:
    assert [paper.key for paper in references.used(with_cell(gates, "torch:lstm"))] == ["gers2000"]
    assert references.used(with_cell(gates, "mine.py:mine")) == ()
    assert references.bibtex(with_cell(gates, "mine.py:mine")) == "% No cell of this study names a paper.\n"


def test_each_paper_stands_once_however_many_cells_it_has(gates: StudyResults) -> None:
    text = references.bibtex(gates)
    assert re.findall(r"@\w+\{(\w+),", text) == ["gers2000", "gers2000b", "greff2017", "hochreiter1997"]
