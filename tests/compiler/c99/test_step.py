"""A step as C99: what hurts is a cell of the language that has another meaning there, or none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from c99_program import LABELS, SMALL, Program, frames_of, model_of, sound
from cello.cells.definition import Cell, cell
from cello.cells.fold import fold, folded_weights
from cello.cells.load import load_cell
from cello.compiler.c99.expression import ROWS
from cello.compiler.c99.step import step_text
from cello.compiler.reference import step
from cello.errors import CellError
from cello.export.c99 import write_c99
from cello.models.config import ModelConfig
from cello.models.parts import Direction, ModelParts
from cells.test_fuzz import Source, run, sources
from random_cells import rare

CLIP = sound(120)


def model(own: Cell, seed: int) -> ModelParts:
    """A model of this cell with random weights."""
    rng = np.random.default_rng(seed)
    _, parts = model_of(ModelConfig(cell="rnn", hidden=3, pooling="last"))
    shapes = own.parameters(parts.dimensions, 3)
    weights = {name: rng.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}
    return replace(parts, layers=((Direction(fold(own)[0], folded_weights(own, weights), reverse=False),),))


def scores(parts: ModelParts, dtype: torch.dtype) -> np.ndarray:
    """The scores of all steps, computed node by node."""
    x = ((frames_of(CLIP, SMALL)[0][0].numpy() - parts.mean) / parts.deviation).astype(np.float32)
    direction = parts.layers[0][0]
    weights = {name: torch.from_numpy(np.asarray(each)).to(dtype) for name, each in direction.weights.items()}
    states = [torch.zeros(3, dtype=dtype) for _ in direction.cell.states]
    found = []
    for frame in torch.from_numpy(x).to(dtype):
        leaves = {**weights, **dict(zip(direction.cell.states, states, strict=True))}
        states = step(direction.cell, frame, leaves)
        found.append(states[0].double().numpy())
    weight, bias = parts.head
    return np.array(found) @ weight.T.astype(np.float64) + bias


@settings(max_examples=12, derandomize=True)
@given(source=sources(), seed=st.integers(0, 999), lanes=st.sampled_from([[], ["-DLANES=1"]]))
def test_a_random_cell_computes_what_its_graph_does(source: Source, seed: int, lanes: list[str]) -> None:
    parts = model(run(source.text(), cell=cell), seed)
    with TemporaryDirectory() as folder:
        program = Program(write_c99(parts, SMALL, LABELS, "own"), "own", Path(folder), ["-O0", *lanes])
        found = program.stream([CLIP])
    exact, single = scores(parts, torch.float64), scores(parts, torch.float32)
    allowed = 1e-4 * (1 + np.abs(exact)) + 20 * np.abs(single - exact)
    assert (np.abs(found - exact) <= allowed).all()


@pytest.mark.parametrize("flags", [["-DLANES=1"], ["-O2", "-march=native"]], ids=str)
def test_functions_that_few_cells_use_compute_what_they_do_in_python(tmp_path: Path, flags: list[str]) -> None:
    parts = model(rare, 3)
    found = Program(write_c99(parts, SMALL, LABELS, "own"), "own", tmp_path, flags).stream([CLIP])
    np.testing.assert_allclose(found, scores(parts, torch.float64), atol=1e-4, rtol=1e-4)


def test_an_operation_without_a_row_is_named_with_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(ROWS, "tanh")
    with pytest.raises(CellError, match=r"C99 has no row for the operation 'tanh' of these equations; add one"):
        step_text(load_cell("lstm"), "layer_0", 3)


def test_names_of_the_equations_survive_under_their_equations() -> None:
    found = "\n".join(step_text(load_cell("lstm"), "layer_0", 39).lines)
    assert "/* i = sigmoid(W.i @ x[t] + b.i + U.i @ h[t-1]) */\n        const vec i = sigmoid(load(" in found
    assert "const vec c_next = f * load(old_c + j) + i * g;" in found
    assert step_text(load_cell("lstm"), "layer_0", 39).weights["U.o"] == "layer_0_U_o"


def test_names_that_mean_something_in_c_or_close_a_comment_are_harmless(tmp_path: Path) -> None:
    text = "@cell\ndef own(x, NAN, P, int, W, load):\n    '''A */ trap.'''\n    j = tanh(W.x @ x + load)\n"
    text = text.replace("int,", "linux,") + "    H = j * P\n    return H + NAN, j - P, tanh(H) * linux\n"
    own = run(text, cell=cell)
    parts = model(own, 0)
    found = Program(write_c99(parts, SMALL, LABELS, "own"), "own", tmp_path).stream([CLIP])
    np.testing.assert_allclose(found, scores(parts, torch.float64), atol=1e-4, rtol=1e-4)
