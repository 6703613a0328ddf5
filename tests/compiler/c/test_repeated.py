"""Steps that do the same several times are one loop of C, and compute what plain evaluation does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cello.cells.definition import Cell
from cello.cells.definition import cell as make_cell
from cello.cells.functions import exp, sigmoid, tanh
from cello.compiler.c.text import own_text
from cello.compiler.kernel import kernel
from cello.compiler.places import marked
from cello.compiler.repeated import Block, Series, found
from cello.compiler.scan import scan


def liquid(unfolds: int) -> Cell:
    """Liquid time constants."""

    def own(x, h, W, U, b, tau, A):  # type: ignore[no-untyped-def]
        for _ in range(unfolds):
            f = sigmoid(W @ x + U @ h + b)
            h = (h + f * A / unfolds) / (1 + (exp(tau) + f) / unfolds)
        return h

    return make_cell(own)


def runge_kutta(steps: int) -> Cell:
    """A continuous-time network, h' = tanh(W x + U h + b) - h."""

    def own(x, h, W, U, b):  # type: ignore[no-untyped-def]
        def slope(h):  # type: ignore[no-untyped-def]
            return tanh(W @ x + U @ h + b) - h

        for _ in range(steps):
            first = slope(h)
            second = slope(h + first / (2 * steps))
            third = slope(h + second / (2 * steps))
            h = h + (first + 2 * second + 2 * third + slope(h + third / steps)) / (6 * steps)
        return h

    return make_cell(own)


@make_cell
def nested(x, h, W, U, V, b):  # type: ignore[no-untyped-def]
    for _ in range(6):
        for _ in range(5):
            h = h + 0.1 * tanh(U @ h + W @ x + b)
        h = h * sigmoid(V @ h)
    return h


@make_cell
def own_parameters(x, h, W, U, b):  # type: ignore[no-untyped-def]
    """Each turn has matrices and biases of its own."""
    for k in range(16):
        h = h + 0.1 * tanh(getattr(U, f"u{k}") @ h + getattr(b, f"b{k}")) * sigmoid(getattr(W, f"w{k}") @ x)
    return h


@make_cell
def one_other_parameter(x, h, W, U, V, b):  # type: ignore[no-untyped-def]
    """Of equal turns the fifth multiplies by another matrix, the seventh adds another bias and the ninth a number."""
    for k in range(18):
        bias = b.other if k == 6 else b.all + 0.5 if k == 8 else b.all
        h = h + 0.1 * tanh((V if k == 4 else U) @ h + W @ x + bias)
    return h


@make_cell
def from_outside(x, h, c, W, U, b):  # type: ignore[no-untyped-def]
    """A gate and a state from before the loop, read at every turn."""
    z = sigmoid(W @ x + U.z @ h)
    for _ in range(16):
        h = h + z * tanh(U.h @ h + b + c)
    return h, z * c + h


@make_cell
def two_at_once(x, h, m, W, U, b):  # type: ignore[no-untyped-def]
    """Each turn reads what the two turns before it computed."""
    p, q = h, m
    for _ in range(12):
        p, q = tanh(U.a @ q + W @ x) - 0.1 * q, p + 0.1 * sigmoid(U.b @ p + b)
    return p, q


@make_cell
def normalised(x, h, W, U, b):  # type: ignore[no-untyped-def]
    """Turns with sums over units, whose values stand once for each clip."""
    for _ in range(15):
        a = U @ h + W @ x + b
        a = a - a.mean()
        h = 0.5 * h + tanh(a / (a * a).sum() + a)
    return h


CELLS = {
    "LTC, 32 unfolds": liquid(32),
    "RK4, 10 steps": runge_kutta(10),
    "a loop in a loop": nested,
    "own parameters": own_parameters,
    "one other parameter": one_other_parameter,
    "a value from outside": from_outside,
    "two values at once": two_at_once,
    "sums over units": normalised,
}


def everything(cell: Cell, backend: str, lengths: Tensor) -> list[Tensor]:
    """Outputs, last states and all derivatives."""
    draw = torch.Generator().manual_seed(1)

    def leaf(*shape: int) -> Tensor:
        return (torch.randn(shape, generator=draw, dtype=torch.float64) * 0.4).requires_grad_()

    x, state = leaf(len(lengths), 6, 3), tuple(leaf(len(lengths), 11) for _ in cell.states)
    weights = {name: leaf(*shape) for name, shape in cell.parameters(3, 11).items()}
    result = scan(cell, x, weights, state=state, lengths=lengths, backend=backend)
    found = [result.outputs, *result.state]
    loss = sum(((leaf(*value.shape).detach() * value).sum() for value in found), torch.zeros(()))
    return [*found, *torch.autograd.grad(loss, [x, *state, *weights.values()])]


@pytest.mark.wants("cc")
@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_repeated_steps_compute_what_plain_evaluation_does(cell: Cell) -> None:
    assert "turn++" in own_text(cell)
    for lengths in (torch.tensor([6, 0, 3, 5, 1]), torch.tensor([6])):
        both = [everything(cell, backend, lengths) for backend in ("c", "plain")]
        for c, plain in zip(*both, strict=True):
            torch.testing.assert_close(c, plain, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("cell", [liquid, runge_kutta], ids=["LTC", "RK4"])
def test_a_kernels_text_hardly_grows_with_the_repetitions(cell: Callable[[int], Cell]) -> None:
    assert len(own_text(cell(80))) < 1.1 * len(own_text(cell(16)))


def test_a_step_of_few_equal_parts_stays_as_it_is_written() -> None:
    assert "turn++" not in own_text(liquid(2))


def test_backward_computes_no_value_again_through_many_stages() -> None:
    """Otherwise 32 unfolds would take 32 * 32 / 2 of them."""
    kept = {count: len(kernel(liquid(count)).kept) for count in (4, 6, 32)}
    assert kept == {4: 4, 6: 6, 32: 32 + 7}  # each f, and of the long one every fourth h


def series(*texts: str) -> list[int]:
    """How often each part of these blocks stands there."""
    blocks = [Block((f"store({marked(text[1:])}, {text[0]});",) * 20) for text in texts]
    return [len(part.turns) if isinstance(part, Series) else 1 for part in found(blocks)]


def test_blocks_are_a_series_where_only_their_places_differ() -> None:
    assert series("a1", "a2", "a3") == [3]
    assert series("a1", "b2", "a3", "b4", "a5", "b6", "a7") == [3, 1]
    assert series("a1", "a2", "b3", "a4", "a5") == [1, 1, 1, 1, 1]
    assert series("c0", "a1", "a2", "a3", "b4") == [1, 3, 1]
    assert not isinstance(found([Block(("f(1);",)), Block(("f(2);",)), Block(("f(3);",))])[0], Series)
