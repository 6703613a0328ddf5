"""What hurts: a cell whose frames are one part alone, or of counted sizes, that is no legal cell any more."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cello.cells.definition import Cell
from cello.cells.graph import check
from cello.cells.sizes import elements_of, is_size, size
from cello.cells.specialise import first_part

MADE = """from cello import Parts, Size, matrix
@cell
def own(x: Parts("value", _gap=1), h, A, W):
    return tanh(matrix(A @ h, Size("H", "x.value")) @ x.value + W @ x.value)
"""


def test_a_matrix_of_a_part_keeps_as_many_elements_as_its_vector(own_cell: Callable[[str], Cell]) -> None:
    own = own_cell(MADE)
    assert own.parameters(40, 8)["A"] == (8 * 39, 8)
    alone = first_part(own, 40, 8, "value")
    check(alone.graph)
    assert alone.parameters(39, 8) == own.parameters(40, 8)


@pytest.mark.parametrize("columns", ["D", "H", "8", "12345", "H/4", "D-1", "(D-1)/2", "2*H", "8*H/3", "D/2"])
def test_the_elements_of_a_matrix_are_a_size_of_its_rows_and_columns(columns: str) -> None:
    assert is_size(elements_of(columns))
    assert size(elements_of(columns), 7, 12) == 12 * size(columns, 7, 12)


@pytest.mark.parametrize("text", ["D*H", "H*8", "H*(D)", "H*H*H", "H*(H*D)", "H*", "H*D/2", "H*(H/4)", "H*0"])
def test_other_products_are_no_sizes(text: str) -> None:
    assert not is_size(text)
