"""Cells of papers and repositories are what their sources say: eager loops, written from them, in float64.

What hurts: an output, a last state or a gradient, of ragged clips too, that differs from the loop's.
"""

from __future__ import annotations

import math

import pytest

from cello.cells.load import zoo
from cello.native import build
from real_cells.equal import EQUAL, differences, of_the_loop
from real_cells.real import RealCell
from real_cells.table import REAL_CELLS, WAITING, WRITTEN

COMPILED = tuple(one for one in WRITTEN if one.cell not in zoo().values())
"""In C those that are not of the zoo, for whose cells other tests compare C with plain evaluation."""


def check(one: RealCell, backend: str) -> None:
    different = {name: value for name, value in differences(one, backend).items() if not value <= EQUAL}
    assert not different


@pytest.mark.parametrize("one", WRITTEN, ids=lambda one: one.name)
def test_plain_evaluation_is_the_eager_loop(one: RealCell) -> None:
    check(one, "plain")


@pytest.mark.wants("cc")
@pytest.mark.parametrize("one", COMPILED, ids=lambda one: one.name)
def test_the_kernel_in_c_is_the_eager_loop(one: RealCell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "FLAGS", ("-O0", *build.FLAGS[1:]))  # in a third of the time
    check(one, "c")


@pytest.mark.parametrize("one", REAL_CELLS, ids=lambda one: one.name)
def test_the_eager_loop_learns_all_its_weights(one: RealCell) -> None:
    for name, value in of_the_loop(one).items():
        assert value.any(), name
        assert name.startswith("last") or math.isfinite(float(value.abs().sum())), name


def test_names_are_there_once_and_every_cell_has_a_source_or_a_reason_to_wait() -> None:
    names = [one.name for one in REAL_CELLS]
    assert len({*names}) == len(names)
    assert all(one.source for one in REAL_CELLS)
    assert all(one.waiting for one in WAITING)
    assert not any(one.waiting for one in WRITTEN)
