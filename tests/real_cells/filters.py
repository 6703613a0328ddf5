# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, disable-error-code="valid-type"
"""Reservoirs, filters, unitary matrices, states of several elements a unit, and gaps in what is measured."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from torch import cat, relu, sigmoid, tanh
from torch.nn.functional import linear, silu, softplus

import cello
from cello import Fixed, Learned, Members, Parts, Size, cell, where
from cello.cells.functions import cos, exp, log, mod, outer, rows, sin, sqrt
from cello.cells.values import normal, seeded, spectral_radius, uniform
from real_cells.real import real

STATES = 8


@cell
def mamba_cell(
    x,
    y,
    S: Size("H", STATES),
    W,
    P: Members(B=Size(STATES), C=Size(STATES), down=Size(4)),
    b,
    A: Learned(lambda j: log(j + 1), size=("H", STATES)),
    D: Learned(1.0),
):
    """Mamba's selective state space, eight states a unit, without convolution and output gate."""
    u = W @ x
    u = u * cello.sigmoid(u)
    t = cello.softplus(P.up @ (P.down @ u) + b)
    S = exp(-rows(t) * exp(A)) * S + outer(t * u, P.B @ u)
    return S @ (P.C @ u) + D * u, S


@real(
    "Mamba, 8 states a unit",
    "state-spaces/mamba, selective_scan_ref; Gu & Dao 2023",
    mamba_cell,
    stacked="""
    W
    Wn: P.B P.C
    W1: P.down
    W2: P.up
    b A D
    """,
    begin=lambda B, H: (torch.zeros(B, H), torch.zeros(B, H, STATES)),
)
def mamba(x, s, p):
    u = silu(linear(x, p.W))
    B, C = linear(u, p.Wn).chunk(2, 1)
    dt = softplus(linear(linear(u, p.W1), p.W2, p.b)).unsqueeze(-1)
    state = torch.exp(dt * -torch.exp(p.A)) * s[1] + dt * B.unsqueeze(1) * u.unsqueeze(-1)
    return (state @ C.unsqueeze(-1)).squeeze(-1) + p.D * u, state


@cell
def s4d_cell(  # noqa: PLR0913, PLR0917
    x,
    y,
    R: Size("H", 4),
    Q: Size("H", 4),
    W,
    C: Size("H", 4),
    D: Learned(1.0),
    step: Learned(math.log(0.001), math.log(0.1)),
    decay: Learned(math.log(0.5), size=("H", 4)),
    omega: Learned(lambda j: math.pi * j, size=("H", 4)),
    J: Fixed(1.0, size=4),
):
    """S4D-Lin, four complex states a unit, R + iQ, by a zero-order hold."""
    u, t, a = W @ x, rows(exp(step)), -exp(decay)
    size, norm = exp(t * a), a * a + omega * omega
    re, im = size * cos(t * omega), size * sin(t * omega)
    k_re, k_im = ((re - 1) * a + im * omega) / norm, (im * a - (re - 1) * omega) / norm
    R, Q = re * R - im * Q + k_re * rows(u), im * R + re * Q + k_im * rows(u)
    return 2 * (C.re * R - C.im * Q) @ J + D * u, R, Q


def diagonal(p):
    A = torch.complex(-torch.exp(p.decay), p.omega)
    p.bar = torch.exp(A * torch.exp(p.step).unsqueeze(1))
    p.given, p.read = (p.bar - 1) / A, torch.complex(p.Cre, p.Cim)


@real(
    "S4D-Lin, 4 states a unit",
    "state-spaces/s4, models/s4/s4d.py; Gu et al. 2022",
    s4d_cell,
    stacked="W D step decay omega\nCre: C.re\nCim: C.im",
    begin=lambda B, H: (torch.zeros(B, H), torch.zeros(B, H, 4), torch.zeros(B, H, 4)),
    once=diagonal,
)
def s4d(x, s, p):
    u = linear(x, p.W)
    state = p.bar * torch.complex(s[1], s[2]) + p.given * u.unsqueeze(2)
    return 2 * (p.read * state).sum(2).real + p.D * u, state.real, state.imag


