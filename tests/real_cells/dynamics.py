# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, disable-error-code="valid-type"
"""Differential equations, oscillators, time scales and gaps in time."""

from __future__ import annotations

import math

import torch
from torch import cat, relu, sigmoid, tanh
from torch.nn.functional import linear

import cello
from cello import Fixed, Heads, Learned, Parts, cell, columns, mod, uniform, where
from cello.cells.load import zoo
from real_cells.real import real

ZOO = zoo()
CT_SCALES = 8
LN_TAU = [k * math.log(math.sqrt(10.0)) for k in range(CT_SCALES)]


@real("coRNN", "tk-rusch/coRNN; Rusch & Mishra 2021", ZOO["cornn"], stacked="W: U | V | W\nb")
def cornn(x, s, p):
    y, z = s
    z = z + 0.042 * (tanh(linear(cat([x, z, y], 1), p.W, p.b)) - 2.7 * y - 4.7 * z)
    return y + 0.042 * z, z


@real("UnICORNN", "tk-rusch/unicornn; Rusch & Mishra 2021", ZOO["unicornn"], stacked="V w b c")
def unicornn(x, s, p):
    y, z = s
    dt = 0.13 * sigmoid(p.c)
    z = z - dt * (tanh(p.w * y + linear(x, p.V, p.b)) + 9.0 * y)
    return y + dt * z, z


@cell
def lem_cell(x, y, z, W, V, b, c):
    """Long expressive memory with its time step, Δt = 0.5 here."""
    s = 0.5 * cello.sigmoid(V.s @ x + b.s + W.s @ y + c.s)
    t = 0.5 * cello.sigmoid(V.t @ x + b.t + W.t @ y + c.t)
    z = (1 - s) * z + s * cello.tanh(V.z @ x + b.z + W.z @ y + c.z)
    y = (1 - t) * y + t * cello.tanh(V.y @ x + b.y + W.y @ z + c.y)
    return y, z


@real(
    "LEM, Δt = 0.5",
    "tk-rusch/LEM; Rusch et al. 2022",
    lem_cell,
    stacked="""
    Wx: V.t V.s V.y V.z
    Wh: W.t W.s W.z
    Wz: W.y
    bx: b.t b.s b.y b.z
    bh: c.t c.s c.z
    bz: c.y
    """,
)
def lem(x, s, p):
    y, z = s
    i1, i2, iy, iz = linear(x, p.Wx, p.bx).chunk(4, 1)
    h1, h2, hz = linear(y, p.Wh, p.bh).chunk(3, 1)
    outer, inner = 0.5 * sigmoid(i1 + h1), 0.5 * sigmoid(i2 + h2)
    z = (1.0 - inner) * z + inner * tanh(iz + hz)
    y = (1.0 - outer) * y + outer * tanh(linear(z, p.Wz, p.bz) + iy)
    return y, z


@real("LTC, 6 unfolds", "raminmh/liquid_time_constant_networks; Hasani et al. 2021", ZOO["ltc"], stacked="W U b tau A")
def ltc(x, s, p):
    (h,) = s
    given = linear(x, p.W, p.b)
    for _ in range(6):
        f = sigmoid(given + linear(h, p.U))
        h = (h + f * p.A / 6) / (1 + (1 / p.tau + f) / 6)
    return (h,)


@real(
    "CfC, unit steps, no backbone",
    "mlech26l/ncps, torch/cfc_cell.py; Hasani et al. 2022",
    ZOO["cfc"],
    stacked="""
    W: W.f W.g W.a W.b | U.f U.g U.a U.b
    b: b.f b.g b.a b.b
    """,
)
def cfc(x, s, p):
    first, second, a, b = linear(cat([x, s[0]], 1), p.W, p.b).chunk(4, 1)
    first, second, t = tanh(first), tanh(second), sigmoid(a * 1.0 + b)
    return (first * (1.0 - t) + t * second,)


def scales(name):
    return " ".join(f"{name}{k}" for k in range(CT_SCALES))


def shares(values):
    """Softmax of minus squared distances to the logarithms of the time scales, one vector a scale."""
    found = [cello.exp(-((value - ln_tau) * (value - ln_tau))) for value, ln_tau in zip(values, LN_TAU, strict=True)]
    return [each / sum(found[1:], start=found[0]) for each in found]


