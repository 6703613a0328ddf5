"""What hurts: a citation that says what the cell's reference does not, or loses what it says."""

from __future__ import annotations

import re
import unicodedata

import msgspec
import pytest

from cello.cells.load import zoo
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
    accents = {"'": "\N{COMBINING ACUTE ACCENT}", '"': "\N{COMBINING DIAERESIS}"}
    text = re.sub(r"\{\\(['\"])(\w)\}", lambda found: found[2] + accents[found[1]], text)
    return unicodedata.normalize("NFC", text).strip("{}").replace("--", "-")


@pytest.mark.parametrize("cell", zoo())
def test_every_cell_of_the_zoo_is_cited_with_all_that_its_reference_says(cell: str) -> None:
    (paper,) = (paper for paper in references.library().values() if cell in paper.cells)
    fields = {name: plain(value) for name, value in fields_of(paper.bibtex).items()}
    said = zoo()[cell].reference
    assert {"author", "title", "year"} < fields.keys()
    assert fields.keys() & {"journal", "booktitle", "howpublished"}
    authors, rest = said.split(f" ({fields['year']}). ")
    assert fields["author"].split(" and ") == authors.split(", ")
    assert rest.startswith(fields["title"])
    for name in ("journal", "volume", "number", "pages", "eprint"):
        assert fields.get(name, "") in rest
    numbers = set(re.findall(r"\d[\d.]*\d|\d", re.sub(r"v\d\b", "", rest).removesuffix(".")))
    assert numbers <= set(re.findall(r"\d[\d.]*\d|\d", " ".join(fields.values())))


def test_every_entry_is_one_that_bibtex_reads() -> None:
    keys = list(references.library())
    assert len(keys) == len({key.lower() for key in keys})
    for key, paper in references.library().items():
        assert re.fullmatch(r"[a-z]+\d{4}[b-h]?", key)
        head, *lines, end = paper.bibtex.splitlines()
        assert re.fullmatch(rf"@(article|inproceedings|misc)\{{{key},", head)
        assert end == "}"
        assert all(re.fullmatch(r"  [a-z]+ = \{.+\},", line) for line in lines)
        assert paper.bibtex.count("{") == paper.bibtex.count("}")
        assert paper.bibtex.isascii()
        assert not re.search(r"(?<!\\)[&%#_$~]", paper.bibtex)


def test_two_papers_of_one_author_and_year_have_two_keys_that_never_change() -> None:
    keys = {cell: key for key, paper in references.library().items() for cell in paper.cells}
    assert (keys["lstm"], keys["lstm-peephole"]) == ("gers2000", "gers2000b")
    assert keys["gru"] == keys["gru-original"]
    assert len(keys) == len(zoo())


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
    assert "booktitle = {ABC}" in references.entry("x", "A. Nobody (2000). Nothing. ABC 2000, 1-2.")


def test_a_reference_of_another_form_is_refused_not_guessed() -> None:
    with pytest.raises(ValueError, match=r"'AUTHORS \(YEAR\)\. TITLE\. PLACE\.'; write it so"):
        references.entry("x", "personal communication")


def test_torchs_layers_cite_the_same_papers_and_cells_of_ones_own_none(gates: StudyResults) -> None:
    assert [paper.key for paper in references.used(with_cell(gates, "torch:lstm"))] == ["gers2000"]
    assert references.used(with_cell(gates, "mine.py:mine")) == ()
    assert references.bibtex(with_cell(gates, "mine.py:mine")) == "% No cell of this study names a paper.\n"


def test_each_paper_stands_once_however_many_cells_it_has(gates: StudyResults) -> None:
    text = references.bibtex(gates)
    assert re.findall(r"@\w+\{(\w+),", text) == ["gers2000", "gers2000b", "greff2017", "hochreiter1997"]
