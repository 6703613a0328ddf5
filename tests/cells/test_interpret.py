"""What hurts: a cell that comes back from a file, or from another process, as other equations than it went."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cello.cells.definition import Cell
from cello.cells.load import zoo
from cello.cells.noise import with_noise
from cello.compiler.scan import scan
from cello.errors import CellError

FUNCTIONS = """@cell
def own(x, h, c, W, U, p, s: Scalar):
    v = U @ h + W.a @ x
    u = sqrt(1 + v * v) + log(2 + abs(v)) + softplus(v - s) + minimum(v, p) + maximum(v, 0.5) + relu(v)
    return where(u > p, exp(-abs(u)), maximum(u, p * h) / (1 + u * u)) - where(v <= 0.0, v * s, tanh(u)), sigmoid(c)
"""


def arguments(cell: Cell) -> list[Any]:
    """Numbers for a frame of 3 elements, states of 4, and every parameter."""
    torch.manual_seed(0)
    groups: dict[str, Any] = {}
    drawn = {name: torch.randn(shape, dtype=torch.float64) for name, shape in cell.parameters(3, 4).items()}
    fixed = {name: torch.from_numpy(value) for name, value in cell.fixed_values(3, 4).items()}
    for name, value in {**drawn, **fixed}.items():
        group, _, member = name.partition(".")
        if member:
            setattr(groups.setdefault(group, SimpleNamespace()), member, value)
        else:
            groups[group] = value
    states = [torch.rand(sizes, dtype=torch.float64) + 0.1 for sizes in cell.state_sizes(3, 4)]
    return [torch.randn(3, dtype=torch.float64), *states, *(groups[name] for name in cell.arguments[1 + len(states) :])]


@pytest.mark.parametrize("cell", zoo().values(), ids=lambda cell: cell.name)
def test_a_pickled_cell_computes_what_its_function_computes(cell: Cell) -> None:
    stored = pickle.dumps(cell)
    back = pickle.loads(stored)
    assert (back.function, back.graph, back.graph.fingerprint()) == (None, cell.graph, cell.graph.fingerprint())
    assert (back.name, back.doc, back.reference) == (cell.name, cell.doc, cell.reference)
    assert cell.function is not None
    assert cell.function.__module__.encode() not in stored
    given = arguments(cell)
    torch.testing.assert_close(back(*given), cell(*given), rtol=1e-12, atol=1e-14)


def test_every_function_of_the_language_comes_back(own_cell: Callable[[str], Cell]) -> None:
    cell = own_cell(FUNCTIONS)
    back, given = pickle.loads(pickle.dumps(cell)), arguments(cell)
    torch.testing.assert_close(back(*given), cell(*given), rtol=1e-12, atol=1e-14)


def test_a_copy_of_a_cell_is_the_cell() -> None:
    cell = zoo()["lstm"]
    assert copy.deepcopy({"cell": cell})["cell"] is cell
    assert copy.copy(cell) is cell


def test_a_cell_with_noise_needs_a_scan() -> None:
    back = pickle.loads(pickle.dumps(with_noise(zoo()["rnn"], ("h",))))
    with pytest.raises(CellError, match=r"mask zoneout_h is given by a scan alone\. Run this cell with cello\.scan"):
        back(*arguments(zoo()["rnn"]))


SIZED = """from cello import Heads, Members, Parts, Size, outer, rows, softmax
@cell
def own(x: Parts("a", "b", gap=1), h, m: Size("H/2"), S: Heads(2), W: Members(g=Size(1)), U: Heads(2), R):
    g = sigmoid(W.g @ x)
    S = rows(tanh(W.f @ x.a)) * S + g * outer(W.v @ x.b, h) / 2
    m = R @ tanh(h - h.mean()) + m.max() * x.gap
    return softmax(S @ h + U.a @ h + U.b.T @ h - S.T @ h) + W.m @ m, m, S
"""


def test_a_called_cell_of_several_sizes_is_one_step_of_its_scan(own_cell: Callable[[str], Cell]) -> None:
    own = own_cell(SIZED)
    torch.manual_seed(0)
    weights = {name: torch.randn(shape, dtype=torch.float64) for name, shape in own.parameters(7, 6).items()}
    states = [torch.randn(sizes, dtype=torch.float64) for sizes in own.state_sizes(7, 6)]
    x = torch.randn(7, dtype=torch.float64)
    expected = scan(own, x[None, None], weights, state=tuple(part[None] for part in states), backend="plain").state
    groups = {name: SimpleNamespace() for name in ("W", "U")}
    for name, value in weights.items():
        if "." in name:
            setattr(groups[name[0]], name[2:], value)
    rest = [*states, groups["W"], groups["U"], weights["R"]]
    for called in (own, pickle.loads(pickle.dumps(own))):
        for value, wanted in zip(called(x, *rest), expected, strict=True):
            torch.testing.assert_close(value, wanted[0])


def test_a_frame_with_parts_may_be_an_object(own_cell: Callable[[str], Cell]) -> None:
    own = own_cell(
        "from cello import Parts\n@cell\ndef own(x: Parts('a', gap=1), h, W):\n    return W @ x.a + x.gap + h"
    )
    frame, weights = torch.randn(3), torch.randn(4, 2)
    parts = SimpleNamespace(a=frame[:2], gap=frame[2:])
    torch.testing.assert_close(own(parts, torch.ones(4), weights), own(frame, torch.ones(4), weights))


def test_a_cell_of_sums_is_called_with_numbers_for_one_unit(own_cell: Callable[[str], Cell]) -> None:
    lines = "    return h.sum() * b + x.mean() + softmax(b + x.max())"
    own = own_cell(f"from cello import Size, softmax\n@cell\ndef own(x, h, b: Size('H')):\n{lines}")
    assert own(2.0, 3.0, 5.0) == 3.0 * 5.0 + 2.0 + 1.0
