# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, disable-error-code="valid-type"
"""Recurrent layers of large models: block-diagonal gates, outer products, delta rules, momentum, whole blocks."""

from __future__ import annotations

import math

import torch
from torch import sigmoid, tanh
from torch.nn.functional import gelu, linear, logsigmoid, silu, softplus

import cello
from cello import Fixed, Heads, Learned, Members, Size, cell, where
from cello.cells.functions import columns, exp, outer, rows, sqrt
from real_cells.memories import dyad, times
from real_cells.real import real
from real_cells.sized import heads, no_memory, of_head, root


def swish(v):
    return v * cello.sigmoid(v)


def of_norm_one(v):
    return v / (v.square().sum(-1, True) + 1e-6).sqrt()


@cell
def slstm_heads_cell(x, h, c, n, m, W, R: Heads(4), b):
    """sLSTM with block-diagonal recurrence; m, the stabiliser, is the input gate's before anything is stored."""
    i, f = W.i @ x + R.i @ h + b.i, W.f @ x + R.f @ h + b.f
    z, o = cello.tanh(W.z @ x + R.z @ h + b.z), cello.sigmoid(W.o @ x + R.o @ h + b.o)
    kept = m - cello.softplus(-f)
    m = where(n == 0, i, cello.maximum(kept, i))
    f, i = exp(kept - m), exp(i - m)
    c, n = f * c + i * z, f * n + i
    return o * c / n, c, n, m


@real(
    "sLSTM, 4 heads",
    "NX-AI/xlstm, blocks/slstm; Beck et al. 2024",
    slstm_heads_cell,
    stacked="W: W.i W.f W.z W.o\nR: R.i R.f R.z R.o\nb: b.i b.f b.z b.o",
)
def slstm_heads(x, s, p):
    h, c, n, m = s
    d = h.shape[1] // 4
    fed = torch.einsum("bhi,ghoi->gbho", heads(h), p.R.view(4, 4, d, d)).flatten(2)
    i, f, z, o = torch.stack(linear(x, p.W, p.b).chunk(4, 1)) + fed
    kept = m + logsigmoid(f)
    m = torch.where(n == 0, i, torch.maximum(kept, i))
    f, i = torch.exp(kept - m), torch.exp(i - m)
    c, n = f * c + i * tanh(z), f * n + i
    return sigmoid(o) * c / n, c, n, m


@cell
def hgrn2_cell(x, y, S: Heads(4), W, low: Learned(-2.0)):
    """HGRN2: a gate for each element of a key, above a learned bound, is the key as well."""
    bound = cello.sigmoid(low)
    f = bound + (1 - bound) * cello.sigmoid(W.f @ x)
    S = columns(f) * S + outer(W.i @ x, 1 - f)
    return S @ (W.o @ x), S


@real(
    "HGRN2, 4 heads",
    "fla-org/flash-linear-attention, layers/hgrn2.py; Qin et al. 2024",
    hgrn2_cell,
    stacked="W: W.f W.i W.o\nlow",
    begin=no_memory,
)
def hgrn2(x, s, p):
    f, i, o = linear(x, p.W).chunk(3, 1)
    bound = sigmoid(p.low)
    f = heads(bound + (1 - bound) * sigmoid(f))
    S = s[1] * f.unsqueeze(-2) + dyad(heads(i), 1 - f)
    return times(S, heads(o)).flatten(1), S


@cell
def kimi_delta_cell(  # noqa: PLR0913, PLR0917
    x,
    y,
    S: Heads(4),
    W: Members(b=Size(4), down=Size(8), low=Size(8)),
    A: Size(4),
    d,
    E: Fixed(of_head),
    P: Fixed(1.0, size=Heads(4)),
    s: Fixed(root),
):
    """Kimi delta attention: a delta rule whose memory fades by a gate for each element of a key."""
    q, k, v = swish(W.q @ x), swish(W.k @ x), swish(W.v @ x)
    q, k = q / sqrt(P @ (q * q) + 1e-6), k / sqrt(P @ (k * k) + 1e-6)
    S = columns(exp(-(E @ exp(A)) * cello.softplus(W.up @ (W.down @ x) + d))) * S
    S = S + outer((E @ cello.sigmoid(W.b @ x)) * (v - S @ k), k)
    return (S @ (s * q)) * cello.sigmoid(W.high @ (W.low @ x)), S


@real(
    "Kimi delta attention, 4 heads",
    "fla-org/flash-linear-attention, ops/kda/naive.py; Kimi Team 2025",
    kimi_delta_cell,
    stacked="""
    W: W.q W.k W.v
    Wb: W.b
    F1: W.down
    F2: W.up
    G1: W.low
    G2: W.high
    A d
    """,
    begin=no_memory,
)
def kimi_delta(x, st, p):
    q, k, v = (heads(silu(part)) for part in linear(x, p.W).chunk(3, 1))
    q, k = of_norm_one(q), of_norm_one(k)
    g = -torch.exp(p.A).view(1, 4, 1) * heads(softplus(linear(linear(x, p.F1), p.F2, p.d)))
    S = st[1] * torch.exp(g).unsqueeze(-2)
    S = S + dyad(sigmoid(linear(x, p.Wb)).unsqueeze(-1) * (v - times(S, k)), k)
    read = times(S, q * q.shape[-1] ** -0.5).flatten(1)
    return read * sigmoid(linear(linear(x, p.G1), p.G2)), S


def two_matrices(B, H):
    return torch.zeros(B, H), torch.zeros(B, 1, H, H), torch.zeros(B, 1, H, H)