def sparse(i, j):
    """A reservoir: three tenths of its elements are drawn, its spectral radius is 0.9."""
    A = where(uniform(0, 1) > 0.7, normal(0, 1), 0)
    return 0.9 * A / spectral_radius(A)


@cell
def echo_cell(x, y, h, W: Fixed(lambda: uniform(-1, 1), seed=1), R: Fixed(sparse, seed=1), V, b):
    """Leaky echo state network, its readout trained with what is around it."""
    h = 0.7 * h + 0.3 * cello.tanh(W @ x + R @ h)
    return V @ h + b, h


@cache
def drawn_reservoir(H, D):
    """Drawn once, as reservoirs are: NumPy's threads would go on after each pass's eigenvalues."""
    draw, own = seeded(1, "W"), seeded(1, "R")
    A = np.where(own("uniform", (H, H)) > 0.7, own("normal", (H, H)), 0)
    A = 0.9 * A / np.abs(np.linalg.eigvals(A)).max()
    return torch.from_numpy(2 * draw("uniform", (H, D)) - 1), torch.from_numpy(A)


def reservoir(x, p):
    p.W, p.R = (value.to(x.dtype) for value in drawn_reservoir(len(p.b), x.shape[-1]))
    return linear(x, p.W)


@real("leaky echo state network", "Jaeger et al. 2007", echo_cell, stacked="V b", before=reservoir)
def echo(u, s, p):
    h = s[1] + 0.3 * (tanh(u + linear(s[1], p.R)) - s[1])
    return linear(h, p.V, p.b), h


def fourier(function, sign):
    return lambda i, j, H: sign * function(2 * math.pi * i * j / H) / sqrt(H)


def turned(angle, re, im):
    """A complex value times exp(i angle)."""
    return cos(angle) * re - sin(angle) * im, sin(angle) * re + cos(angle) * im


def reflected(re, im, u, v):
    """A complex vector, reflected by u + iv."""
    norm, p, q = (u * u + v * v).sum(), (u * re + v * im).sum(), (u * im - v * re).sum()
    return re - 2 * (u * p - v * q) / norm, im - 2 * (u * q + v * p) / norm


@cell
def unitary_cell(  # noqa: PLR0913, PLR0917
    x,
    y,
    re,
    im,
    W,
    d: Learned(-math.pi, math.pi),
    r: Learned(-0.1, 0.1),
    b: Learned(0.0),
    C,
    F: Members(re=Fixed(fourier(cos, 1)), im=Fixed(fourier(sin, -1))),
    P: Fixed(lambda i, j, H: where(abs(j - mod(5 * i + 3, H)) > 0.5, 0, 1)),
):
    """Unitary evolution RNN: phases, a Fourier transform, a reflection, a permutation and back; modReLU."""
    re, im = turned(d.a, re, im)
    re, im = reflected(F.re @ re - F.im @ im, F.re @ im + F.im @ re, r.a, r.b)
    re, im = turned(d.b, P @ re, P @ im)
    re, im = reflected(F.re @ re + F.im @ im, F.re @ im - F.im @ re, r.c, r.d)
    re, im = turned(d.c, re, im)
    re, im = re + W.re @ x, im + W.im @ x
    size = sqrt(re * re + im * im + 1e-5)
    scale = cello.relu(size + b) / size
    re, im = scale * re, scale * im
    return C.re @ re + C.im @ im, re, im


def reflect(z, v):
    return z - 2 * v * (z * v.conj()).sum(1, keepdim=True) / (v.abs() ** 2).sum()


