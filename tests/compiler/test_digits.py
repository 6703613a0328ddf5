"""What a derivative needs more digits of than bfloat16 has, of the equations."""

from __future__ import annotations

import pytest

from cello.cells.definition import Cell
from cello.cells.definition import cell as make_cell
from cello.cells.functions import cos, exp, maximum, sigmoid, sqrt, tanh
from cello.cells.load import zoo
from cello.cells.signature import Scalar
from cello.compiler.digits import digits
from cello.compiler.kernel import kernel


def kept_of_functions(cell: Cell) -> set[str]:
    """The names of the values of which a number with more of their digits is kept."""
    plan = kernel(cell)
    return {name for k in digits(plan).squashed if (name := plan.graph.nodes[k].name)}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("lstm", {"i", "f", "g", "o"}), ("gru", {"r", "z", "n"}), ("rnn", set()), ("minlstm", set())],
)
def test_of_what_functions_squash_more_digits_are_kept(name: str, expected: set[str]) -> None:
    assert kept_of_functions(zoo()[name]) == expected


@make_cell
def through_two_states(x, h, c, W, U, b):  # type: ignore[no-untyped-def]
    """Each state is the other's of the step before, times a factor."""
    a = sigmoid(W.a @ x + b.a)
    d = exp(W.d @ x + U.d @ h)
    return a * c + tanh(W.h @ x), tanh(d * h)


@make_cell
def twice_a_step(x, h, W):  # type: ignore[no-untyped-def]
    """A factor of a state that is no function of one sum, but a difference of two."""
    turn = (W.a @ x) * (W.b @ x)
    return h * (1 - turn) + W.n @ x


@make_cell
def of_a_sum(x, h, m, W):  # type: ignore[no-untyped-def]
    """A stabiliser, which exp is taken of beside a sum of the frame."""
    new = maximum(m + W.f @ x, W.i @ x)
    h = h + exp(W.i @ x - new) * tanh(W.g @ x)
    return h, new


@make_cell
def by_an_angle(x, h, c, W, s: Scalar):  # type: ignore[no-untyped-def]
    """A factor that is the same at every step, and a number of the frame in no state's way."""
    return cos(s) * h + sqrt(1 + tanh(W.n @ x)) * c, tanh(W.c @ x) * sigmoid(W.o @ x + h)


@pytest.mark.parametrize(
    ("cell", "functions", "everything"),
    [
        (through_two_states, {"a", "d"}, False),
        (twice_a_step, set(), True),
        (of_a_sum, set(), True),
        (by_an_angle, set(), False),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_factors_and_exponents(cell: Cell, functions: set[str], everything: bool) -> None:
    assert kept_of_functions(cell) == functions
    assert digits(kernel(cell)).all == everything


def test_cells_of_which_all_is_kept_in_full() -> None:
    """Counts of frames, stabilisers, gates that are states, sums of softmaxes, heads that are normalised."""
    found = {name for name, cell in zoo().items() if digits(kernel(cell)).all}
    counting, stabilised = {"clockwork", "phased-lstm"}, {"slstm", "rwkv", "mlstm-heads"}
    assert found == {*counting, *stabilised, "fgr", "on-lstm", "rwkv-6"}
