# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, disable-error-code="valid-type"
"""Gated units with delays, skips and attention."""

from __future__ import annotations

import torch
from torch import relu, sigmoid, tanh
from torch.nn.functional import linear

import cello
from cello import Fixed, Scalar, cell
from cello.cells.functions import round as nearest
from cello.cells.functions import stop
from real_cells.real import real


@cell
def delta_rnn_cell(x, h, W, V, alpha, beta, b):
    """Delta-RNN: products of frame and state, weighted unit by unit; r keeps the past."""
    v, w = V @ h, W @ x
    z = cello.tanh(alpha * v * w + beta.v * v + beta.w * w + b.z)
    r = cello.sigmoid(w + b.r)
    return cello.relu((1 - r) * z + r * h)


@real(
    "Delta-RNN",
    "Ororbia et al. 2017, equations 11 to 13",
    delta_rnn_cell,
    stacked="""
    W V alpha
    b1: beta.v
    b2: beta.w
    bz: b.z
    br: b.r
    """,
)
def delta_rnn(x, s, p):
    (h,) = s
    state, frame = linear(h, p.V), linear(x, p.W)
    second, first = p.alpha * state * frame, p.b1 * state + p.b2 * frame
    r = sigmoid(frame + p.br)
    return (relu((1 - r) * tanh(second + first + p.bz) + r * h),)


@cell
def tau_gru_cell(x, h, h1, h2, h3, W, U, b, c):  # noqa: PLR0913, PLR0917
    """τ-GRU with a delay of three frames: h3 is the state three frames before h."""
    u = cello.tanh(W.u @ x + b.u + U.u @ h + c.u)
    z = cello.tanh(W.z @ x + b.z + U.z @ h3 + c.z)
    g = cello.sigmoid(W.g @ x + b.g + U.g @ h + c.g)
    a = cello.sigmoid(W.a @ x + b.a + U.a @ h + c.a)
    return (1 - g) * h + g * (u + a * z), h, h1, h2


@real(
    "τ-GRU, delay 3",
    "torchrecurrent, taugru_cell.py; Erichson et al. 2022",
    tau_gru_cell,
    stacked="""
    Wx: W.u W.g W.a W.z
    Wh: U.u U.g U.a
    Wz: U.z
    bx: b.u b.g b.a b.z
    bh: c.u c.g c.a
    bz: c.z
    """,
)
def tau_gru(x, s, p):
    h, h1, h2, delayed = s
    given, feedback = linear(x, p.Wx, p.bx).split([3 * h.shape[1], h.shape[1]], 1)
    u, g, a = (given + linear(h, p.Wh, p.bh)).chunk(3, 1)
    z = tanh(feedback + linear(delayed, p.Wz, p.bz))
    g = sigmoid(g)
    return (1.0 - g) * h + g * (tanh(u) + sigmoid(a) * z), h, h1, h2


@cell
def dilated_gru_cell(x, h, h1, h2, h3, W, U, b, c):  # noqa: PLR0913, PLR0917
    """GRU of dilation four: the state before is that of four frames ago."""
    r = cello.sigmoid(W.r @ x + b.r + U.r @ h3 + c.r)
    z = cello.sigmoid(W.z @ x + b.z + U.z @ h3 + c.z)
    n = cello.tanh(W.n @ x + b.n + r * (U.n @ h3 + c.n))
    return (1 - z) * n + z * h3, h, h1, h2


@real(
    "dilated GRU, dilation 4",
    "zalandoresearch/pytorch-dilated-rnn; Chang et al. 2017",
    dilated_gru_cell,
    stacked="""
    Wx: W.r W.z W.n
    Wh: U.r U.z U.n
    bx: b.r b.z b.n
    bh: c.r c.z c.n
    """,
)
def dilated_gru(x, s, p):
    h, h1, h2, old = s
    (wr, wz, wn), (ur, uz, un) = linear(x, p.Wx, p.bx).chunk(3, 1), linear(old, p.Wh, p.bh).chunk(3, 1)
    n = tanh(wn + sigmoid(wr + ur) * un)
    return n + sigmoid(wz + uz) * (old - n), h, h1, h2


