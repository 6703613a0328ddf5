from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cello import Cell, Fixed, cell, stop, tanh, uniform, where
from cello.cells.load import zoo
from cello.compiler.c.launch import activity_of
from cello.compiler.c.text import names_of, source
from cello.compiler.scan import scan


@cell
def echo(x, y, h, W: Fixed(lambda: uniform(-1, 1), seed=1), R: Fixed(lambda: uniform(-0.2, 0.2), seed=2), V, b):
    """A reservoir with a learned readout."""
    h = 0.7 * h + 0.3 * tanh(W @ x + R @ h)
    return V @ h + b, h


@cell
def stacked(x, h, g, W, U):
    """Two layers, g below h."""
    g = tanh(W.g @ x + U.g @ g)
    return tanh(W.h @ g + U.h @ h), g


@cell
def chosen(x, h, c, W, U, t):
    """c decides which of two values is taken, and a stopped one: no derivative leads to it."""
    c = tanh(U.c @ c + W.c @ x)
    return where(c > 0, tanh(W.h @ x + U.h @ h), t * h) + stop(c), c


QRNN = tuple(zoo()["qrnn-3"].parameters(6, 20))
LEAVES = [
    (echo, ("V", "b")),
    (echo, ("V", "first 0")),
    (echo, ("first 1",)),
    (echo, ("x", "b")),
    (stacked, ("W.h", "U.h")),
    (stacked, ("U.h", "first 1")),
    (stacked, ("U.g",)),
    (chosen, ("W.h", "U.h", "t")),
    (chosen, ("W.h", "U.c", "first 0")),
    (zoo()["qrnn-3"], QRNN),
]

NAMES = [f"{one.name} {' '.join(trained)}" for one, trained in LEAVES]


def gradients(one: Cell, trained: tuple[str, ...] | None) -> dict[str, Tensor | None]:
    """The gradients of all leaves when only these are trained; None: all."""
    draw = torch.Generator().manual_seed(0)
    inputs, hidden, lengths = 6, 20, torch.tensor([7, 0, 4, 7, 1])
    values = {"x": torch.randn(5, 7, inputs, generator=draw)}
    for n, shape in enumerate(one.state_sizes(inputs, hidden)):
        values[f"first {n}"] = torch.randn(5, *shape, generator=draw)
    for name, shape in one.parameters(inputs, hidden).items():
        values[name] = torch.randn(shape, generator=draw) * 0.4
    leaves = {name: value.requires_grad_(trained is None or name in trained) for name, value in values.items()}
    weights = {name: leaves[name] for name in one.parameters(inputs, hidden)}
    first = [leaves[f"first {n}"] for n in range(len(one.states))]
    found = scan(one, leaves["x"], weights, lengths=lengths, state=first, backend="c")
    loss = (found.outputs**2).sum() + sum((part**2).sum() for part in found.state)
    loss.backward()
    return {name: value.grad for name, value in leaves.items()}


@pytest.mark.parametrize(("one", "trained"), LEAVES, ids=NAMES)
def test_what_is_trained_gets_the_same_bits_where_other_paths_are_left_out(one: Cell, trained: tuple[str, ...]) -> None:
    whole = gradients(one, None)
    for name, found in gradients(one, trained).items():
        expected = whole[name] if name in trained else None
        assert (found is None) == (expected is None), name
        assert found is None or torch.equal(found, expected), name


def wanted(one: Cell, trained: tuple[str, ...]) -> tuple[bool, ...]:
    """For the frame and all that a kernel is given whether it is trained."""
    plan = names_of(one).plan
    given = [plan.graph.nodes[k].name in trained for k in (*plan.matrices, *plan.invariant, *plan.masks)]
    return ("x" in trained, *given, *(f"first {n}" in trained for n in range(len(one.states))))


def active_states(one: Cell, *trained: str) -> set[int]:
    found = activity_of(one, wanted(one, trained))
    return {*range(len(one.states))} if found is None else {*found.states}


def test_states_that_lead_to_nothing_trained_carry_no_derivative() -> None:
    assert active_states(echo, "V", "b") == {0}
    assert active_states(echo, "V", "first 1") == {0, 1}
    assert active_states(echo, "V", "x") == {0, 1}
    assert active_states(stacked, "W.h", "U.h") == {0}
    assert active_states(stacked, "W.h", "W.g") == {0, 1}
    assert active_states(stacked, "U.g") == {0, 1}  # through W.h, which is not learned itself
    assert active_states(chosen, "W.h") == {0}


def backward_of(one: Cell, *trained: str) -> str:
    """The C of backward's steps."""
    text = source(one, "float", active=activity_of(one, wanted(one, trained)))
    return text.partition("static int backward_tile")[2].partition("static int forward_group")[0]


def test_backward_of_a_reservoir_multiplies_by_no_matrix() -> None:
    whole, readout = backward_of(echo, "x", "V", "b"), backward_of(echo, "V", "b")
    assert whole.count(" product(") == 3  # through V, R and W
    assert " product(" not in readout
    assert "d_new_h" not in readout
    assert readout.count(" outer(") == 1  # the readout's own derivative
    assert not names_of(echo, active=activity_of(echo, wanted(echo, ("V", "b")))).plan.kept


def test_a_kernel_whose_every_value_is_differentiated_is_the_one_for_everything() -> None:
    lstm = zoo()["lstm"]
    assert activity_of(lstm, wanted(lstm, ("U.f",))) is None  # all gates, through the states
    assert activity_of(lstm, wanted(lstm, tuple(lstm.parameters(3, 4)))) is None
    assert source(lstm, "float", active=None) == source(lstm, "float")
