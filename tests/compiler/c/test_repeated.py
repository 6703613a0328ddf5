"""Steps that do the same several times are one loop of C, and compute what plain evaluation does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cello.cells.definition import Cell
from cello.compiler.c.text import own_text
from cello.compiler.kernel import kernel
from cello.compiler.places import marked
from cello.compiler.repeated import Block, Series, found
from cello.compiler.scan import scan
from unfolded_cells import CELLS, liquid, runge_kutta


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
