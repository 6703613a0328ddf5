"""What hurts: programs that share units and write to memory that is not theirs."""

from __future__ import annotations

import pytest

from cello.cells.definition import Cell
from cello.cells.load import zoo
from cello.compiler.triton.products import LEFT
from cello.compiler.triton.text import names_of, own_text
from random_cells import random_cell


@pytest.mark.parametrize(
    "cell", [*zoo().values(), *(random_cell(seed, 12) for seed in range(8))], ids=lambda cell: cell.name
)
def test_what_programs_leave_to_each_other_has_room(cell: Cell) -> None:
    """In FGR each gate reads all others: 7 tiles were left where 5 had room, the others' gradients overwritten."""
    used = [int(found[1]) + int(found[2]) for found in LEFT.finditer(own_text(cell))]
    assert used or not names_of(cell).inner
    assert max(used, default=0) <= names_of(cell).slots
