# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, disable-error-code="valid-type"
"""Linear recurrences unit by unit: state-space models and their gated relatives."""

from __future__ import annotations

import math

import torch
from torch import cat, sigmoid
from torch.nn.functional import gelu, linear, rms_norm, silu, softplus

import cello
from cello import Fixed, Learned, cell
from cello.cells.load import zoo
from real_cells.real import real

ZOO = zoo()


def eigenvalues(p):
    p.eigen = torch.exp(torch.complex(-torch.exp(p.nu), torch.exp(p.theta)))
    p.gamma = torch.sqrt(1 - p.eigen.abs() ** 2)


@real(
    "LRU",
    "NicolasZucchet/minimal-LRU; Orvieto et al. 2023",
    ZOO["lru"],
    stacked="""
    B: B.re B.im C.x
    C: C.re | C.im
    nu theta
    """,
    once=eigenvalues,
    before=lambda x, p: linear(x, p.B),
)
def lru(x, s, p):
    re, im, through = x.chunk(3, 1)
    state = p.eigen * torch.complex(s[1], s[2]) + p.gamma * torch.complex(re, im)
    y = linear(cat([state.real, -state.imag], 1), p.C) + through
    return gelu(y), state.real, state.imag


@real(
    "RWKV-4, WKV",
    "BlinkDL/RWKV-LM, RWKV-v4/src/model_run.py; Peng et al. 2023",
    ZOO["rwkv"],
    stacked="""
    W: W.r W.k W.v
    w u
    """,
    begins=(0.0, 0.0, 0.0, -math.inf),
    before=lambda x, p: linear(x, p.W),
)
def rwkv(x, s, p):
    r, k, v = x.chunk(3, 1)
    _, above, below, largest = s
    q = torch.maximum(largest, p.u + k)
    e1, e2 = torch.exp(largest - q), torch.exp(p.u + k - q)
    y = sigmoid(r) * (e1 * above + e2 * v) / (e1 * below + e2)
    decayed = largest - torch.exp(p.w)
    q = torch.maximum(decayed, k)
    e1, e2 = torch.exp(decayed - q), torch.exp(k - q)
    return y, e1 * above + e2 * v, e1 * below + e2, q


@cell
def rg_lru_cell(
    x, h, W, A, b, a: Learned(lambda: cello.log(cello.exp(-0.125 * cello.log(cello.uniform(0.9, 0.999))) - 1))
):
    """Griffin's real-gated linear recurrent unit on a linear map u of the frame."""
    u = W @ x + b.x
    r, i = cello.sigmoid(A.r @ u + b.r), cello.sigmoid(A.i @ u + b.i)
    log_a = -8 * r * cello.softplus(a)
    return cello.exp(log_a) * h + cello.sqrt(1 - cello.exp(2 * log_a)) * (i * u)


def real_gates(x, p):
    u = linear(x, p.W, p.bx)
    r, i = sigmoid(linear(u, p.A, p.b)).chunk(2, -1)
    log_a = -8.0 * r * softplus(p.a)
    return torch.exp(log_a), torch.sqrt(1 - torch.exp(2 * log_a)) * (i * u)


@real(
    "RG-LRU",
    "google-deepmind/recurrentgemma, torch/layers.py; De et al. 2024",
    rg_lru_cell,
    stacked="""
    W: W
    A: A.r A.i
    bx: b.x
    b: b.r b.i
    a
    """,
    before=real_gates,
)
def rg_lru(x, s, p):
    decay, given = x
    return (decay * s[0] + given,)


@cell
def hgrn_cell(x, y, h, W, lower: Learned(0.1, 0.5), s: Learned(1.0), J: Fixed(lambda H: 1 / H)):
    """Hierarchically gated recurrent network: forget gates above a lower bound; its output is normalised and gated."""
    i, g = W.i @ x, W.g @ x
    f = lower + (1 - lower) * cello.sigmoid(W.f @ x)
    h = f * h + (1 - f) * (i * cello.sigmoid(i))
    y = s * h / cello.sqrt(J @ (h * h) + 1e-5) * (g * cello.sigmoid(g))
    return y, h


def hgrn_gates(x, p):
    i, f, g = linear(x, p.W).chunk(3, -1)
    f = p.lower + (1 - p.lower) * sigmoid(f)
    return f, silu(i) * (1 - f), silu(g)


