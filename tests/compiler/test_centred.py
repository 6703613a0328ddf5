# mypy: allow-untyped-defs, disable-error-code="valid-type"
"""What hurts: a mean taken at every step that matrices could be without, or taken out where something else reads it."""

from __future__ import annotations

import pytest
import torch

from cello import Cell, Size, cell, sqrt, tanh
from cello.cells.load import zoo
from cello.compiler.c.text import names_of, own_text
from cello.compiler.centred import centred
from cello.compiler.scan import scan


def normal(v):
    d = v - v.mean()
    return d / sqrt((d * d).mean() + 1e-5)


@cell
def alone(x, h, W, U, s, b):
    """Both products are normalised by themselves."""
    return tanh(s.w * normal(W @ x) + s.u * normal(U @ h) + b)


@cell
def sized(x, h, z: Size("H/2"), W, U, V, b):
    """Normalised values of half the size; one group's matrices are each used once."""
    z = 0.5 * z + tanh(normal(W.z @ x) + normal(U.z @ h) + b.z)
    return tanh(V @ z + b.h), z


@cell
def of_a_value(x, h, W, U, b):
    """What is normalised is a product of a value of the same step."""
    return tanh(normal(U.n @ tanh(W @ x + U.h @ h + b.h)) + b.n)


@cell
def mean_read(x, h, W, U):
    v = W @ x
    m = v.mean()
    return tanh(v - m + U @ h * m)


@cell
def product_read(x, h, W, U):
    v = W @ x
    return tanh(v - v.mean() + U @ (v * h))


@cell
def twice(x, h, W, U):
    return tanh(normal(W @ x) + U @ h) + U @ (h * h)


@cell
def shared(x, h, W, U):
    return tanh(normal(U @ h) + U @ (h * h) + W @ x)


@cell
def half_mean(x, h, W, U):
    v = W @ x
    return tanh(v - 0.5 * v.mean() + U @ h)


@cell
def two_vectors(x, h, W, U):
    v, w = W @ x, U @ h
    m = 0.5 * (v.mean() + w.mean())
    return tanh((v - m) * (w - m))


@cell
def plus_product(x, h, W, U):
    """The mean of W x is added to a product, of which another mean is taken."""
    v, w = W @ x, U @ h
    w = w + v.mean()
    return tanh(v * (w - w.mean()))


@pytest.mark.parametrize(
    ("one", "groups"),
    [
        (zoo()["lstm-layer-norm"], [4, 4]),
        (zoo()["gru-layer-norm"], [2, 2, 1, 1]),
        (alone, [1, 1]),
        (sized, [1, 1]),
        (of_a_value, [1]),
        (twice, [1]),
        *((other, []) for other in (mean_read, product_read, shared, half_mean, two_vectors, plus_product)),
        (zoo()["lstm"], []),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_matrices_are_centred_where_nothing_but_their_products_less_the_mean_reads_it(
    one: Cell, groups: list[int]
) -> None:
    assert [len(group) for group in names_of(one).plan.centred] == groups
    assert centred(one)[0].parameters(3, 8) == one.parameters(3, 8)
    assert own_text(one).count(" mean_row(") == (3 * len(groups))


CELLS = [zoo()["lstm-layer-norm"], alone, sized, of_a_value, mean_read, product_read, twice, shared, two_vectors]


@pytest.mark.wants("cc")
@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("one", [*CELLS, half_mean, plus_product], ids=lambda one: one.name)
@pytest.mark.parametrize("lengths", [[7, 0, 3, 7, 1], [1], [1, 1, 1]], ids=str)
@pytest.mark.parametrize("inputs", [5, 1, 70])
def test_outputs_and_all_derivatives_are_those_of_plain_evaluation(one: Cell, lengths: list[int], inputs: int) -> None:
    draw = torch.Generator().manual_seed(1)
    options = {"generator": draw, "dtype": torch.float64}
    x = torch.randn(len(lengths), max(lengths), inputs, **options).requires_grad_()
    shapes = one.parameters(inputs, 38)
    weights = {name: (torch.randn(shape, **options) / 4).requires_grad_() for name, shape in shapes.items()}
    upstream = torch.randn(len(lengths), max(lengths), 38, **options)
    found = []
    for backend in ("plain", "c"):
        outputs = scan(one, x, weights, lengths=lengths, backend=backend).outputs
        found.append([outputs, *torch.autograd.grad(outputs, [x, *weights.values()], upstream)])
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-10)


@pytest.mark.wants("cc")
@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("learned", ["W.f", "U.i", "b.g"])
@pytest.mark.parametrize("first", [True, False], ids=["first layer", "later layer"])
def test_one_matrix_of_a_group_learns_as_it_does_among_all(learned: str, first: bool) -> None:
    draw, one = torch.Generator().manual_seed(2), zoo()["lstm-layer-norm"]
    x = torch.randn(4, 6, 5, generator=draw, dtype=torch.float64, requires_grad=not first)
    shapes = one.parameters(5, 19).items()
    weights = {name: torch.randn(shape, generator=draw, dtype=torch.float64) for name, shape in shapes}
    weights[learned].requires_grad_()
    leaves = [weights[learned]] if first else [weights[learned], x]
    found = []
    for backend in ("plain", "c"):
        outputs = scan(one, x, weights, backend=backend).outputs
        found.append(torch.autograd.grad(outputs.square().sum(), leaves))
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-10)
