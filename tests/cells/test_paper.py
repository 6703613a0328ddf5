"""What hurts: a paper that is lost on the way from a cell to its store, or one that names nobody."""

from __future__ import annotations

import pickle
from typing import Any

import msgspec
import pytest

from cello.cells.definition import Cell, cell
from cello.cells.functions import tanh
from cello.cells.paper import Paper
from cello.cells.stored import StoredCell
from cello.errors import CellError

MINE = Paper(authors=("A. Nobody", "B. Else"), year=2026, title="Is it so?", meeting="ABC", arxiv="2601.00001")


@cell(paper=MINE)
def mine(x: Any, h: Any, W: Any, U: Any) -> Any:
    """A cell."""
    return tanh(W @ x + U @ h)


def test_a_cells_paper_travels_with_it() -> None:
    assert isinstance(mine, Cell)
    assert mine.reference == "A. Nobody, B. Else (2026). Is it so? ABC 2026, arXiv:2601.00001."
    stored = msgspec.json.decode(msgspec.json.encode(StoredCell.of(mine)), type=StoredCell)
    assert stored.cell().paper == MINE == pickle.loads(pickle.dumps(mine)).paper


def test_a_paper_changes_no_equations() -> None:
    @cell
    def mine(x: Any, h: Any, W: Any, U: Any) -> Any:
        return tanh(W @ x + U @ h)

    assert mine.paper is None
    assert mine.graph.fingerprint() == globals()["mine"].graph.fingerprint()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"authors": "J. L. Elman"}, r"authors='J. L. Elman' is empty; write authors=\(\"J. L. Elman\",\)"),
        ({"authors": ()}, r"authors=\(\) is empty"),
        ({"title": " "}, "title is empty; write the paper's title"),
        ({"year": 97}, "year=97 is invalid; write the year of publication, for example 1997"),
    ],
)
def test_a_paper_that_cannot_be_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(CellError, match=said):
        Paper(**{"authors": ("A. Nobody",), "year": 2026, "title": "Nothing"} | fields)


def test_another_thing_than_a_paper_is_refused_before_the_equations_are_read() -> None:
    with pytest.raises(CellError, match=r"takes a cello\.Paper, but got 'Elman 1990'; write Paper\(authors="):
        cell(paper="Elman 1990")  # type: ignore[call-overload]
