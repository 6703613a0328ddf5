# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, disable-error-code="valid-type"
"""LSTMs with peepholes, with diagonal or delayed recurrences, with momentum."""

from __future__ import annotations

from torch import sigmoid, tanh
from torch.nn.functional import linear

import cello
from cello import cell
from cello.cells.load import zoo
from real_cells.lstms import IFGO, lstm
from real_cells.real import real

ZOO = zoo()


@real(
    "peephole LSTM",
    "torchrecurrent, peepholelstm_cell.py; Gers & Schmidhuber 2000",
    ZOO["lstm-peephole"],
    stacked=IFGO + "    peep: p.i p.f p.o",
)
def peephole_lstm(x, s, p):
    h, c = s
    to_i, to_f, to_o = p.peep.chunk(3)
    i, f, g, o = (linear(x, p.Wx, p.b) + linear(h, p.Wh)).chunk(4, 1)
    c = sigmoid(f + to_f * c) * c + sigmoid(i + to_i * c) * tanh(g)
    return sigmoid(o + to_o * c) * tanh(c), c


@real(
    "NOAF",
    "Greff et al. 2017, no output activation function",
    ZOO["noaf"],
    stacked=IFGO + "    peep: p.i p.f p.o",
)
def noaf(x, s, p):
    h, c = s
    to_i, to_f, to_o = p.peep.chunk(3)
    i, f, g, o = (linear(x, p.Wx, p.b) + linear(h, p.Wh)).chunk(4, 1)
    c = sigmoid(f + to_f * c) * c + sigmoid(i + to_i * c) * tanh(g)
    return sigmoid(o + to_o * c) * c, c


@real(
    "RAN",
    "torchrecurrent, ran_cell.py; Lee et al. 2017",
    ZOO["ran"],
    stacked="""
    Wx: W.i W.f W.g
    Wh: U.i U.f
    b: b.i b.f
    """,
)
def ran(x, s, p):
    h, c = s
    i, f, content = linear(x, p.Wx).chunk(3, 1)
    to_i, to_f = linear(h, p.Wh, p.b).chunk(2, 1)
    c = sigmoid(i + to_i) * content + sigmoid(f + to_f) * c
    return tanh(c), c


@cell
def indy_lstm_cell(x, h, c, W, u, b):
    """LSTM of independent units: recurrent matrices are diagonal."""
    i = cello.sigmoid(W.i @ x + u.i * h + b.i)
    f = cello.sigmoid(W.f @ x + u.f * h + b.f)
    c = f * c + i * cello.tanh(W.g @ x + u.g * h + b.g)
    return cello.sigmoid(W.o @ x + u.o * h + b.o) * cello.tanh(c), c


@real(
    "IndyLSTM",
    "Gonnet & Deselaers 2020",
    indy_lstm_cell,
    stacked="""
    Wx: W.i W.f W.g W.o
    u: u.i u.f u.g u.o
    b: b.i b.f b.g b.o
    """,
)
def indy_lstm(x, s, p):
    h, c = s
    return lstm(linear(x, p.Wx, p.b) + p.u * h.repeat(1, 4), c)


@cell
def momentum_lstm_cell(x, h, c, vi, vf, vg, vo, W, U, a, b):  # noqa: PLR0913, PLR0917
    """MomentumLSTM: what frames give to the gates is summed up with momentum 0.6 and step 0.6."""
    vi, vf = 0.6 * vi + 0.6 * (W.i @ x + a.i), 0.6 * vf + 0.6 * (W.f @ x + a.f)
    vg, vo = 0.6 * vg + 0.6 * (W.g @ x + a.g), 0.6 * vo + 0.6 * (W.o @ x + a.o)
    i, f = cello.sigmoid(U.i @ h + vi + b.i), cello.sigmoid(U.f @ h + vf + b.f)
    c = f * c + i * cello.tanh(U.g @ h + vg + b.g)
    return cello.sigmoid(U.o @ h + vo + b.o) * cello.tanh(c), c, vi, vf, vg, vo


@real(
    "MomentumLSTM",
    "minhtannguyen/MomentumRNN; Nguyen et al. 2020",
    momentum_lstm_cell,
    stacked="""
    Wx: W.i W.f W.g W.o
    Wh: U.i U.f U.g U.o
    bx: a.i a.f a.g a.o
    bh: b.i b.f b.g b.o
    """,
)
def momentum_lstm(x, s, p):
    h, c, *v = s
    v = [0.6 * old + 0.6 * new for old, new in zip(v, linear(x, p.Wx, p.bx).chunk(4, 1), strict=True)]
    i, f, g, o = (own + fed for own, fed in zip(v, linear(h, p.Wh, p.bh).chunk(4, 1), strict=True))
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c, *v


@cell
def elstm_cell(x, h, c, W, w, U, a, b):
    """Element-wise LSTM: only the output gate sees other units."""
    f = cello.sigmoid(W.f @ x + a.f + w.f * c)
    z = cello.tanh(W.z @ x + a.z + w.z * c)
    c = f * c + (1 - f) * z
    return cello.sigmoid(W.o @ x + a.o + U @ c + b) * c, c


@real(
    "eLSTM",
    "torchrecurrent, elstm_cell.py; Irie et al. 2023",
    elstm_cell,
    stacked="""
    Wx: W.f W.z W.o
    w: w.f w.z
    U
    bx: a.f a.z a.o
    bh: b
    """,
)
def elstm(x, s, p):
    _, c = s
    f, z, o = linear(x, p.Wx, p.bx).chunk(3, 1)
    to_f, to_z = p.w.chunk(2)
    f = sigmoid(f + to_f * c)
    c = f * c + (1.0 - f) * tanh(z + to_z * c)
    return sigmoid(o + linear(c, p.U, p.bh)) * c, c


@cell
def trnn_cell(x, h, W, b):
    """Strongly typed RNN: no matrix acts on the state."""
    f = cello.sigmoid(W.f @ x + b.f)
    return f * h + (1 - f) * (W.z @ x + b.z)


@real(
    "T-RNN",
    "torchrecurrent, trnn_cell.py; Balduzzi & Ghifary 2016",
    trnn_cell,
    stacked="""
    W: W.z W.f
    b: b.z b.f
    """,
    before=lambda x, p: linear(x, p.W, p.b),
)
def trnn(x, s, p):
    content, gate = x.chunk(2, 1)
    f = sigmoid(gate)
    return (f * s[0] + (1.0 - f) * content,)