@real(
    "HGRN",
    "fla-org/flash-linear-attention, layers/hgrn.py; Qin et al. 2023",
    hgrn_cell,
    stacked="""
    W: W.i W.f W.g
    lower s
    """,
    before=hgrn_gates,
)
def hgrn(x, s, p):
    f, given, gate = x
    h = f * s[1] + given
    return rms_norm(h, (h.shape[1],), p.s, 1e-5) * gate, h


@cell
def gate_loop_cell(x, y, h, W):
    """Simple gate loop: data-controlled linear recurrence, its output multiplied by a query."""
    h = cello.sigmoid(W.a @ x) * h + W.v @ x
    return (W.q @ x) * h, h


@real(
    "GateLoop, simple",
    "lucidrains/gateloop-transformer, simplified_gate_loop.py; Katsch 2023",
    gate_loop_cell,
    stacked="W: W.q W.v W.a",
    before=lambda x, p: linear(x, p.W),
)
def gate_loop(x, s, p):
    q, kv, a = x.chunk(3, 1)
    h = sigmoid(a) * s[1] + kv
    return q * h, h


@cell
def s5_cell(  # noqa: PLR0913, PLR0917
    x,
    y,
    re,
    im,
    B,
    C,
    D,
    decay: Learned(-0.7),
    omega: Learned(lambda i: math.pi * i),
    step: Learned(math.log(0.001), math.log(0.1)),
):
    """S5: a diagonal state-space model, discretised by a zero-order hold; then GELU."""
    t, a = cello.exp(step), -cello.exp(decay)
    size, angle = cello.exp(a * t), omega * t
    l_re, l_im = size * cello.cos(angle), size * cello.sin(angle)
    norm = a * a + omega * omega
    k_re, k_im = ((l_re - 1) * a + l_im * omega) / norm, (l_im * a - (l_re - 1) * omega) / norm
    u, v = B.re @ x, B.im @ x
    re, im = l_re * re - l_im * im + k_re * u - k_im * v, l_im * re + l_re * im + k_im * u + k_re * v
    y = 2 * (C.re @ re - C.im @ im) + D @ x
    return 0.5 * y * (1 + cello.erf(y / math.sqrt(2))), re, im


def held(p):
    p.A = torch.complex(-torch.exp(p.decay), p.omega)
    p.bar = torch.exp(p.A * torch.exp(p.step))
    p.input_scale = (p.bar - 1) / p.A


def held_frames(x, p):
    re, im, through = linear(x, p.B).chunk(3, -1)
    return p.input_scale * torch.complex(re, im), through


@real(
    "S5",
    "lindermanlab/S5, s5/ssm.py; Smith et al. 2023",
    s5_cell,
    stacked="""
    B: B.re B.im D
    Cre: C.re
    Cim: C.im
    decay omega step
    """,
    once=held,
    before=held_frames,
)
def s5(x, s, p):
    given, through = x
    state = p.bar * torch.complex(s[1], s[2]) + given
    y = 2 * (linear(state.real, p.Cre) - linear(state.imag, p.Cim)) + through
    return gelu(y), state.real, state.imag


@cell
def mega_ema_cell(x, y, h1, h2, h3, h4, W, omega, alpha, beta, gamma, delta):  # noqa: PLR0913, PLR0917
    """Mega's damped exponential moving average, four a unit, with a residual and SiLU."""
    u, new, out = W @ x, [], omega * (W @ x)
    for name, h in (("k1", h1), ("k2", h2), ("k3", h3), ("k4", h4)):
        p = cello.sigmoid(getattr(delta, name))
        new.append((1 - p * cello.sigmoid(getattr(alpha, name))) * h + p * getattr(beta, name) * u)
        out = out + 0.5 * getattr(gamma, name) * new[-1]
    return out * cello.sigmoid(out), *new


def averages(p):
    p.p = sigmoid(p.delta).view(4, -1)
    p.q = 1 - p.p * sigmoid(p.alpha).view(4, -1)
    p.into, p.out = p.p * p.beta.view(4, -1), 0.5 * p.gamma.view(4, -1)


@real(
    "Mega's EMA, 4 dimensions",
    "facebookresearch/mega, modules/exponential_moving_average.py; Ma et al. 2023",
    mega_ema_cell,
    stacked="W omega\n"
    + "\n".join(f"{name}: " + " ".join(f"{name}.k{k}" for k in "1234") for name in ("alpha", "beta", "gamma", "delta")),
    once=averages,
    before=lambda x, p: linear(x, p.W),
)
def mega_ema(u, s, p):
    h = p.q * torch.stack(s[1:], 1) + p.into * u.unsqueeze(1)
    return silu((p.out * h).sum(1) + p.omega * u), *h.unbind(1)
