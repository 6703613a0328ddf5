"""What hurts: a truth that is none, a batch by which a fault cannot be seen, random numbers of a run that change."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cello.cells.definition import Cell
from cello.cells.load import zoo
from cello.cells.noise import with_noise
from cello.compiler.reference import reference
from cello.compiler.triton.made_up import chained, expected, made_up
from cello.compiler.triton.spaces import Sizes
from random_cells import random_cell

NOISY = with_noise(zoo()["lstm"], zoneout=("c",), dropout=("h",))


def check(cell: Cell, hidden: int) -> None:
    batch = made_up(cell, Sizes(cell, 5, hidden), torch.float32, 2)
    found = expected(batch, derivatives=True)
    for number, of in enumerate(batch.replicates):
        outputs, last = reference(of)
        true = {"outputs": outputs, **{f"last {n}": part for n, part in zip(cell.states, last, strict=True)}}
        results = [value for value in (outputs, *last) if value.requires_grad]
        slopes = [u for u, v in zip(batch.upstream[number], (outputs, *last), strict=True) if v.requires_grad]
        true |= chained(results, slopes, batch.leaves(number))
        assert true.keys() == found.keys()
        for name, value in true.items():
            torch.testing.assert_close(found[name][number], value.detach(), msg=name)


@pytest.mark.parametrize("cell", [*zoo().values(), NOISY], ids=lambda cell: cell.name)
def test_what_is_expected_is_the_meaning_of_the_cell(cell: Cell) -> None:
    check(cell, 4 if cell.multiple == 1 else cell.multiple * 2)


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_of_any_cell(seed: int) -> None:
    cell = random_cell(seed, 8)
    check(cell, 2 * cell.multiple)


def test_a_batch_has_two_tiles_both_ways_one_frame_and_none_and_weights_of_its_own() -> None:
    forward, backward = made_up(zoo()["lstm"], Sizes(zoo()["lstm"], 5, 4), torch.float32, 16).replicates
    assert forward.lengths is not None
    assert backward.lengths is not None
    assert len(forward.lengths) > 16
    assert {0, 1} < {*forward.lengths.tolist()}
    assert (forward.reverse, backward.reverse) == (False, True)
    assert forward.lengths.sum() == backward.lengths.sum()  # rows of both stand in one tensor
    assert not torch.equal(forward.weights["U.i"], backward.weights["U.i"])


def test_its_numbers_are_those_of_the_dtype_and_drawn_apart_from_all_others() -> None:
    before = torch.get_rng_state()
    first, second = (made_up(NOISY, Sizes(NOISY, 5, 4), torch.bfloat16, 2) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    for one, other in zip(first.leaves(1).values(), second.leaves(1).values(), strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, one.bfloat16().double())
    another = made_up(NOISY, Sizes(NOISY, 5, 4), torch.bfloat16, 2, seed=1)
    assert not torch.equal(another.replicates[0].frames, first.replicates[0].frames)
