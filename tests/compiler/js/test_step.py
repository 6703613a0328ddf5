"""What hurts: a cell that a browser computes differently from Python, a name that JavaScript means otherwise."""

from __future__ import annotations

import json
import runpy
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cello.cells.definition import Cell, cell
from cello.cells.fold import fold
from cello.cells.functions import exp, mod, relu, sigmoid, softplus, tanh, where
from cello.cells.functions import round as nearest
from cello.cells.load import load_cell, zoo
from cello.cells.signature import Scalar
from cello.cells.sizes import size
from cello.compiler import repeated
from cello.compiler.js import expression
from cello.compiler.js.names import comment, identifiers, string
from cello.compiler.js.step import runtime, step_text
from cello.compiler.reference import step
from cello.errors import CellError
from random_cells import random_cell, random_sized_cell, rare
from unfolded_cells import CELLS, liquid, names_of_loops, runge_kutta, unfolded
from units import units

D, H, T = 5, 6, 4
FUZZ = runpy.run_path(str(Path(__file__).parents[2] / "cells" / "test_fuzz.py"))
"""Random cells of the language: ``sources`` draws one, ``run`` makes it of its text."""

node = pytest.mark.wants("node")


def drawn(one: Cell, number: int) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.float32]]:
    """Random weights as the equations see them, and frames."""
    rng, hidden = np.random.default_rng(number), units(one, H)
    weights = {}
    for node in one.graph.parameters():
        value = rng.normal(0, 0.5, [size(text, D, hidden) for text in node.shape]).astype(np.float32)
        declared = one.declaration(str(node.name))
        weights[str(node.name)] = np.asarray(declared.bounded_value(value), np.float32) if declared else value
    weights |= {
        name: value.astype(np.float32) for name, value in one.fixed_values(D, hidden).items() if name in weights
    }
    return weights, rng.normal(size=(T, D)).astype(np.float32)


