# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, disable-error-code="valid-type"
"""Cells of several levels: small ones that steer large ones, slow ones above fast ones, as many steps as are needed."""

from __future__ import annotations

import torch
from torch import cat, sigmoid, tanh
from torch.nn.functional import linear

import cello
from cello import Learned, Size, cell, maximum, minimum, where
from cello.cells.functions import stop
from cello.cells.load import zoo
from real_cells.lstms import lstm
from real_cells.real import real


@real(
    "HyperLSTM, H / 4 small units",
    "hardmaru/supercell, without layer normalisation; Ha et al. 2016",
    zoo()["hyper-lstm"],
    stacked="""
    A: A.i A.f A.g A.o | B.i B.f B.g B.o | C.i C.f C.g C.o
    a: a.i a.f a.g a.o
    Z
    P: P.xi P.xf P.xg P.xo P.hi P.hf P.hg P.ho P.bi P.bf P.bg P.bo
    W: W.i W.f W.g W.o
    U: U.i U.f U.g U.o
    d: d.xi d.xf d.xg d.xo
    e: d.hi d.hf d.hg d.ho
    b: b.i b.f b.g b.o
    """,
    begin=lambda B, H: (*[torch.zeros(B, H)] * 2, *[torch.zeros(B, H // 4)] * 2),
)
def hyper_lstm(x, st, p):
    h, c, s, d = st
    s, d = lstm(linear(cat([x, h, s], 1), p.A, p.a), d)
    x_scale, h_scale, bias = linear(linear(s, p.Z), p.P).chunk(3, 1)
    h, c = lstm((x_scale + p.d) * linear(x, p.W) + (h_scale + p.e) * linear(h, p.U) + bias + p.b, c)
    return h, c, s, d


@cell
def multiscale_cell(x, h, c, g, d, e: Size(1), W, U, T, V, b, w: Size(1), v: Learned(0.2, size=1)):  # noqa: PLR0913, PLR0917
    """Hierarchical multiscale LSTM of two layers: (g, d) tells by e when a segment ends; then (h, c) takes a step.

    e is 0 or 1 and learns as a hard sigmoid does, straight through.
    """
    i = cello.sigmoid(W.i @ x + U.i @ g + e * (T.i @ h) + b.i)
    f = cello.sigmoid(W.f @ x + U.f @ g + e * (T.f @ h) + b.f)
    o = cello.sigmoid(W.o @ x + U.o @ g + e * (T.o @ h) + b.o)
    n = cello.tanh(W.g @ x + U.g @ g + e * (T.g @ h) + b.g)
    soft = minimum(maximum((w.x @ x + w.g @ g + e * (w.h @ h) + v + 1) / 2, 0), 1)
    d = (1 - e) * f * d + i * n
    g = o * cello.tanh(d)
    e = soft + stop(where(soft > 0.5, 1, 0) - soft)
    i = cello.sigmoid(V.i @ g + U.I @ h + b.I)
    f = cello.sigmoid(V.f @ g + U.F @ h + b.F)
    o = cello.sigmoid(V.o @ g + U.O @ h + b.O)
    n = cello.tanh(V.g @ g + U.G @ h + b.G)
    c = e * (f * c + i * n) + (1 - e) * c
    h = e * o * cello.tanh(c) + (1 - e) * h
    return h, c, g, d, e


@real(
    "hierarchical multiscale LSTM, 2 layers",
    "n-s-f/hierarchical-rnn; Chung et al. 2017",
    multiscale_cell,
    stacked="""
    W: W.i W.f W.g W.o w.x | U.i U.f U.g U.o w.g
    T: T.i T.f T.g T.o w.h
    b: b.i b.f b.g b.o v
    V: V.i V.f V.g V.o | U.I U.F U.G U.O
    d: b.I b.F b.G b.O
    """,
    begin=lambda B, H: (*[torch.zeros(B, H)] * 4, torch.zeros(B, 1)),
)
def multiscale(x, st, p):
    h, c, g, d, e = st
    pre = linear(cat([x, g], 1), p.W, p.b) + e * linear(h, p.T)
    soft = ((pre[:, -1:] + 1) / 2).clamp(0, 1)
    g, d = lstm(pre[:, :-1], (1 - e) * d)
    e = soft + ((soft > 0.5).to(soft.dtype) - soft).detach()
    i, f, n, o = linear(cat([g, h], 1), p.V, p.d).chunk(4, 1)
    c = e * (sigmoid(f) * c + sigmoid(i) * tanh(n)) + (1 - e) * c
    return e * sigmoid(o) * tanh(c) + (1 - e) * h, c, g, d, e


@cell
def act_cell(x, h, W, U, u, b, w: Size(1), v: Size(1)):
    """Adaptive computation time: an RNN takes up to four steps a frame, until the shares that it gives add up to 1."""
    pre, new, total = W @ x + b, 0, 0
    for k in range(4):
        h = cello.tanh(pre + U @ h + (u if k == 0 else 0))
        share = cello.sigmoid(w @ h + v)
        share = where(total + share > 0.99, 1 - total, share) if k < 3 else 1 - total
        new, total = new + share * h, total + share
    return new


@real(
    "RNN with adaptive computation time, 4 steps",
    "imatge-upc/danifojo-2018-repeatrnn, ACT; Graves 2016",
    act_cell,
    stacked="""
    W: W | U
    u
    b
    w
    v
    """,
)
def act(x, st, p):
    (h,) = st
    D, new, total = x.shape[1], 0, torch.zeros_like(x[:, :1])
    pre = linear(x, p.W[:, :D], p.b)
    for k in range(4):
        h = tanh(pre + linear(h, p.W[:, D:]) + (p.u if k == 0 else 0))
        share = sigmoid(linear(h, p.w, p.v))
        share = torch.where(total + share > 0.99, 1 - total, share) if k < 3 else 1 - total
        new, total = new + share * h, total + share
    return (new,)
