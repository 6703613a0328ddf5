# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, disable-error-code="valid-type"
"""Spiking networks that resonate, are gated, or have synapses with a state."""

from __future__ import annotations

import math

import torch
from torch import relu, sigmoid, tanh
from torch.nn.functional import linear

import cello
from cello import Fixed, Learned, Scalar, cell, where
from cello.cells.functions import exp, maximum, minimum, mod, sqrt, stop
from real_cells.real import real
from real_cells.spiking import Surrogate

STEP = 0.01
SHAPES = ((1.15, 0.0, 0.5), (-0.15, 0.5, 3.0), (-0.15, -0.5, 3.0))
"""Heights, means and deviations of the multi-Gaussian surrogate (Yin et al. 2021)."""


def spike(u, slope):
    """A spike where u > 0, whose derivative is ``slope``."""
    return stop(where(u > 0, 1, 0)) + stop(slope) * (u - stop(u))


def gaussians(u, e):
    """The multi-Gaussian surrogate, by an exponential."""
    total = 0
    for height, mean, deviation in SHAPES:
        total = total + 0.5 * height / (deviation * math.sqrt(2 * math.pi)) * e(-0.5 * ((u - mean) / deviation) ** 2)
    return total


@cell
def balanced_cell(  # noqa: PLR0913, PLR0917
    x, z, u, v, q, W, U, omega: Learned(5.0, 10.0), b: Learned(0.1, 1.0)
):
    """Balanced resonate-and-fire neurons: a damped oscillation, and a refractory variable q that damps it more."""
    w = abs(omega)
    d = (sqrt(1 - (STEP * w) ** 2) - 1) / STEP - abs(b) - q
    u, v = u + STEP * (d * u - w * v + W @ x + U @ z), v + STEP * (w * u + d * v)
    e = u - 0.01 - q
    z = spike(e, gaussians(e, exp))
    return z, u, v, 0.9 * q + z


@real(
    "balanced resonate-and-fire",
    "AdaptiveAILab/brf-neurons; Higuchi et al. 2024",
    balanced_cell,
    stacked="W U omega b",
    gain=4.0,
)
def balanced(x, s, p):
    z, u, v, q = s
    omega = p.omega.abs()
    d = (-1 + torch.sqrt(1 - torch.square(STEP * omega))) / STEP - p.b.abs() - q
    given = linear(x, p.W) + linear(z, p.U)
    u, v = u + STEP * d * u - STEP * omega * v + STEP * given, v + STEP * omega * u + STEP * d * v
    e = u - 0.01 - q
    z = Surrogate.apply(e, gaussians(e.detach(), torch.exp))
    return z, u, v, 0.9 * q + z


@cell
def spiking_lstm_cell(x, z, c, m, W, U, b, threshold: Scalar(0.1)):
    """LSTM whose output is a membrane m, reset by subtraction; it spikes with a fast sigmoid's surrogate."""
    reset = stop(where(m > threshold, 1, 0))
    i, f = cello.sigmoid(W.i @ x + U.i @ m + b.i), cello.sigmoid(W.f @ x + U.f @ m + b.f)
    g, o = cello.tanh(W.g @ x + U.g @ m + b.g), cello.sigmoid(W.o @ x + U.o @ m + b.o)
    c = f * c + i * g
    m = o * cello.tanh(c) - reset * threshold
    d = m - threshold
    return spike(d, 1 / (25 * abs(d) + 1) ** 2), c, m


@real(
    "SLSTM",
    "snntorch, _neurons/slstm.py",
    spiking_lstm_cell,
    stacked="""
    W: W.i W.f W.g W.o
    U: U.i U.f U.g U.o
    b: b.i b.f b.g b.o
    threshold
    """,
)
def spiking_lstm(x, s, p):
    _, c, m = s
    reset = (m > p.threshold).to(m.dtype)
    i, f, g, o = (linear(x, p.W, p.b) + linear(m, p.U)).chunk(4, 1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    m = sigmoid(o) * tanh(c) - reset * p.threshold
    d = m - p.threshold
    return Surrogate.apply(d, (25 * d.detach().abs() + 1) ** -2), c, m


def alternating(facilitating, depressing):
    """Every second unit's synapses facilitate."""
    return lambda i: where(mod(i, 2) > 0.5, facilitating, depressing)


@cell
def plastic_synapses_cell(  # noqa: PLR0913, PLR0917
    x,
    h,
    s: Fixed(1.0),
    u: Fixed(alternating(0.15, 0.45)),
    W,
    U,
    b,
    D: Fixed(lambda i, j, H: where(abs(i - j) > 0.5, 1, 0) * where(j > 0.8 * H - 0.5, -1, 1)),
    rate: Fixed(alternating(0.05, 0.5)),
    use: Fixed(alternating(0.5, 0.05)),
    rest: Fixed(alternating(0.15, 0.45)),
):
    """Short-term plasticity: each unit's synapses have a stock s and a share u of it; excitation and inhibition."""
    new = s + rate * (1 - s) - 0.1 * u * s * h
    u = u + use * (rest - u) + 0.1 * rest * (1 - u) * h
    s, u = minimum(maximum(new, 0), 1), minimum(maximum(u, 0), 1)
    h = cello.relu(0.8 * h + 0.2 * (cello.relu(W) @ x + (D * cello.relu(U)) @ (u * s * h) + b))
    return h, s, u


def begin_synapses(B, H):
    rest = torch.tensor([0.45, 0.15], dtype=torch.float64).repeat(H // 2)
    return torch.zeros(B, H), torch.ones(B, H), rest.expand(B, H)


def effective(p):
    H = len(p.U)
    signs = torch.where(torch.arange(H) > 0.8 * H - 0.5, -1.0, 1.0).to(p.U.dtype)
    p.W_in, p.recurrent = relu(p.W), relu(p.U) * signs * (1 - torch.eye(H, dtype=p.U.dtype))
    fast = torch.tensor([0.5, 0.05], dtype=p.U.dtype).repeat(H // 2)
    p.rate, p.use, p.rest = fast, 0.55 - fast, torch.tensor([0.45, 0.15], dtype=p.U.dtype).repeat(H // 2)


@real(
    "short-term plasticity RNN",
    "nmasse/Short-term-plasticity-RNN; Masse et al. 2019",
    plastic_synapses_cell,
    stacked="W U b",
    begin=begin_synapses,
    once=effective,
)
def plastic_synapses(x, state, p):
    h, s, u = state
    s, u = (
        (s + p.rate * (1 - s) - 0.1 * u * s * h).clamp(0, 1),
        (u + p.use * (p.rest - u) + 0.1 * p.rest * (1 - u) * h).clamp(0, 1),
    )
    return relu(h * 0.8 + 0.2 * (linear(x, p.W_in, p.b) + linear(u * s * h, p.recurrent))), s, u