@real(
    "uRNN",
    "amarshah/complex_RNN; Arjovsky et al. 2016",
    unitary_cell,
    stacked="W: W.re W.im\nC: C.re | C.im\nd: d.a d.b d.c\nr: r.a r.b r.c r.d\nb",
    once=lambda p: setattr(p, "phase", torch.exp(1j * p.d.view(3, -1))),
)
def unitary(x, s, p):
    z, r = torch.complex(s[1], s[2]), p.r.view(4, -1)
    z = reflect(torch.fft.fft(z * p.phase[0], norm="ortho"), torch.complex(r[0], r[1]))
    z = z[:, (5 * torch.arange(z.shape[1]) + 3) % z.shape[1]] * p.phase[1]
    z = reflect(torch.fft.ifft(z, norm="ortho"), torch.complex(r[2], r[3])) * p.phase[2]
    z = z + torch.complex(*linear(x, p.W).chunk(2, 1))
    size = torch.sqrt(z.real**2 + z.imag**2 + 1e-5)
    z = z * (relu(size + p.b) / size)
    return linear(cat([z.real, z.imag], 1), p.C), z.real, z.imag


def centre(i, H):
    """Centre frequencies on the ERB scale, in radians a sample at 16 kHz."""
    return 2 * math.pi * 228.8 * (exp((2 + 20 * i / H) / 9.265) - 1) / 16000


@cell
def gammatone_cell(  # noqa: PLR0913, PLR0917
    x,
    y,
    a1,
    a2,
    a3,
    a4,
    b1,
    b2,
    b3,
    b4,
    w: Size(1),
    f: Fixed(centre),
    s: Learned(1.019, positive=True),
    n: Learned(0.3),
):
    """Gammatone filterbank: four complex one-pole filters in a row a channel, then a power of the envelope."""
    r = exp(-s * (0.108 * f + 24.7 * 2 * math.pi / 16000))
    re, im, new_re, new_im = w @ x, 0, [], []
    for a, b in ((a1, b1), (a2, b2), (a3, b3), (a4, b4)):
        turned_re, turned_im = turned(f, a, b)
        re, im = r * turned_re + (1 - r) * re, r * turned_im + (1 - r) * im
        new_re.append(re)
        new_im.append(im)
    return (1e-3 + sqrt(re * re + im * im)) ** n, *new_re, *new_im


def poles(p):
    H = len(p.s)
    f = torch.tensor(2 * np.pi * 228.8 * (np.exp((2 + 20 * np.arange(H) / H) / 9.265) - 1) / 16000, dtype=p.s.dtype)
    p.r = torch.exp(-p.s * (0.108 * f + 24.7 * 2 * np.pi / 16000))
    p.pole = p.r * torch.exp(1j * f)


@real("gammatone filterbank", "Slaney 1993; Holdsworth et al. 1988", gammatone_cell, stacked="w s n", once=poles)
def gammatone(x, state, p):
    u, new = linear(x, p.w).expand(-1, len(p.s)), []
    for k in range(1, 5):
        u = p.pole * torch.complex(state[k], state[k + 4]) + (1 - p.r) * u
        new.append(u)
    return (1e-3 + u.abs()) ** p.n, *(z.real for z in new), *(z.imag for z in new)


@cell
def rits_cell(  # noqa: PLR0913, PLR0917
    x: Parts("value", "mask", "gap"),
    h,
    c,
    G,
    g,
    A,
    a,
    w,
    W,
    V,
    U,
    b,
    M: Fixed(lambda i, j: where(abs(i - j) > 0.5, 1, 0)),
):
    """BRITS in one direction: what is missing is estimated from the past and from the other features."""
    h = exp(-cello.relu(G @ x.gap + g)) * h
    past = A.h @ h + a.h
    filled = x.mask * x.value + (1 - x.mask) * past
    others = (M * A.x) @ filled + a.x
    share = cello.sigmoid(A.g @ exp(-cello.relu(w * x.gap + a.g)) + A.m @ x.mask + a.m)
    value = x.mask * x.value + (1 - x.mask) * (share * others + (1 - share) * past)
    i = cello.sigmoid(W.i @ value + V.i @ x.mask + U.i @ h + b.i)
    f = cello.sigmoid(W.f @ value + V.f @ x.mask + U.f @ h + b.f)
    o = cello.sigmoid(W.o @ value + V.o @ x.mask + U.o @ h + b.o)
    c = f * c + i * cello.tanh(W.n @ value + V.n @ x.mask + U.n @ h + b.n)
    return o * cello.tanh(c), c


