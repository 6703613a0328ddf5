# mypy: allow-untyped-defs, disable-error-code="valid-type"
"""What hurts: loop-invariant vectors that torch computes beside a kernel, an operation and a node of autograd each."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cello import Members, Scalar, Size, cell, exp, log, sigmoid, sin, softplus, sqrt, tanh
from cello.cells.definition import Cell
from cello.compiler.c.launch import inputs_of
from cello.compiler.c.text import names_of, own_text
from cello.compiler.scan import scan

pytestmark = pytest.mark.wants("cc")


@cell
def decays(x, h, W, U, nu, tau, b, s):
    """Loop-invariant vectors of one parameter, of two, in a sum of products, and of one that the step reads itself."""
    a = exp(-exp(nu))
    g = sqrt(1 - a * a) / (1 + softplus(tau))
    return a * h + g * tanh(W @ x + U @ h + b * sigmoid(tau)) + s * log(1 + s * s)


@cell
def of_other_size(x, h, W: Members(down=Size(5)), a: Size(5), b, k: Scalar):
    """One of 5 elements; what a learned number is part of, and a sine, are left to torch."""
    v = tanh(W.down @ x * softplus(a))
    return tanh(W.up @ v + 0.5 * h + sin(exp(b.i)) * exp(b.j) + sigmoid(k) * exp(b.k))


def weights_of(one: Cell, *trained: str) -> dict[str, Tensor]:
    torch.manual_seed(1)
    drawn = {name: 0.5 * torch.randn(shape, dtype=torch.float64) for name, shape in one.parameters(3, 7).items()}
    return {name: value.requires_grad_(not trained or name in trained) for name, value in drawn.items()}


def gradients(one: Cell, backend: str, *trained: str) -> list[Tensor]:
    """Outputs and the derivatives of what is trained, of ragged clips."""
    weights, x = weights_of(one, *trained), torch.linspace(-2, 2, 4 * 6 * 3, dtype=torch.float64).view(4, 6, 3).sin()
    outputs = scan(one, x, weights, lengths=[6, 0, 3, 5], backend=backend).outputs
    learned = [value for value in weights.values() if value.requires_grad]
    return [outputs.detach(), *torch.autograd.grad((outputs * outputs.detach().cos()).sum(), learned)]


@pytest.mark.parametrize("trained", [(), ("nu",), ("tau", "W"), ("b",), ("s",), ("U",)], ids=str)
def test_their_derivatives_are_those_of_plain_evaluation(trained: tuple[str, ...]) -> None:
    for own, plain in zip(gradients(decays, "c", *trained), gradients(decays, "plain", *trained), strict=True):
        torch.testing.assert_close(own, plain, rtol=1e-11, atol=1e-12)


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("trained", [(), ("a",), ("b.j",), ("k", "b.k")], ids=str)
def test_so_are_those_of_other_sizes_and_beside_what_torch_computes(trained: tuple[str, ...]) -> None:
    found = gradients(of_other_size, "c", *trained)
    for own, plain in zip(found, gradients(of_other_size, "plain", *trained), strict=True):
        torch.testing.assert_close(own, plain, rtol=1e-11, atol=1e-12)


def test_a_kernel_is_given_the_parameters_themselves() -> None:
    plan = names_of(decays).plan
    assert {plan.graph.nodes[k].name for k in plan.invariant} == {"nu", "tau", "b", "s"}
    weights = weights_of(decays)
    given = inputs_of(decays, weights, {}, ())
    assert {value.data_ptr() for value in given} == {value.data_ptr() for value in weights.values()}


def test_of_what_torch_computes_a_kernel_is_given_the_result() -> None:
    plan = names_of(of_other_size).plan
    assert {plan.graph.nodes[k].op for k in plan.invariant} == {"parameter", "sin", "mul"}
    assert [plan.graph.nodes[k].shape for k in plan.computed if plan.graph.nodes[k].op == "softplus"] == [("5",)]
    assert "softplus" in own_text(of_other_size)


@cell
def powers(x, one, two, three, W):
    """exp(v), exp(2 v) and 1 - exp(2 v) of a v that is never positive."""
    v = -3 * softplus(W @ x)
    square = exp(2 * v)
    return exp(v) + 0 * one, sqrt(1 - square) + 0 * two, square + 0 * three


def test_1_less_the_square_of_what_is_nearly_1_keeps_its_digits() -> None:
    assert "exponential_and_square(" in own_text(powers)
    x = torch.cat([torch.linspace(-80, 40, 4001), torch.tensor([-86.0, 60.0, float("nan")])]).view(-1, 1, 1)
    found = [one.double() for one in scan(powers, x, {"W": torch.ones(1, 1)}, backend="c").state]
    v = -3 * torch.nn.functional.softplus(x[:, 0].double(), threshold=1000)
    expected = v.exp(), (-torch.expm1(2 * v)).sqrt(), (2 * v).exp()
    for own, exact, relative in zip(found, expected, (3e-5, 3e-7, 6e-5), strict=True):
        # v itself is within 2e-7 of its size, so that its exponential is within that times v
        torch.testing.assert_close(own, exact, rtol=relative, atol=2e-38, equal_nan=True)


def test_of_what_may_be_positive_the_square_is_an_exponential_of_its_own() -> None:
    @cell
    def free(x, h, W):
        v = W @ x
        return exp(v) * h + sqrt(1 - exp(2 * v))

    assert "exponential_and_square(" not in own_text(free)
