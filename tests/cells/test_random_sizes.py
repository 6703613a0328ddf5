"""Random cells of several sizes: plain evaluation, the stored form and a call are what the equations mean."""

from __future__ import annotations

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cello.cells.stored import StoredCell
from cello.compiler.backends import TABLE, Backend
from cello.compiler.reference import reference
from cello.compiler.render import render
from compiler.test_sizes import sized_case
from random_cells import random_sized_cell
from scans import everything


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 9), reverse=st.booleans())
def test_a_random_cell_of_several_sizes_means_the_same_everywhere(seed: int, size: int, reverse: bool) -> None:
    own = random_sized_cell(seed, size)
    again = msgspec.json.decode(msgspec.json.encode(StoredCell.of(own)), type=StoredCell).cell()
    assert again.fingerprint() == own.fingerprint()
    assert all(render(own, target) for target in ("equations", "latex", "graph"))
    case, more = sized_case(own), {"lengths": [5, 0, 3, 1], "reverse": reverse}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TABLE, "reference", Backend("reference", reference))
        expected = everything(own, case, "reference", **more)
    for what, value in everything(again, case, "plain", **more).items():
        torch.testing.assert_close(value, expected[what], rtol=1e-9, atol=1e-10, msg=f"{seed}, {size}: {what}")