@real(
    "RITS, one direction of BRITS",
    "caow13/BRITS, models/rits.py; Cao et al. 2018",
    rits_cell,
    stacked="""
    G
    g
    Wh: A.h
    bh: a.h
    Wx: A.x
    bx: a.x
    Wb: A.g | A.m
    bb: a.m
    w
    bg: a.g
    Wi: W.i W.f W.n W.o | V.i V.f V.n V.o | U.i U.f U.n U.o
    bi: b.i b.f b.n b.o
    """,
)
def rits(x, s, p):
    h, c = s
    x, m, d = x.chunk(3, 1)
    h = h * torch.exp(-relu(linear(d, p.G, p.g)))
    x_h = linear(h, p.Wh, p.bh)
    x_c = m * x + (1 - m) * x_h
    z_h = linear(x_c, p.Wx * (1 - torch.eye(len(p.Wx), dtype=p.Wx.dtype)), p.bx)
    alpha = sigmoid(linear(cat([torch.exp(-relu(d * p.w + p.bg)), m], 1), p.Wb, p.bb))
    c_c = m * x + (1 - m) * (alpha * z_h + (1 - alpha) * x_h)
    i, f, g, o = linear(cat([c_c, m, h], 1), p.Wi, p.bi).chunk(4, 1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


def scaled(i, j):
    """HiPPO-LegS' matrix."""
    return where(j > i, 0, where(i > j, sqrt((2 * i + 1) * (2 * j + 1)), i + 1))


@cell
def leg_s_cell(  # noqa: PLR0913, PLR0917
    x,
    h,
    c: Size(12),
    t: Size(1),
    w: Members(h=Size(1), x=Size(1)),
    W,
    V,
    U,
    b,
    A: Fixed(scaled),
    B: Fixed(lambda i: sqrt(2 * i + 1)),
):
    """A gated RNN with the whole past of one number as twelve Legendre coefficients; its matrix is divided by time."""
    t = t + 1
    c = c - A @ c / t + B * (w.h @ h + w.x @ x) / t
    z = cello.sigmoid(W.z @ x + V.z @ c + U.z @ h + b.z)
    return (1 - z) * h + z * cello.tanh(W.n @ x + V.n @ c + U.n @ h + b.n), c, t


def legendre_scaled(p):
    root = np.sqrt(2 * np.arange(12) + 1)
    A = np.tril(np.outer(root, root), -1) + np.diag(np.arange(12) + 1.0)
    p.A, p.B = (torch.from_numpy(each).to(p.b.dtype) for each in (A, root))


@real(
    "HiPPO-LegS, order 12",
    "HazyResearch/hippo-code, model/memory.py; Gu et al. 2020",
    leg_s_cell,
    stacked="w: w.h | w.x\nW: W.z W.n | V.z V.n | U.z U.n\nb: b.z b.n",
    begin=lambda B, H: (torch.zeros(B, H), torch.zeros(B, 12), torch.zeros(B, 1)),
    once=legendre_scaled,
)
def leg_s(x, s, p):
    h, c, t = s
    t = t + 1
    f = linear(cat([h, x], 1), p.w)
    c = c + (f * p.B - linear(c, p.A)) / t
    z, n = linear(cat([x, c, h], 1), p.W, p.b).chunk(2, 1)
    z = sigmoid(z)
    return (1 - z) * h + z * tanh(n), c, t