@cell
def skip_gru_cell(x, h, a, q: Fixed(1.0), W, U, b, w, bias: Scalar, J: Fixed(1.0)):  # noqa: PLR0913, PLR0917
    """Skip GRU: u, the rounded sum of what q asks for, decides for a whole clip whether the frame is looked at."""
    r = cello.sigmoid(W.r @ x + U.r @ h + b.r)
    z = cello.sigmoid(W.z @ x + U.z @ h + b.z)
    n = cello.tanh(W.n @ x + U.n @ (r * h) + b.n)
    new = z * h + (1 - z) * n
    a = a + cello.minimum(q, 1 - a)
    u = a + stop(nearest(a) - a)
    q = u * cello.sigmoid(J @ (w * new) + bias) + (1 - u) * q
    return u * new + (1 - u) * h, (1 - u) * a, q


@real(
    "Skip GRU",
    "imatge-upc/skiprnn-2017-telecombcn, rnn_cells/skip_rnn_cells.py; Campos et al. 2018",
    skip_gru_cell,
    stacked="""
    Wx: W.r W.z W.n
    Wg: U.r U.z
    Wn: U.n
    b: b.r b.z b.n
    w
    bias
    """,
    begins=(0.0, 0.0, 1.0),
)
def skip_gru(x, s, p):
    h, total, asked = s
    H = h.shape[1]
    gates, content = linear(x, p.Wx, p.b).split([2 * H, H], 1)
    r, z = sigmoid(gates + linear(h, p.Wg)).chunk(2, 1)
    new = z * h + (1 - z) * tanh(content + linear(r * h, p.Wn))
    total = total + torch.minimum(asked, 1 - total)
    u = total + (torch.round(total) - total).detach()
    asking = sigmoid(new @ p.w + p.bias).unsqueeze(1).expand(-1, H)
    return u * new + (1 - u) * h, (1 - u) * total, u * asking + (1 - u) * asked


@cell
def lstmn_cell(x, h, h1, h2, c, c1, c2, m, A, W, U, v, b, J: Fixed(1.0)):  # noqa: PLR0913, PLR0917
    """LSTMN over the last three frames: attention to them gives the state and the memory that an LSTM goes on from."""
    query = A.x @ x + A.m @ m
    s0 = J @ (v * cello.tanh(A.h @ h + query))
    s1 = J @ (v * cello.tanh(A.h @ h1 + query))
    s2 = J @ (v * cello.tanh(A.h @ h2 + query))
    largest = stop(cello.maximum(cello.maximum(s0, s1), s2))
    e0, e1, e2 = cello.exp(s0 - largest), cello.exp(s1 - largest), cello.exp(s2 - largest)
    total = e0 + e1 + e2
    m = (e0 * h + e1 * h1 + e2 * h2) / total
    past = (e0 * c + e1 * c1 + e2 * c2) / total
    i = cello.sigmoid(W.i @ x + U.i @ m + b.i)
    f = cello.sigmoid(W.f @ x + U.f @ m + b.f)
    g = cello.tanh(W.g @ x + U.g @ m + b.g)
    o = cello.sigmoid(W.o @ x + U.o @ m + b.o)
    new = f * past + i * g
    return o * cello.tanh(new), h, h1, new, c, c1, m


@real(
    "LSTMN, attention over a window of 3",
    "cheng6076/SNLI-attention; Cheng et al. 2016, equations 4 to 10",
    lstmn_cell,
    stacked="""
    Ax: A.x
    Am: A.m
    Ah: A.h
    v
    Wx: W.i W.f W.g W.o
    Wh: U.i U.f U.g U.o
    b: b.i b.f b.g b.o
    """,
)
def lstmn(x, s, p):
    h, h1, h2, c, c1, c2, m = s
    tape, memories = torch.stack([h, h1, h2], 1), torch.stack([c, c1, c2], 1)
    query = linear(x, p.Ax) + linear(m, p.Am)
    share = (tanh(linear(tape, p.Ah) + query.unsqueeze(1)) @ p.v).softmax(1).unsqueeze(1)
    m, past = (share @ tape).squeeze(1), (share @ memories).squeeze(1)
    i, f, g, o = (linear(x, p.Wx, p.b) + linear(m, p.Wh)).chunk(4, 1)
    new = sigmoid(f) * past + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(new), h, h1, new, c, c1, m
