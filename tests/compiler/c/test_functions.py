"""Sines, whole numbers and stop() in C: what hurts is a value off torch's, or a surrogate's derivative that is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from cello.cells.definition import cell
from cello.cells.functions import atan, cos, erf, floor, log, round, sigmoid, sign, sin, softplus, stop, where
from cello.compiler.scan import scan
from random_cells import rare

wants_cc = pytest.mark.wants("cc")
FUNCTIONS = {name: getattr(torch, name) for name in ("sin", "cos", "atan", "erf", "floor", "round", "sign")}
"""In the order of the states of ``each``."""
POINTS = [0.0, 0.5, 1.5, -0.5, -2.5, 1e-6, -3.0, 0.999, 1.001, -1.7, 4.2, 8388609.0, -1e10, 8191.0, 1e5, -77.7]


@cell
def each(x, one, two, three, four, five, six, seven, W):  # type: ignore[no-untyped-def]  # noqa: PLR0913, PLR0917
    """A state for each function."""
    v = W @ x
    first = sin(v) + 0 * one, cos(v) + 0 * two, atan(v) + 0 * three, erf(v) + 0 * four
    return *first, floor(v) + 0 * five, round(v) + 0 * six, sign(v) + 0 * seven


@wants_cc
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_function_is_torchs_at_halves_far_out_and_where_it_is_not_a_number(name: str, dtype: torch.dtype) -> None:
    expected, own = FUNCTIONS[name], [*FUNCTIONS].index(name)
    x = torch.tensor([*POINTS, *torch.linspace(-20, 20, 501).tolist()], dtype=dtype).view(-1, 1, 1)
    found = scan(each, x, {"W": torch.ones(1, 1, dtype=dtype)}, backend="c").state[own]
    torch.testing.assert_close(found, expected(x[:, 0]), rtol=0, atol=1e-6 if dtype is torch.float32 else 1e-14)
    lost = scan(each, x[:1] * float("nan"), {"W": torch.ones(1, 1, dtype=dtype)}, backend="c").state[own]
    assert bool(lost.isnan().all()) == bool(expected(x[:1] * float("nan")).isnan().all())


@cell
def logarithms(x, one, two, W):  # type: ignore[no-untyped-def]
    return log(W @ x) + 0 * one, softplus(W @ x) + 0 * two


@wants_cc
@pytest.mark.parametrize("name", ["log", "softplus"])
def test_logarithms_keep_their_digits_around_1_and_at_numbers_that_are_nearly_0_or_infinite(name: str) -> None:
    edges = [0.0, -0.0, -1.0, float("inf"), float("nan"), 1.0, 1e-45, 1e-40, 1.2e-38, 3e38, 0.70710677, 1.4142135]
    near = (1 + torch.arange(-300, 300) * 2.0**-23).tolist()
    x = torch.tensor([*edges, *near, *torch.linspace(-100, 100, 4001).tolist()]).view(-1, 1, 1)
    exact = x[:, 0].double()
    expected = exact.log() if name == "log" else torch.nn.functional.softplus(exact, threshold=1000)
    weights = {"W": torch.ones(1, 1)}
    found = scan(logarithms, x, weights, backend="c").state[("log", "softplus").index(name)]
    torch.testing.assert_close(found.double(), expected, rtol=2e-7, atol=3e-45, equal_nan=True)


def eager(x: Tensor, weights: dict[str, Tensor], lengths: list[int]) -> tuple[Tensor, list[Tensor]]:
    """The cell ``rare`` in torch, written again: outputs and last states."""
    outputs, hidden = [], len(weights["U.a"])
    states = [x.new_zeros(len(x), hidden), x.new_zeros(len(x), hidden)]
    for t in range(x.shape[1]):
        h, v = states
        a = x[:, t] @ weights["W.a"].T + h @ weights["U.a"].T + weights["b.a"]
        wave = torch.sin(3 * a) + torch.cos(a - v) + torch.erf(a) + torch.atan(2 * a)
        steps = torch.floor(2.1 * a) + torch.round(1.3 * v) - torch.sign(a + weights["b.sign"])
        soft = torch.sigmoid(4 * (v - 0.3))
        spike = soft + ((v > 0.3).to(x.dtype) - soft).detach()
        new_v = 0.5 * v + a + 0.1 * steps * torch.remainder(3 * a, torch.tensor(1.3, dtype=x.dtype)) - 0.2 * spike
        new_h = torch.tanh(0.3 * wave + 0.2 * spike + 0.1 * torch.remainder(new_v, torch.tensor(-0.7, dtype=x.dtype)))
        inside = (torch.tensor(lengths) > t).unsqueeze(1)
        states = [torch.where(inside, new, old) for new, old in zip((new_h, new_v), states, strict=True)]
        outputs.append(torch.where(inside, new_h, 0.0))
    return torch.stack(outputs, 1), states


def everything(run: Callable[[], tuple[Tensor, Any]], leaves: list[Tensor]) -> list[Tensor]:
    outputs, states = run()
    loss = (outputs * torch.linspace(-1, 2, outputs.numel(), dtype=outputs.dtype).view_as(outputs)).sum()
    loss = loss + sum((state**2).sum() for state in states)
    grads = torch.autograd.grad(loss, leaves, allow_unused=True)
    return [
        outputs,
        *states,
        *(torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, grads, strict=True)),
    ]


@pytest.mark.parametrize("backend", ["plain", pytest.param("c", marks=wants_cc)])
def test_outputs_states_and_all_gradients_are_those_of_an_eager_loop(backend: str) -> None:
    draw = torch.Generator().manual_seed(5)
    shapes = rare.parameters(5, 19).items()
    weights = {
        name: (torch.randn(shape, generator=draw, dtype=torch.float64) / 3).requires_grad_() for name, shape in shapes
    }
    x, lengths = torch.randn(6, 7, 5, generator=draw, dtype=torch.float64).requires_grad_(), [7, 0, 3, 7, 1, 5]
    leaves = [x, *weights.values()]

    def run() -> tuple[Tensor, Any]:
        found = scan(rare, x, weights, lengths=lengths, backend=backend)
        return found.outputs, found.state

    found, expected = everything(run, leaves), everything(lambda: eager(x, weights, lengths), leaves)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-11)


@cell
def spiking(x, s, v, W, U):  # type: ignore[no-untyped-def]
    v = 0.9 * v * (1 - s) + W @ x + U @ s
    soft = sigmoid(10 * (v - 1))
    return soft + stop(where(v > 1, 1, 0) - soft), v


@pytest.mark.parametrize("backend", ["plain", pytest.param("c", marks=wants_cc)])
def test_a_spiking_cell_gives_spikes_and_learns_through_its_surrogate(backend: str) -> None:
    draw = torch.Generator().manual_seed(0)
    x, target = torch.rand(16, 12, 4, generator=draw), 3.0
    weights = {
        name: (torch.randn(shape, generator=draw) / 2).requires_grad_()
        for name, shape in spiking.parameters(4, 8).items()
    }
    optimiser, losses = torch.optim.Adam(weights.values(), lr=0.02), []
    for _ in range(60):
        spikes = scan(spiking, x, weights, backend=backend).outputs
        assert set(spikes.detach().round(decimals=5).unique().tolist()) <= {0.0, 1.0}
        loss = (spikes.sum(1) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0], losses