@cell
def titans_cell(x, y, M: Heads(1), Z: Heads(1), W, w: Size(1), b: Size(1)):
    """Titans' memory of one matrix: a gradient step with momentum, and forgetting."""
    k, v, q = W.k @ x, W.v @ x, W.q @ x
    k, q = k / sqrt((k * k).sum() + 1e-6), q / sqrt((q * q).sum() + 1e-6)
    alpha, eta, theta = (cello.sigmoid(getattr(w, n) @ x + getattr(b, n)) for n in ("alpha", "eta", "theta"))
    Z = eta * Z - outer(theta * (M @ k - v), k)
    M = (1 - alpha) * M + Z
    return M @ q, M, Z


@real(
    "Titans, memory of one matrix",
    "lucidrains/titans-pytorch, neural_memory.py, one frame a chunk; Behrouz et al. 2024",
    titans_cell,
    stacked="W: W.k W.v W.q\nw: w.alpha w.eta w.theta\nb: b.alpha b.eta b.theta",
    begin=two_matrices,
)
def titans(x, st, p):
    k, v, q = linear(x, p.W).chunk(3, 1)
    k, q = of_norm_one(k), of_norm_one(q)
    alpha, eta, theta = sigmoid(linear(x, p.w, p.b)).unsqueeze(-1).chunk(3, 1)
    M, Z = st[1][:, 0], st[2][:, 0]
    Z = eta * Z - theta * dyad(times(M, k) - v, k)
    M = (1 - alpha) * M + Z
    return times(M, q), M.unsqueeze(1), Z.unsqueeze(1)


@cell
def griffin_cell(x, y, h, u1, u2, u3, W, b, c, G: Heads(4), d, A: Learned(-4.0, -1.0), O):  # noqa: E741, PLR0913, PLR0917
    """Griffin's recurrent block: a convolution of four frames, RG-LRU with block-diagonal gates, a GELU branch."""
    g, u0 = W.g @ x + b.g, W.u @ x + b.u
    g = 0.5 * g * (1 + cello.tanh(math.sqrt(2 / math.pi) * (g + 0.044715 * g**3)))
    u = c.a * u0 + c.b * u1 + c.c * u2 + c.d * u3 + b.c
    r, i = cello.sigmoid(G.r @ u + d.r), cello.sigmoid(G.i @ u + d.i)
    log_a = -8 * r * cello.softplus(A)
    h = exp(log_a) * h + sqrt(1 - exp(2 * log_a)) * (i * u)
    return O @ (h * g), h, u0, u1, u2


@real(
    "Griffin's recurrent block, 4 heads",
    "google-deepmind/recurrentgemma, torch/layers.py; De et al. 2024",
    griffin_cell,
    stacked="""
    W: W.g W.u
    b: b.g b.u
    c: c.a c.b c.c c.d
    bc: b.c
    G: G.r G.i
    d: d.r d.i
    A O
    """,
)
def griffin(x, st, p):
    _, h, *before = st
    g, u0 = linear(x, p.W, p.b).chunk(2, 1)
    u = (torch.stack([u0, *before], 1) * p.c.view(4, -1)).sum(1) + p.bc
    blocks = p.G.view(2, 4, -1, p.G.shape[1])
    gates = torch.einsum("bhi,ghoi->bgho", heads(u), blocks).flatten(1) + p.d
    r, i = sigmoid(gates).chunk(2, 1)
    log_a = -8 * r * softplus(p.A)
    h = torch.exp(log_a) * h + torch.sqrt(-torch.expm1(2 * log_a)) * (i * u)
    return linear(h * gelu(g, approximate="tanh"), p.O), h, u0, *before[:2]


@cell
def mamba_block_cell(  # noqa: PLR0913, PLR0917
    x,
    y: Size("D"),
    S: Size("H", 4),
    v1,
    v2,
    v3,
    W,
    P: Members(B=Size(4), C=Size(4), down=Size(4)),
    c,
    b,
    A: Learned(lambda j: cello.log(j + 1), size=("H", 4)),
    D: Learned(1.0),
    O,  # noqa: E741
):
    """The whole block of Mamba: convolution of four frames, selective state space, gate, projection back to D."""
    v0, z = W.u @ x, W.z @ x
    u = swish(c.a * v0 + c.b * v1 + c.c * v2 + c.d * v3 + b.c)
    t = cello.softplus(P.up @ (P.down @ u) + b.t)
    S = exp(-rows(t) * exp(A)) * S + outer(t * u, P.B @ u)
    return O @ ((S @ (P.C @ u) + D * u) * swish(z)), S, v0, v1, v2


@real(
    "Mamba's block, 4 states a unit",
    "state-spaces/mamba, modules/mamba_simple.py, step; Gu & Dao 2023",
    mamba_block_cell,
    stacked="""
    W: W.u W.z
    P: P.down P.B P.C
    Pt: P.up
    bt: b.t
    c: c.a c.b c.c c.d
    bc: b.c
    A D O
    """,
    begin=lambda B, H: (torch.zeros(B, 1), torch.zeros(B, H, 4), *(torch.zeros(B, H) for _ in range(3))),
)
def mamba_block(x, st, p):
    _, S, *before = st
    v, z = linear(x, p.W).chunk(2, 1)
    u = silu((torch.stack([v, *before], 1) * p.c.view(4, -1)).sum(1) + p.bc)
    t, B, C = linear(u, p.P).chunk(3, 1)
    t = softplus(linear(t, p.Pt, p.bt))
    S = torch.exp(t.unsqueeze(-1) * -torch.exp(p.A)) * S + dyad(t * u, B)
    return linear((times(S, C) + p.D * u) * silu(z), p.O), S, v, *before[:2]
