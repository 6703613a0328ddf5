"""What hurts: a loop in C99 that computes other bits than copies would, or a text or memory that grows with turns."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from c99_program import LABELS, SMALL, Program, model_of, sound
from cello.cells.definition import Cell
from cello.cells.load import zoo
from cello.compiler import repeated
from cello.compiler.c99.step import step_text
from cello.export.c99 import write_c99
from cello.models.config import ModelConfig
from cello.models.parts import ModelParts
from random_cells import random_cell, random_sized_cell
from sized_models import direction_of
from unfolded_cells import CELLS, liquid, names_of_loops, runge_kutta, unfolded

CLIP = sound(200)
H = 6
ONE_SIZE = {name: cell for name, cell in CELLS.items() if name != "sums over units"}
RANDOM = [unfolded(random_cell(seed, 8), 6) for seed in range(4)]
SIZED = [CELLS["sums over units"], *(unfolded(random_sized_cell(seed, 5), 6) for seed in (1, 2, 4))]


def stacked(cells: list[Cell]) -> ModelParts:
    """A model with a layer of each cell, its weights at random."""
    _, parts = model_of(ModelConfig(cell="rnn", hidden=H, pooling="last"))
    layers, inputs = [], parts.dimensions
    for number, cell in enumerate(cells):
        layers.append((direction_of(cell, inputs, H, number),))
        inputs = cell.output_size(inputs, H)
    rng = np.random.default_rng(0)
    head = rng.normal(0, 0.4, (len(LABELS), inputs)).astype(np.float32), np.zeros(len(LABELS), np.float32)
    return replace(parts, layers=tuple(layers), head=head, units=H)


def streamed(parts: ModelParts, folder: Path, *, int8: bool = False) -> tuple[NDArray[np.float32], str]:
    """The scores of all steps, and the text that gave them."""
    text = write_c99(parts, SMALL, LABELS, "own", int8=int8)
    folder.mkdir()
    return Program(text, "own", folder).stream([CLIP]), text.source


@pytest.mark.parametrize(
    ("cells", "int8"),
    [([*ONE_SIZE.values(), names_of_loops, *RANDOM], False), ([*ONE_SIZE.values(), *RANDOM], True), (SIZED, False)],
    ids=["float32", "int8", "several sizes"],
)
def test_a_loop_gives_the_bits_of_its_copies(
    cells: list[Cell], int8: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = stacked(cells)
    found, text = streamed(parts, tmp_path / "loops", int8=int8)
    calls = [part for part in text.split("static void layer_")[1:] if re.match(r"\d+\(", part)]
    assert ["turn++" in call.partition("\n}")[0] for call in calls] == [True] * len(cells)
    monkeypatch.setattr(repeated, "LEAST_TURNS", 10**9)
    expected, copies = streamed(parts, tmp_path / "copies", int8=int8)
    assert "turn++" not in copies
    assert np.isfinite(found).all()
    assert np.ptp(found) > 0.001
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("cell", [liquid, runge_kutta], ids=["LTC", "RK4"])
def test_text_and_memory_do_not_grow_with_the_turns(cell: Callable[[int], Cell]) -> None:
    few, many = (step_text(cell(turns), "own", 39) for turns in (16, 80))
    assert sum(map(len, many.lines)) < 1.02 * sum(map(len, few.lines))
    assert many.scratch == few.scratch < 16


def test_turns_write_by_turns_into_two_places_and_the_last_into_the_new_state() -> None:
    lines = [line.strip() for line in step_text(liquid(32), "own", 39).lines]
    at = lines.index("for (int turn = 0; turn < 32; turn++) {")
    assert lines[at + 1] == "const float *const p1 = turn ? (turn % 2 ? h_2_21_array : h_3_31_array) : old_h;"
    assert lines[at + 2] == "float *const p2 = turn < 31 ? (turn % 2 ? h_3_31_array : h_2_21_array) : new_h;"


def test_what_each_turn_has_of_its_own_stands_in_tables_that_take_no_memory_of_the_stack() -> None:
    lines = [line.strip() for line in step_text(CELLS["own parameters"], "own", 39, int8=True).lines]
    tables = [line.partition("{")[0] for line in lines if "[] = {" in line]
    floats, bytes_ = "static const float *const", "static const int8_t *const"
    assert tables == [f"{kind} t{n}[] = " for n, kind in enumerate((floats, bytes_, floats, bytes_, floats), start=1)]


def test_unfolds_of_the_zoo_are_a_loop_and_gates_side_by_side_are_none() -> None:
    texts = {name: step_text(zoo()[name], "own", 39).lines for name in ("ltc", "lstm", "gru", "unicornn", "sru")}
    assert [name for name, lines in texts.items() if "turn++" in "".join(lines)] == ["ltc"]