@cell
def ct_gru_cell(x, h, s0, s1, s2, s3, s4, s5, s6, s7, W, U, b):  # noqa: PLR0913, PLR0917
    """Continuous-time GRU: eight states a unit, each decaying at its own scale; gates choose among scales."""
    states = [s0, s1, s2, s3, s4, s5, s6, s7]
    r = shares([getattr(W, f"r{k}") @ x + getattr(U, f"r{k}") @ h + getattr(b, f"r{k}") for k in range(CT_SCALES)])
    chosen = [share * state for share, state in zip(r, states, strict=True)]
    q = cello.tanh(W.q @ x + U.q @ sum(chosen[1:], start=chosen[0]) + b.q)
    s = shares([getattr(W, f"s{k}") @ x + getattr(U, f"s{k}") @ h + getattr(b, f"s{k}") for k in range(CT_SCALES)])
    states = [
        ((1 - share) * state + share * q) * math.exp(-math.exp(-ln_tau))
        for share, state, ln_tau in zip(s, states, LN_TAU, strict=True)
    ]
    return sum(states[1:], start=states[0]), *states


@real(
    "CT-GRU, 8 scales",
    "raminmh/liquid_time_constant_networks, ctrnn_model.py; Mozer et al. 2017",
    ct_gru_cell,
    stacked=f"""
    Wr: {scales("W.r")} | {scales("U.r")}
    Ws: {scales("W.s")} | {scales("U.s")}
    Wq: W.q | U.q
    br: {scales("b.r")}
    bs: {scales("b.s")}
    bq: b.q
    """,
)
def ct_gru(x, s, p):
    h, *states = s
    memory, ln_tau = torch.stack(states, 1), h.new_tensor(LN_TAU).view(1, CT_SCALES, 1)
    fused, shape = cat([x, h], 1), memory.shape
    r = (-((linear(fused, p.Wr, p.br).view(shape) - ln_tau) ** 2)).softmax(1)
    q = tanh(linear(cat([x, (r * memory).sum(1)], 1), p.Wq, p.bq)).unsqueeze(1)
    share = (-((linear(fused, p.Ws, p.bs).view(shape) - ln_tau) ** 2)).softmax(1)
    memory = ((1 - share) * memory + share * q) * torch.exp(-1 / torch.exp(ln_tau))
    return memory.sum(1), *memory.unbind(1)


@cell
def dale_rnn_cell(
    x,
    r,
    v,
    W,
    U,
    b,
    c,
    M: Fixed(lambda i, j, H: where(i > j, 1, where(j > i, 1, 0)) * where(j > 0.8 * H - 0.5, -1, 1)),
):
    """Excitatory and inhibitory units: signs of recurrent weights are fixed, four fifths of the units excite."""
    v = 0.8 * v + 0.2 * (W @ x + b + (M * abs(U)) @ r + c)
    return cello.relu(v), v


def signed(p):
    H = len(p.U)
    signs = torch.where(torch.arange(H) < int(0.8 * H + 0.5), 1.0, -1.0).to(p.U.dtype)
    p.effective = p.U.abs() * (signs * (1 - torch.eye(H, dtype=p.U.dtype)))


@real("EI-RNN, Dale's law", "gyyang/nn-brain, EI_RNN; Song et al. 2016", dale_rnn_cell, stacked="W U b c", once=signed)
def dale_rnn(x, s, p):
    r, v = s
    v = v * 0.8 + (linear(x, p.W, p.b) + linear(r, p.effective, p.c)) * 0.2
    return relu(v), v


@cell
def lin_oss_cell(  # noqa: PLR0913, PLR0917
    x, o, y_re, y_im, z_re, z_im, B, C, A: Learned(0.0, 1.0), step: Learned(lambda H: cello.uniform(-1, 1))
):
    """Linear oscillators by implicit Euler steps, positions y and velocities z complex; the output is real."""
    a, t = cello.relu(A), cello.sigmoid(step)
    s = 1 / (1 + t * t * a)
    z_re, z_im = s * (z_re - t * a * y_re + t * (B.re @ x)), s * (z_im - t * a * y_im + t * (B.im @ x))
    y_re, y_im = y_re + t * z_re, y_im + t * z_im
    return C.re @ y_re - C.im @ y_im + C.x @ x, y_re, y_im, z_re, z_im


def oscillators(p):
    p.a, p.t = relu(p.A), sigmoid(p.step)
    p.s = 1 / (1 + p.t**2 * p.a)


def driven(x, p):
    return cat([linear(x, p.B), linear(x, p.Cx)], -1)


