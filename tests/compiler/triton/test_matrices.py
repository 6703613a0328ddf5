"""Cells that make matrices of vectors, vectors of matrices or products of them, and heads of any size, on the GPU."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cello.cells.definition import Cell
from cello.cells.load import zoo
from cello.cells.noise import with_noise
from cello.compiler.scan import scan
from cello.compiler.triton import scan as back_end
from cello.compiler.triton.launch import Tiling
from cello.compiler.triton.text import names_of
from cello.errors import BackendError
from interpreted import assert_within, check
from real_cells import tensors
from scans import case, everything, wider
from sized_cells import SIZED, at_random

pytest.importorskip("triton")
pytestmark = pytest.mark.usefixtures("interpreted")
REAL = [each for each in vars(tensors).values() if isinstance(each, Cell)]
MADE = [SIZED["generated"], SIZED["multiplied"]]


@pytest.mark.parametrize("cell", [*REAL, *MADE], ids=lambda cell: cell.name)
def test_cells_of_papers_with_ragged_clips_and_every_gradient(cell: Cell) -> None:
    """Of 12 or 6 units: heads of 3 or 6, and one of 6, fill no tile."""
    assert names_of(cell).in_blocks
    hidden = 12 if cell.multiple > 1 else 6
    check(cell, (4, 3, 5, hidden), lengths=[2, 0, 3, 1], reverse=len(cell.name) % 2 == 0)


@pytest.mark.parametrize(
    ("cell", "sizes"),
    [
        (tensors.neural_cde_cell, (2, 2, 5, 40)),
        (tensors.mass_conserving_cell, (2, 2, 5, 33)),
        (tensors.development_cell, (3, 2, 5, 32)),
        (SIZED["generated"], (2, 2, 5, 40)),
        (tensors.second_order_cell, (17, 2, 3, 5)),
        (tensors.isan_cell, (2, 2, 1, 1)),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_matrices_that_are_read_in_several_pieces_and_sizes_that_fill_no_tile(
    cell: Cell, sizes: tuple[int, int, int, int]
) -> None:
    check(cell, sizes)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6), hidden=st.sampled_from([6, 12, 18]), reverse=st.booleans())
def test_random_cells_of_values_of_any_size(seed: int, hidden: int, reverse: bool) -> None:
    check(at_random(seed), (3, 3, 5, hidden), share=1e-4, lengths=[2, 0, 3], reverse=reverse)


@pytest.mark.parametrize("cell", [SIZED["heads"], zoo()["delta-rule"], zoo()["rwkv-6"]], ids=lambda cell: cell.name)
def test_heads_whose_units_are_no_power_of_two(cell: Cell) -> None:
    hidden = 3 * cell.multiple
    assert not names_of(cell).in_blocks
    check(cell, (4, 3, 5, hidden), lengths=[2, 0, 3, 1], reverse=True)


def test_matrices_of_more_elements_than_other_layouts_hold_are_kept_in_blocks() -> None:
    cell = SIZED["columns"]
    x, state, weights = case(cell, (1, 1, 3, 256))
    expected = everything(cell, wider((x, state, weights), torch.float64), "plain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(back_end, "tiling_of", lambda inputs: Tiling(1, 256, 8, reread="chunks"))
        assert_within(everything(cell, (x, state, weights), "triton"), expected, 1e-5)


@pytest.mark.parametrize("hidden", [12, 16])
@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("cell", REAL, ids=lambda cell: cell.name)
def test_few_registers_for_matrices(cell: Cell, rows: int, hidden: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stays the same is read at every step, its derivative added up in memory; one clip has all steps of its own,
    and clips of no frames have none."""
    monkeypatch.setattr(back_end, "tiling_of", lambda inputs: Tiling(rows, 16, 8, stages=1, reread="rows"))
    check(cell, (4, 3, 4, hidden), lengths=[2, 0, 3, 1], reverse=rows == 2)


def test_derivatives_added_up_in_memory_of_replicates_and_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(back_end, "tiling_of", lambda inputs: Tiling(1, 16, 8, stages=1, reread="rows"))
    test_replicates_are_the_same_as_alone()
    check(SIZED["multiplied"], (3, 2, 5, 6), lengths=[2, 0, 1])


def test_products_of_bfloat16_are_sums_of_float32_there() -> None:
    torch.set_float32_matmul_precision("medium")
    check(tensors.mass_conserving_cell, (3, 3, 4, 6), lengths=[3, 2, 3])
    check(SIZED["heads"], (3, 3, 4, 6), lengths=[3, 2, 3])


def test_tensors_of_bfloat16() -> None:
    given_case = wider(case(tensors.neural_cde_cell, (3, 3, 4, 6)), torch.bfloat16)
    expected = everything(tensors.neural_cde_cell, wider(given_case, torch.float64), "plain")
    found = everything(tensors.neural_cde_cell, given_case, "triton")
    assert found["outputs"].dtype is torch.bfloat16
    assert_within(found, expected, 0.05)


def test_replicates_are_the_same_as_alone() -> None:
    cell = tensors.kalman_cell
    x, _, weights = case(cell, (2, 2, 3, 6))
    both = {
        name: torch.stack([value.detach(), 0.5 * value.detach()]).requires_grad_() for name, value in weights.items()
    }
    outputs = torch.vmap(lambda given: scan(cell, x, given, backend="triton", reverse=True).outputs)(both)
    gradients = torch.autograd.grad(outputs.cos().sum(), [*both.values()])
    for r in range(2):
        alone = {name: value[r].detach().requires_grad_() for name, value in both.items()}
        expected = scan(cell, x, alone, backend="triton", reverse=True).outputs
        torch.testing.assert_close(outputs[r], expected, rtol=0, atol=0)
        found = torch.autograd.grad(expected.cos().sum(), [*alone.values()])
        torch.testing.assert_close([each[r] for each in gradients], [*found], rtol=1e-5, atol=1e-6)


def test_masks_of_states_that_are_multiplied() -> None:
    cell = with_noise(SIZED["multiplied"], zoneout=("R",))
    masks = {"zoneout_R": torch.randint(0, 2, (3, 2, 6, 3), generator=torch.Generator().manual_seed(0)).double()}
    check(cell, (3, 2, 5, 6), masks=masks, lengths=[2, 0, 1])


@pytest.mark.parametrize(
    ("cell", "hidden", "reason"),
    [
        (tensors.neural_cde_cell, 512, "for H=512 units with 39 elements each; take fewer of either"),
        (tensors.kalman_cell, 200, "for heads of 200 units, whose matrices do not fit; take more heads or fewer units"),
    ],
    ids=["neural CDE", "Kalman"],
)
def test_what_no_program_has_registers_for_is_refused_by_name(cell: Cell, hidden: int, reason: str) -> None:
    weights = {name: torch.zeros(()).expand(shape) for name, shape in cell.parameters(39, hidden).items()}
    x = torch.zeros(1, 1, 39)
    with pytest.raises(BackendError, match=f"has no kernel of cell '{cell.name}' {reason}"):
        scan(cell, x, weights, backend="triton")
