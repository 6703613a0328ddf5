# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, disable-error-code="valid-type"
"""Structured, orthogonal and fixed recurrent matrices, and memories of matrices."""

from __future__ import annotations

import numpy as np
import torch
from torch import cat, relu, sigmoid, tanh
from torch.nn.functional import linear

import cello
from cello import Fixed, Learned, cell, where
from cello.cells.load import zoo
from real_cells.real import real

ZOO = zoo()


def legendre(p):
    from scipy.signal import cont2discrete  # takes a second to import

    H = len(p.eh)
    order = np.arange(H)
    scale = (2 * order + 1)[:, None] / 64
    column, row = np.meshgrid(order, order)
    a = np.where(row < column, -1, (-1.0) ** (row - column + 1)) * scale
    b = (-1.0) ** order[:, None] * scale
    a, b, *_ = cont2discrete((a, b, np.ones((1, H)), np.zeros((1, 1))), dt=1.0, method="zoh")
    p.A, p.B = torch.from_numpy(a).to(p.eh.dtype), torch.from_numpy(b)[:, 0].to(p.eh.dtype)


@real(
    "LMU, order H, θ = 64",
    "nengo/keras-lmu; Voelker et al. 2019",
    ZOO["lmu"],
    stacked="""
    Wu: W.u
    eh: e.h
    em: e.m
    Wx: W.h
    Wh: U.h
    Wm: U.m
    """,
    once=legendre,
)
def lmu(x, s, p):
    h, m = s
    u = linear(x, p.Wu).sum(1) + h @ p.eh + m @ p.em
    m = linear(m, p.A) + u.unsqueeze(1) * p.B
    return tanh(linear(x, p.Wx) + linear(h, p.Wh) + linear(m, p.Wm)), m


def antisymmetric(p):
    p.A = p.V - p.V.T - p.gamma * torch.eye(len(p.V), dtype=p.V.dtype)


@real(
    "antisymmetric RNN, gated",
    "Chang et al. 2019, equation 13",
    ZOO["antisymmetric-rnn"],
    stacked="""
    V gamma
    W: W.z W.h
    b: b.z b.h
    """,
    once=antisymmetric,
)
def antisymmetric_rnn(x, s, p):
    (h,) = s
    gate, content = linear(x, p.W, p.b).chunk(2, 1)
    own = linear(h, p.A)
    return (h + 0.1 * sigmoid(own + gate) * tanh(own + content),)


def modrelu(v, b):
    return torch.sign(v) * relu(v.abs() + b)


def orthogonal(p):
    p.Q = torch.linalg.matrix_exp(p.A - p.A.T)


@real("expRNN", "Lezcano/expRNN; Lezcano-Casado & Martínez-Rubio 2019", ZOO["exprnn"], stacked="W A b", once=orthogonal)
def exprnn(x, s, p):
    return (modrelu(linear(x, p.W) + linear(s[0], p.Q), p.b),)


@cell
def lipschitz_cell(x, h, W, A, V, b, c):
    """Lipschitz RNN: both matrices are a skew-symmetric and a symmetric part, shifted by γ = 0.001; ε = 0.1."""
    linear_part = (0.7 * (A - A.T) + 0.3 * (A + A.T)) @ h - 0.001 * h
    inner = (0.7 * (V - V.T) + 0.3 * (V + V.T)) @ h - 0.001 * h
    return h + 0.1 * linear_part + 0.1 * cello.tanh(inner + c + W @ x + b)


def lipschitz_matrices(p):
    eye = torch.eye(len(p.A), dtype=p.A.dtype)
    p.both = cat([0.7 * (m - m.T) + 0.3 * (m + m.T) - 0.001 * eye for m in (p.A, p.V)])


@real(
    "Lipschitz RNN",
    "erichson/LipschitzRNN; Erichson et al. 2021",
    lipschitz_cell,
    stacked="W A V b c",
    once=lipschitz_matrices,
)
def lipschitz(x, s, p):
    (h,) = s
    own, inner = linear(h, p.both).chunk(2, 1)
    return (h + 0.1 * own + 0.1 * tanh(inner + p.c + linear(x, p.W, p.b)),)


def modules(p):
    H = len(p.U)
    module = torch.arange(H) * 8 // H
    p.masked = p.U * (module.unsqueeze(1) <= module).to(p.U.dtype)
    p.period = 2.0 ** module.to(p.U.dtype)


@real("clockwork RNN, 8 modules", "Koutník et al. 2014", ZOO["clockwork"], stacked="W U b", once=modules)
def clockwork(x, s, p):
    h, t = s
    n = tanh(linear(x, p.W, p.b) + linear(h, p.masked))
    return torch.where(torch.remainder(t, p.period) == 0, n, h), t + 1


@cell
def sco_rnn_cell(
    x,
    h,
    W,
    A,
    b: Learned(0.0),
    E: Fixed(lambda i, j: where(i > j, 0, where(j > i, 0, 1))),
    s: Fixed(lambda i, H: where(i > H / 2 - 0.5, -1, 1)),
):
    """Orthogonal RNN by a scaled Cayley transform, half of the scales -1; its nonlinearity is modReLU."""
    S = A - A.T
    v = cello.inverse(E + S) @ ((E - S) @ (s * h)) + W @ x
    return where(v > 0, 1, -1) * cello.maximum(abs(v) + b, 0)


def cayley(p):
    H = len(p.A)
    skew, eye = p.A - p.A.T, torch.eye(H, dtype=p.A.dtype)
    p.Q = torch.linalg.solve(eye + skew, eye - skew) * torch.where(torch.arange(H) < H / 2, 1.0, -1.0).to(p.A.dtype)


@real("scoRNN", "SpartinStuff/scoRNN; Helfrich et al. 2018", sco_rnn_cell, stacked="W A b", once=cayley)
def sco_rnn(x, s, p):
    return (modrelu(linear(x, p.W) + linear(s[0], p.Q), p.b),)
