"""Compiled for a GPU that is not here: nothing spills, and every size that is offered fits into shared memory."""

from __future__ import annotations

import pytest

from cello.cells.definition import Cell
from cello.cells.load import zoo
from cello.compiler.triton.launch import Tiling
from cello.compiler.triton.resources import MEMORY, resources
from cello.compiler.triton.spaces import Sizes
from cello.compiler.triton.text import names_of, own_text
from cello.compiler.triton.tiling import bytes_of, tiling
from real_cells.filters import s4d_cell
from sized_cells import SIZED

pytest.importorskip("triton")


@pytest.mark.parametrize("name", ["forward", "backward"])
@pytest.mark.parametrize(
    ("cell", "hidden", "precision", "capability"),
    [("lstm", 64, "bf16", 90), ("gru", 128, "tf32", 90), ("rwkv-6", 64, "tf32", 90), ("gru", 64, "bf16", 80)],
)
def test_no_register_spills_and_shared_memory_suffices(
    cell: str, hidden: int, precision: str, capability: int, name: str
) -> None:
    found = resources(zoo()[cell], name, hidden, precision, capability)
    assert found.spilled == 0
    assert found.registers <= 255
    assert found.shared <= MEMORY[capability]
    sizes = Sizes(zoo()[cell], 39, hidden)
    assert found.shared <= bytes_of(names_of(zoo()[cell]), sizes, found.tiling, precision)


@pytest.mark.parametrize(
    ("cell", "precision", "way"),
    [("lstm-peephole-full", "tf32", "backward"), ("ltc", "bf16", "backward"), ("lmu", "bf16", "forward")],
)
def test_cells_of_many_values_spill_nothing_either(cell: str, precision: str, way: str) -> None:
    """They spilled 144, 412 and 8 bytes: operands of several products at once, and 512 threads of 128 registers."""
    found = resources(zoo()[cell], way, 128, precision)
    assert found.spilled == 0
    assert found.shared <= bytes_of(names_of(zoo()[cell]), Sizes(zoo()[cell], 39, 128), found.tiling, precision)


def test_the_estimate_of_registers_chooses_warps_programs_and_reading_ahead() -> None:
    def chosen(name: str, hidden: int, precision: str) -> tuple[int, int, int, bool]:
        found = tiling_of(zoo()[name], hidden, precision)
        assert found is not None
        return found.warps, found.split, found.stages, found.all_registers

    assert chosen("rnn", 128, "bf16") == (16, 1, 2, False)  # few values: many warps
    assert chosen("minimalrnn", 128, "tf32") == (8, 1, 2, True)  # 128 registers are too few: half the warps
    assert chosen("rwkv", 128, "tf32") == (8, 2, 2, True)  # still too few: two programs
    assert chosen("ltc", 128, "bf16") == (8, 2, 1, True)  # seven stages: nothing is read ahead
    assert chosen("fgr", 128, "bf16")[3] is False  # many products: the assembler does better by itself
    assert chosen("nested-lstm", 128, "tf32")[1:3] == (4, 1)  # 32 units without reading ahead, rather than 16


@pytest.mark.parametrize(("name", "hidden", "way"), [("normalised", 64, "forward"), ("heads", 64, "backward")])
def test_values_of_several_sizes_spill_next_to_nothing(name: str, hidden: int, way: str) -> None:
    cell = SIZED[name]
    found = resources(cell, way, hidden, "tf32")
    assert found.spilled <= 64
    assert found.shared <= bytes_of(names_of(cell), Sizes(cell, 39, hidden), found.tiling, "tf32") <= MEMORY[90]


@pytest.mark.parametrize(("precision", "way"), [("tf32", "backward"), ("bf16", "forward")])
def test_states_of_several_elements_a_unit_spill_nothing(precision: str, way: str) -> None:
    found = resources(s4d_cell, way, 64, precision)
    assert (found.spilled, found.tiling.rows, found.tiling.split) == (0, 8, 1)
    assert found.shared <= MEMORY[90]


def test_matrices_of_heads_are_shared_out_to_more_programs_of_fewer_clips() -> None:
    found = {hidden: tiling_of(SIZED["heads"], hidden, "tf32") for hidden in (16, 64, 128, 512)}
    kept = {hidden: (each.rows, each.split) for hidden, each in found.items() if each}
    assert kept == {16: (8, 1), 64: (1, 2), 128: (1, 2)}


def tiling_of(cell: Cell, hidden: int, precision: str, memory: int = MEMORY[90]) -> Tiling | None:
    return tiling(names_of(cell), Sizes(cell, 39, hidden), precision, memory)


def test_more_programs_share_the_units_where_one_has_too_little_memory() -> None:
    lstm = zoo()["lstm"]
    splits = {hidden: tiling_of(lstm, hidden, "tf32").split for hidden in (64, 128, 256)}  # type: ignore[union-attr]
    assert splits == {64: 1, 128: 2, 256: 8}
    assert tiling_of(lstm, 128, "tf32", MEMORY[86]).split > 2  # type: ignore[union-attr]
    assert tiling_of(lstm, 4096, "tf32") is None
    assert all(tiling_of(cell, 100 if cell.multiple == 1 else 64, "bf16") for cell in zoo().values())


def test_a_sum_over_the_units_of_a_head_is_no_product_with_a_matrix_of_ones() -> None:
    """Triton gave each thread the matrix of a whole head: 12,512 bytes of a thread spilled in rwkv-6 at H 128."""
    text = own_text(zoo()["rwkv-6"])
    assert text.count("head_sum(") == 4
    assert "J_row *" not in text
    assert "d_J_rows" not in text  # nor is the derivative of ones wanted