def in_python(one: Cell, weights: dict[str, NDArray[np.float32]], frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """All states after each frame, one after the other, (T, the elements of all)."""
    sizes = one.state_sizes(D, units(one, H))
    states, found = [torch.zeros(shape) for shape in sizes], []
    leaves = {name: torch.from_numpy(weight) for name, weight in weights.items()}
    for frame in frames:
        states = step(one, torch.from_numpy(frame), {**leaves, **dict(zip(one.states, states, strict=True))})
        found.append(torch.cat([new.expand(shape).flatten() for new, shape in zip(states, sizes, strict=True)]).numpy())
    return np.stack(found)


def in_node(cells: Sequence[Cell], folder: Path) -> list[Any]:
    """The same of each cell by JavaScript, all in one process; strict, as in a module."""
    data, texts = [], []
    for number, one in enumerate(cells):
        weights, frames = drawn(one, number)
        flat = {name: weight.reshape(-1).tolist() for name, weight in weights.items()}
        data.append({"weights": flat, "frames": frames.tolist(), "hidden": units(one, H)})
        texts.append(step_text(one, f"cell_{number}"))
    (folder / "data.json").write_text(json.dumps(data))
    names = ", ".join(f"cell_{number}" for number in range(len(cells)))
    main = f"""
import {{ readFileSync }} from "node:fs";
const found = JSON.parse(readFileSync("data.json")).map(({{ weights, frames, hidden }}, number) => {{
  const given = Object.fromEntries(Object.entries(weights).map(([name, own]) => [name, Float32Array.from(own)]));
  const cell = [{names}][number](given, hidden, {D});
  return frames.map((frame) => {{
    const output = cell.step(Float32Array.from(frame));
    if (output !== cell.states[0]) throw new Error("the output is not the first state");
    return cell.states.flatMap((state) => [...state]);
  }});
}});
console.log(JSON.stringify(found));
"""
    (folder / "main.mjs").write_text("\n".join([runtime(cells), *texts, main]), encoding="utf-8")
    done = subprocess.run(["node", "main.mjs"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def compare(cells: Sequence[Cell], folder: Path) -> None:
    for number, (one, found) in enumerate(zip(cells, in_node(cells, folder), strict=True)):
        expected = in_python(one, *drawn(one, number))
        bound = 1e-5 * max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(np.array(found), expected, atol=bound, rtol=1e-4, err_msg=step_text(one))


@cell
def words(x, h, new, static, W, U, b, s: Scalar):  # type: ignore[no-untyped-def]
    """Names that JavaScript or the step itself means otherwise."""
    let = sigmoid(W.let @ x + U.eval @ h + b.yield_)
    j = tanh(W.j @ x + U.dot @ (let * h) + b.arguments)
    γ = softplus(b.H) * j + exp(-abs(new))  # noqa: PLC2401
    h = let * γ + where(j > 0.137, static, 1.0) * sigmoid(s.Math)
    return h, tanh(h + new), let


@cell
def delayed(x, h, c, m, W):  # type: ignore[no-untyped-def]
    """An old state that becomes a new one as it is, one value for two states."""
    y = relu(W @ x) + c * 0.5 - m
    return y, h, y


@node
def test_every_cell_of_the_zoo_computes_what_it_does_in_python(tmp_path: Path) -> None:
    compare([fold(cell)[0] for cell in zoo().values()], tmp_path)


@cell
def clock(x, h, t, tau, s, W):  # type: ignore[no-untyped-def]
    """The phase of a time that goes on, much enlarged."""
    return 64 * mod(t / (3 + tau) - s, 1) + 0 * (W @ x), t + 1


@node
def test_a_time_of_many_periods_has_the_phase_that_float32_gives_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "T", 500)
    expected = in_python(clock, *drawn(clock, 0))
    np.testing.assert_allclose(in_node([clock], tmp_path)[0], expected, atol=1e-5)


@cell
def equalities(x, h, n, p, W):  # type: ignore[no-untyped-def]
    """A count in tenths that meets a number, one that stays at a number, quantised values, and what was so before."""
    n = n + 0.1
    s = 0.1 * (W.s @ x) - 0.1 * (W.s @ x) + 0.7
    q = 0.1 * nearest((W.q @ x) / 0.1)
    v = tanh(0 * h + 0.3)
    h = where(n == 0.3, 1, 0) + where(s != 0.7, 2, 0) + where((q == 0.1) | (-q == 0.1), 4, 0) + where(v == p, 8, 0)
    return h, n, v


@node
def test_equal_are_values_that_are_so_in_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JavaScript computes in double, and no double is the float32 that it is stored as."""
    monkeypatch.setitem(globals(), "T", 40)
    first = in_python(equalities, *drawn(equalities, 0))[:, :H]
    assert {0, 1, 4, 8} <= {int(bit) & int(value) for value in np.unique(first) for bit in (1, 2, 4, 8)} <= {0, 1, 4, 8}
    np.testing.assert_array_equal(np.array(in_node([equalities], tmp_path)[0])[:, :H], first)


@node
def test_names_that_javascript_means_otherwise_and_states_that_move_are_kept_apart(tmp_path: Path) -> None:
    compare([words, delayed, rare], tmp_path)


@node
@seed(16)
@settings(max_examples=2, database=None)
@given(sources=st.lists(FUZZ["sources"](), min_size=40, max_size=40))
def test_random_cells_compute_what_they_do_in_python(sources: list[Any], tmp_path_factory: Any) -> None:
    compare([fold(FUZZ["run"](source.text(), cell=cell))[0] for source in sources], tmp_path_factory.mktemp("random"))


UNFOLDED = [
    *CELLS.values(),
    names_of_loops,
    *(unfolded(random_cell(number, 8), 6) for number in range(4)),
    *(unfolded(random_sized_cell(number, 5), 6) for number in (1, 2, 4)),
]


@node
def test_what_is_done_several_times_is_a_loop_that_gives_the_bits_of_its_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [fold(one)[0] for one in UNFOLDED]
    assert ["turn++" in step_text(one) for one in cells] == [True] * len(cells)
    compare(cells, tmp_path)
    found = in_node(cells, tmp_path)
    monkeypatch.setattr(repeated, "LEAST_TURNS", 10**9)
    monkeypatch.setitem(globals(), "step_text", step_text.__wrapped__)
    assert not any("turn++" in step_text(one) for one in cells)
    assert in_node(cells, tmp_path) == found


@pytest.mark.parametrize("many", [liquid, runge_kutta], ids=["LTC", "RK4"])
def test_the_text_does_not_grow_with_the_turns(many: Callable[[int], Cell]) -> None:
    assert len(step_text(many(80))) < 1.02 * len(step_text(many(16)))


def test_turns_write_by_turns_into_two_arrays_and_the_last_into_the_new_state() -> None:
    lines = [line.strip() for line in step_text(liquid(32)).splitlines()]
    at = lines.index("for (let turn = 0; turn < 32; turn++) {")
    assert lines[at + 1] == "const p1 = turn ? (turn % 2 ? h_2 : h_3) : h;"
    assert lines[at + 2] == "const p2 = turn < 31 ? (turn % 2 ? h_3 : h_2) : h_next;"
    assert [name for name, one in zoo().items() if "turn++" in step_text(fold(one)[0])] == ["ltc"]


def test_each_line_stands_under_its_equation_with_the_equations_names() -> None:
    lines = [line.strip() for line in step_text(load_cell("lstm")).splitlines()]
    at = lines.index("// f = sigmoid(W.f @ x[t] + U.f @ h[t-1] + b.f)")
    assert lines[at + 1] == "const f = sigmoid(dot(W_f, x, j) + dot(U_f, h, j) + b_f[j]);"
    at = lines.index("// c[t] = f * c[t-1] + i * g")
    assert lines[at + 1] == "c_next[j] = f * c[j] + i * g;"


def test_what_is_the_same_at_every_step_is_computed_once() -> None:
    text = step_text(load_cell("fastgrnn"))
    before, _, loop = text.partition("step(x) {")
    assert "= sigmoid(zeta[0]);" in before
    assert "sigmoid(zeta[" not in loop


def test_identifiers_are_all_different_and_none_is_a_word_of_the_language() -> None:
    for one in (*zoo().values(), words, delayed):
        names = identifiers(one.graph)
        assert len(set(names.values())) == len(names)
        assert not {"let", "eval", "j", "dot", "new", "static"} & set(names.values())


def test_texts_of_a_cell_cannot_end_the_script_they_stand_in() -> None:
    assert "</script" not in string("</script>") + comment("</script><!-- --><script>")
    assert "\n" not in comment("one\ntwo\u2028three\rfour")


def test_an_operation_without_a_row_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(expression.ROWS, "tanh")
    with pytest.raises(CellError, match=r"unknown operation of the JavaScript target 'tanh'.* Known: abs, add, "):
        step_text.__wrapped__(load_cell("rnn"))