@real(
    "LinOSS-IM",
    "Rusch & Rus 2025, implicit discretisation",
    lin_oss_cell,
    stacked="""
    B: B.re B.im
    Cre: C.re
    Cim: C.im
    Cx: C.x
    A step
    """,
    once=oscillators,
    before=driven,
)
def lin_oss(x, state, p):
    _, y_re, y_im, z_re, z_im = state
    B_re, B_im, through = x.chunk(3, 1)
    y, z = torch.complex(y_re, y_im), torch.complex(z_re, z_im)
    force = torch.complex(B_re, B_im)
    new_z = p.s * z - p.t * p.a * p.s * y + p.t * p.s * force
    new_y = p.t * p.s * z + p.s * y + p.t**2 * p.s * force
    y, z = new_y, new_z
    return linear(y.real, p.Cre) - linear(y.imag, p.Cim) + through, y.real, y.imag, z.real, z.imag


@cell
def synapses_cell(  # noqa: PLR0913, PLR0917
    x,
    v,
    W,
    b,
    w: Learned(0.01, 1.0, size=Heads(1), positive=True),
    mu: Learned(0.3, 0.8, size=Heads(1)),
    sigma: Learned(3.0, 8.0, size=Heads(1)),
    E: Learned(lambda: cello.sign(uniform(-1, 1)), size=Heads(1)),
    M: Fixed(lambda i, j: where((mod(i + j, 3) == 0) | (i == j), 0, 1), size=Heads(1)),
    leak: Learned(0.01, 1.0, positive=True),
    rest: Learned(-0.2, 0.2),
    c: Learned(0.4, 0.6, positive=True),
    one: Fixed(1.0),
):
    """LTC whose synapses each have a sigmoid, a weight and a reversal potential, wired where M has ones."""
    given = W @ x + b
    for _ in range(6):
        s = w * M * cello.sigmoid(sigma * (columns(v) - mu))
        v = (6 * c * v + leak * rest + given + (s * E) @ one) / (6 * c + leak + s @ one + 1e-8)
    return v


@real(
    "LTC with wired synapses, 6 unfolds",
    "mlech26l/ncps, torch/ltc_cell.py, inputs by a matrix; Hasani et al. 2021, Lechner et al. 2020",
    synapses_cell,
    stacked="W\nb leak rest c\nw\nmu\nsigma\nE",
)
def synapses(x, s, p):
    (v,) = s
    i = torch.arange(len(p.b))
    wired = ((i[:, None] + i) % 3 > 0) & (i[:, None] != i)
    given = linear(x, p.W, p.b)
    for _ in range(6):
        act = torch.where(wired, p.w * sigmoid(p.sigma * (v.unsqueeze(1) - p.mu)), 0.0)
        v = (6 * p.c * v + p.leak * p.rest + given + (act * p.E).sum(2)) / (6 * p.c + p.leak + act.sum(2) + 1e-8)
    return (v,)


@cell
def ode_rnn_cell(x: Parts("value", gap=1), h, A, B, a, W, U, b):
    """ODE-RNN: a step of Runge and Kutta's method over the gap, then a GRU."""

    def slope(y):
        return B @ cello.tanh(A @ y + a.in_) + a.out

    k1 = slope(h)
    k2 = slope(h + x.gap / 2 * k1)
    k3 = slope(h + x.gap / 2 * k2)
    h = h + x.gap / 6 * (k1 + 2 * k2 + 2 * k3 + slope(h + x.gap * k3))
    r = cello.sigmoid(W.r @ x.value + U.r @ h + b.r)
    z = cello.sigmoid(W.z @ x.value + U.z @ h + b.z)
    n = cello.tanh(W.n @ x.value + U.n @ (r * h) + b.n)
    return (1 - z) * n + z * h


@real(
    "ODE-RNN, RK4 over gaps",
    "YuliaRubanova/latent_ode, lib/ode_rnn.py, one step a gap; Rubanova et al. 2019",
    ode_rnn_cell,
    stacked="""
    A: A
    a0: a.in_
    B: B
    a1: a.out
    Wx: W.r W.z W.n
    Wg: U.r U.z
    Wn: U.n
    b: b.r b.z b.n
    """,
)
def ode_rnn(x, s, p):
    x, gap = x[:, :-1], x[:, -1:]
    (h,) = s

    def slope(y):
        return linear(tanh(linear(y, p.A, p.a0)), p.B, p.a1)

    k1 = slope(h)
    k2 = slope(h + gap / 2 * k1)
    k3 = slope(h + gap / 2 * k2)
    h = h + gap / 6 * (k1 + 2 * k2 + 2 * k3 + slope(h + gap * k3))
    gates, content = linear(x, p.Wx, p.b).split([2 * h.shape[1], h.shape[1]], 1)
    r, z = sigmoid(gates + linear(h, p.Wg)).chunk(2, 1)
    n = tanh(content + linear(r * h, p.Wn))
    return ((1 - z) * n + z * h,)
