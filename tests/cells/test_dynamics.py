"""The zoo's networks with time scales and its spiking ones are their papers' equations, written again in torch.

What hurts: an output, a last state or a gradient, of ragged clips too, that differs from an eager loop in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cello.cells.definition import Cell
from cello.cells.load import zoo
from cello.compiler.scan import scan
from cello.models.layer import Layer

D, H, LENGTHS = 3, 10, [7, 0, 4, 7, 1]
W = dict[str, Tensor]
States = tuple[Tensor, ...]


def affine(x: Tensor, h: Tensor, w: W, gate: str) -> Tensor:
    return x @ w[f"W.{gate}"].T + h @ w[f"U.{gate}"].T + w[f"b.{gate}"]


class Triangle(torch.autograd.Function):
    """A spike whose derivative is 0.3 max(0, 1 - |u|)."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return (u > 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        (u,) = ctx.saved_tensors
        return upstream * 0.3 * torch.clamp(1 - u.abs(), min=0)


class FastSigmoid(torch.autograd.Function):
    """A spike whose derivative is 1 / (1 + 10 |u|)²."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return (u > 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        (u,) = ctx.saved_tensors
        return upstream / (1 + 10 * u.abs()) ** 2


def lif(x: Tensor, s: States, w: W) -> States:
    z, v = s
    v = torch.exp(-1 / w["tau"]) * v + x @ w["W"].T + z @ w["U"].T - z
    return FastSigmoid.apply(v - 1), v  # type: ignore[no-untyped-call]


def lsnn(x: Tensor, s: States, w: W) -> States:
    z, v, a = s
    v = torch.exp(-1 / w["tau"]) * v + x @ w["W"].T + z @ w["U"].T - z * (1 + 1.8 * a)
    rho = torch.exp(-1 / w["rho"])
    a = rho * a + (1 - rho) * z
    threshold = 1 + 1.8 * a
    return Triangle.apply((v - threshold) / threshold), v, a  # type: ignore[no-untyped-call]


def lstm(x: Tensor, s: States, w: W) -> States:
    i, f, o = (torch.sigmoid(affine(x, s[0], w, gate)) for gate in "ifo")
    c = f * s[1] + i * torch.tanh(affine(x, s[0], w, "g"))
    return o * torch.tanh(c), c


def cornn(x: Tensor, s: States, w: W) -> States:
    y, z = s
    force = torch.tanh(torch.cat([y, z, x], 1) @ torch.cat([w["W"], w["V"], w["U"]], 1).T + w["b"])
    z = z + 0.042 * (force - 2.7 * y - 4.7 * z)
    return y + 0.042 * z, z


def unicornn(x: Tensor, s: States, w: W) -> States:
    y, z = s
    dt = 0.13 * (0.5 + 0.5 * torch.tanh(w["c"] / 2))
    z = z - dt * (torch.tanh(w["w"] * y + x @ w["V"].T + w["b"]) + 9 * y)
    return y + dt * z, z


def lru(x: Tensor, s: States, w: W) -> States:
    eigenvalue = torch.exp(torch.complex(-torch.exp(w["nu"]), torch.exp(w["theta"])))
    gamma = torch.sqrt(1 - eigenvalue.abs() ** 2)
    given = torch.complex(x, torch.zeros_like(x)) @ torch.complex(w["B.re"], w["B.im"]).T
    state = eigenvalue * torch.complex(s[1], s[2]) + gamma * given
    y = (state @ torch.complex(w["C.re"], w["C.im"]).T).real + x @ w["C.x"].T
    return torch.nn.functional.gelu(y), state.real, state.imag


def antisymmetric_rnn(x: Tensor, s: States, w: W) -> States:
    (h,) = s
    matrix = w["V"] - w["V"].T - w["gamma"] * torch.eye(H, dtype=h.dtype)
    z = torch.sigmoid(h @ matrix.T + x @ w["W.z"].T + w["b.z"])
    return (h + 0.1 * z * torch.tanh(h @ matrix.T + x @ w["W.h"].T + w["b.h"]),)


def exprnn(x: Tensor, s: States, w: W) -> States:
    v = s[0] @ torch.linalg.matrix_exp(w["A"] - w["A"].T).T + x @ w["W"].T
    return (torch.where(v > 0, 1.0, -1.0) * torch.relu(v.abs() + w["b"]),)


def clockwork(x: Tensor, s: States, w: W) -> States:
    h, t = s
    module = [8 * unit // H for unit in range(H)]
    new = []
    for unit in range(H):
        sources = [other for other in range(H) if module[other] >= module[unit]]
        own = torch.tanh(x @ w["W"][unit] + h[:, sources] @ w["U"][unit, sources] + w["b"][unit])
        new.append(torch.where(t[:, unit] % 2 ** module[unit] == 0, own, h[:, unit]))
    return torch.stack(new, 1), t + 1


def lmu(x: Tensor, s: States, w: W) -> States:
    h, m = s
    order = np.arange(H)
    scale = (2 * order + 1)[:, None] / 64
    column, row = np.meshgrid(order, order)
    a = np.where(row < column, -1, (-1.0) ** (row - column + 1)) * scale
    b = (-1.0) ** order[:, None] * scale
    from scipy.signal import cont2discrete  # takes a second to import

    a, b, *_ = cont2discrete((a, b, np.ones((1, H)), np.zeros((1, 1))), dt=1.0, method="zoh")
    u = (x @ w["W.u"].sum(0) + h @ w["e.h"] + m @ w["e.m"]).unsqueeze(1)
    m = m @ torch.from_numpy(a).T + u * torch.from_numpy(b)[:, 0]
    return torch.tanh(x @ w["W.h"].T + h @ w["U.h"].T + m @ w["U.m"].T), m


def rhn(x: Tensor, s: States, w: W) -> States:
    (h,) = s
    for depth in "123":
        gate, content = h @ w[f"U.t{depth}"].T + w[f"b.t{depth}"], h @ w[f"U.h{depth}"].T + w[f"b.h{depth}"]
        if depth == "1":
            gate, content = gate + x @ w["W.t"].T, content + x @ w["W.h"].T
        t = torch.sigmoid(gate)
        h = torch.tanh(content) * t + h * (1 - t)
    return (h,)


def phased_lstm(x: Tensor, s: States, w: W) -> States:
    h, c, t = s
    phase = torch.remainder(t / w["tau"] - w["s"], 1.0)
    r = w["r"]
    opening, closing = 2 * phase / r, 2 - 2 * phase / r
    k = torch.where(phase < 0.5 * r, opening, torch.where(phase < r, closing, 0.001 * phase))
    new_h, new_c = lstm(x, (h, c), w)
    return k * new_h + (1 - k) * h, k * new_c + (1 - k) * c, t + 1


def ltc(x: Tensor, s: States, w: W) -> States:
    (h,) = s
    for _ in range(6):
        f = torch.sigmoid(x @ w["W"].T + h @ w["U"].T + w["b"])
        h = (h + f * w["A"] / 6) / (1 + (1 / w["tau"] + f) / 6)
    return (h,)


def cfc(x: Tensor, s: States, w: W) -> States:
    (h,) = s
    t = torch.sigmoid(affine(x, h, w, "a") + affine(x, h, w, "b"))
    return (torch.tanh(affine(x, h, w, "f")) * (1 - t) + t * torch.tanh(affine(x, h, w, "g")),)


def nested_lstm(x: Tensor, s: States, w: W) -> States:
    h, c, m = s
    i, f, o = (torch.sigmoid(affine(x, h, w, gate)) for gate in "ifo")
    inner_x, inner_h = i * torch.tanh(affine(x, h, w, "g")), f * c
    own = {f"W.{g}": w[f"V.{g}"] for g in "ifgo"} | {f"U.{g}": w[f"V.{g}h"] for g in "ifgo"}
    c, m = lstm(inner_x, (inner_h, m), own | {f"b.{g}": w[f"b.j{g}"] for g in "ifgo"})
    return o * torch.tanh(c), c, m


def rwkv(x: Tensor, s: States, w: W) -> States:
    """The sums themselves, without their largest exponent: small enough here."""
    _, a, b, p = s
    a, b = a * torch.exp(p), b * torch.exp(p)
    k, v = x @ w["W.k"].T, x @ w["W.v"].T
    bonus = torch.exp(w["u"] + k)
    y = torch.sigmoid(x @ w["W.r"].T) * (a + bonus * v) / (b + bonus)
    decay = torch.exp(-torch.exp(w["w"]))
    a, b = decay * a + torch.exp(k) * v, decay * b + torch.exp(k)
    q = torch.maximum(p - torch.exp(w["w"]), k)
    return y, a * torch.exp(-q), b * torch.exp(-q), q


def normalised(values: Sequence[Tensor], scales: Sequence[Tensor]) -> list[Tensor]:
    """Layer normalisation of values side by side, each then scaled."""
    whole = torch.nn.functional.layer_norm(torch.cat(list(values), 1), [len(values) * H])
    return [value * scale for value, scale in zip(whole.chunk(len(values), 1), scales, strict=True)]


def lstm_layer_norm(x: Tensor, s: States, w: W) -> States:
    h, c = s
    given = normalised([x @ w[f"W.{g}"].T for g in "ifgo"], [w[f"s.w{g}"] for g in "ifgo"])
    fed = normalised([h @ w[f"U.{g}"].T for g in "ifgo"], [w[f"s.u{g}"] for g in "ifgo"])
    i, f, g, o = (a + b + w[f"b.{gate}"] for a, b, gate in zip(given, fed, "ifgo", strict=True))
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(normalised([c], [w["s.c"]])[0] + w["b.c"]), c


def gru_layer_norm(x: Tensor, s: States, w: W) -> States:
    (h,) = s
    given = normalised([x @ w[f"W.{g}"].T for g in "rz"], [w[f"s.w{g}"] for g in "rz"])
    fed = normalised([h @ w[f"U.{g}"].T for g in "rz"], [w[f"s.u{g}"] for g in "rz"])
    r, z = (torch.sigmoid(a + b + w[f"b.{gate}"]) for a, b, gate in zip(given, fed, "rz", strict=True))
    own, past = normalised([x @ w["W.n"].T], [w["s.wn"]])[0], normalised([h @ w["U.n"].T], [w["s.un"]])[0]
    n = torch.tanh(own + w["b.n"] + r * (past + w["b.u"]))
    return (n + z * (h - n),)


def on_lstm(x: Tensor, s: States, w: W) -> States:
    h, c = s
    forget = affine(x, h, w, "p").softmax(1).cumsum(1)
    keep = 1 - affine(x, h, w, "q").softmax(1).cumsum(1)
    both = forget * keep
    i, f, o = (torch.sigmoid(affine(x, h, w, gate)) for gate in "ifo")
    c = (f * both + forget - both) * c + (i * both + keep - both) * torch.tanh(affine(x, h, w, "g"))
    return o * torch.tanh(c), c


EAGER: dict[str, Callable[[Tensor, States, W], States]] = {
    "lif": lif,
    "lsnn": lsnn,
    "lstm-chrono": lstm,
    "cornn": cornn,
    "unicornn": unicornn,
    "lru": lru,
    "antisymmetric-rnn": antisymmetric_rnn,
    "exprnn": exprnn,
    "clockwork": clockwork,
    "lmu": lmu,
    "rhn": rhn,
    "phased-lstm": phased_lstm,
    "ltc": ltc,
    "cfc": cfc,
    "nested-lstm": nested_lstm,
    "rwkv": rwkv,
    "lstm-layer-norm": lstm_layer_norm,
    "gru-layer-norm": gru_layer_norm,
    "on-lstm": on_lstm,
}


def weights_of(cell: Cell) -> W:
    """First values as the cell declares them, the others drawn, as the equations see them."""
    torch.manual_seed(3)
    layer = Layer(cell, D, H, dtype=torch.float64).layers[0][0]  # type: ignore[index]
    own = {name: getattr(layer, attribute).detach() for attribute, name in layer.equation_names.items()}
    found = {name: own[name] for name in cell.parameters(D, H)}
    for one in cell.declared:
        if one.bounded:
            found[one.name] = torch.from_numpy(np.asarray(one.bounded_value(found[one.name].numpy())))
    return {name: (1.5 * value if value.ndim == 2 else value).requires_grad_() for name, value in found.items()}


def loop(cell: Cell, x: Tensor, w: W, lengths: Sequence[int]) -> tuple[Tensor, States]:
    begins = [cell.first_value(state, H) for state in cell.states]
    states: States = tuple(
        x.new_zeros(len(x), H) if value is None else torch.from_numpy(value).expand(len(x), H) for value in begins
    )
    outputs = []
    for t in range(x.shape[1]):
        inside = (torch.tensor(lengths) > t).unsqueeze(1)
        new = EAGER[cell.name](x[:, t], states, w)
        states = tuple(torch.where(inside, after, before) for after, before in zip(new, states, strict=True))
        outputs.append(torch.where(inside, new[0], 0.0))
    return torch.stack(outputs, 1), states


def everything(result: tuple[Tensor, States], leaves: list[Tensor]) -> list[Tensor]:
    outputs, states = result
    finite = [torch.where(state.isfinite(), state, 0.0) for state in states]
    loss = (outputs * torch.linspace(-1, 2, outputs.numel(), dtype=outputs.dtype).view_as(outputs)).sum()
    loss = loss + sum((state**2).sum() for state in finite)
    grads = torch.autograd.grad(loss, leaves, allow_unused=True)
    own = [torch.zeros_like(leaf) if grad is None else grad for leaf, grad in zip(leaves, grads, strict=True)]
    return [outputs, *states, *own]


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("backend", ["plain", pytest.param("c", marks=pytest.mark.wants("cc"))])
@pytest.mark.parametrize("name", EAGER)
def test_outputs_states_and_all_gradients_are_those_of_an_eager_loop(name: str, backend: str) -> None:
    cell, w = zoo()[name], weights_of(zoo()[name])
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(len(LENGTHS), max(LENGTHS), D, generator=draw, dtype=torch.float64).requires_grad_()
    leaves, found = [x, *w.values()], scan(cell, x, w, lengths=LENGTHS, backend=backend)
    expected = everything(loop(cell, x, w, LENGTHS), leaves)
    assert sum(float(value.abs().sum()) > 0 for value in expected[1 + len(cell.states) :]) >= len(leaves) - 1
    torch.testing.assert_close(everything((found.outputs, found.state), leaves), expected, rtol=1e-9, atol=1e-10)


def test_every_cell_of_the_shelves_has_its_loop() -> None:
    from cello.cells.zoo import dynamics, normalised, spiking

    shelves = [
        value.name
        for shelf in (dynamics, normalised, spiking)
        for value in vars(shelf).values()
        if isinstance(value, Cell)
    ]
    assert sorted(shelves) == sorted(EAGER)


@pytest.mark.parametrize("name", EAGER)
def test_a_layer_learns_from_its_declared_first_values_without_nan(name: str) -> None:
    torch.manual_seed(0)
    layer = Layer(name, 4, 16, backend="plain")
    x, target = torch.randn(8, 10, 4), torch.randn(8, 16)
    optimiser, losses = torch.optim.Adam(layer.parameters(), lr=0.01), []
    for _ in range(6):
        loss = (layer(x)[0].mean(1) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        assert all(weight.grad is None or bool(weight.grad.isfinite().all()) for weight in layer.parameters())
        optimiser.step()
        losses.append(float(loss.detach()))
    assert math.isfinite(losses[-1])
    assert losses[-1] < losses[0], losses
