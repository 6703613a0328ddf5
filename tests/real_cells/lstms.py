# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, disable-error-code="valid-type"
"""LSTMs, their variants and relatives with a memory cell."""

from __future__ import annotations

import torch
from torch import cat, relu, sigmoid, tanh
from torch.nn.functional import layer_norm, linear

import cello
from cello import cell
from cello.cells.load import zoo
from real_cells.real import real

RECURRENT = "torchrecurrent, {}_cell.py; {}"
ZOO = zoo()
IFGO = """
    Wx: W.i W.f W.g W.o
    Wh: U.i U.f U.g U.o
    b: b.i b.f b.g b.o
"""


def lstm(gates, c):
    """Memory and output from the four gates side by side."""
    i, f, g, o = gates.chunk(4, 1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


@cell
def nas_cell(x, h, c, W, U, a, b):
    """The cell that neural architecture search found for language models."""
    k0, k1 = W.k0 @ x + a.k0 + U.k0 @ h + b.k0, W.k1 @ x + a.k1 + U.k1 @ h + b.k1
    k2, k3 = W.k2 @ x + a.k2 + U.k2 @ h + b.k2, W.k3 @ x + a.k3 + U.k3 @ h + b.k3
    k4, k5 = W.k4 @ x + a.k4 + U.k4 @ h + b.k4, W.k5 @ x + a.k5 + U.k5 @ h + b.k5
    k6, k7 = W.k6 @ x + a.k6 + U.k6 @ h + b.k6, W.k7 @ x + a.k7 + U.k7 @ h + b.k7
    inner = cello.tanh(cello.tanh(cello.sigmoid(k0) * cello.relu(k1)) + c)
    c = inner * cello.tanh(cello.sigmoid(k2) + cello.relu(k3))
    out = cello.tanh(cello.tanh(cello.tanh(k4) * cello.sigmoid(k5)) + cello.sigmoid(cello.tanh(k6) + cello.sigmoid(k7)))
    return cello.tanh(c * out), c


def eight(name):
    return " ".join(f"{name}.k{k}" for k in range(8))


@real(
    "NAS cell",
    RECURRENT.format("nas", "Zoph & Le 2017"),
    nas_cell,
    stacked=f"Wx: {eight('W')}\nWh: {eight('U')}\nbx: {eight('a')}\nbh: {eight('b')}",
)
def nas(x, s, p):
    _, c = s
    k = (linear(x, p.Wx, p.bx) + linear(s[0], p.Wh, p.bh)).chunk(8, 1)
    first, second = tanh(sigmoid(k[0]) * relu(k[1])), tanh(sigmoid(k[2]) + relu(k[3]))
    third, fourth = tanh(tanh(k[4]) * sigmoid(k[5])), sigmoid(tanh(k[6]) + sigmoid(k[7]))
    c = tanh(first + c) * second
    return tanh(c * tanh(third + fourth)), c


@cell
def wmc_lstm_cell(x, h, c, W, U, V, a, b, d):  # noqa: PLR0913, PLR0917
    """LSTM with working-memory connections: gates see tanh of a product of the memory."""
    i = cello.sigmoid(W.i @ x + a.i + U.i @ h + b.i + cello.tanh(V.i @ c + d.i))
    f = cello.sigmoid(W.f @ x + a.f + U.f @ h + b.f + cello.tanh(V.f @ c + d.f))
    c = f * c + i * cello.tanh(W.g @ x + a.g + U.g @ h + b.g)
    o = cello.sigmoid(W.o @ x + a.o + U.o @ h + b.o + cello.tanh(V.o @ c + d.o))
    return o * cello.tanh(c), c


@real(
    "WMC-LSTM",
    RECURRENT.format("wmclstm", "Landi et al. 2021"),
    wmc_lstm_cell,
    stacked="""
    Wx: W.i W.f W.g W.o
    Wh: U.i U.f U.g U.o
    Wm: V.i V.f V.o
    bx: a.i a.f a.g a.o
    bh: b.i b.f b.g b.o
    bm: d.i d.f d.o
    """,
)
def wmc_lstm(x, s, p):
    h, c = s
    H = c.shape[1]
    i, f, g, o = (linear(x, p.Wx, p.bx) + linear(h, p.Wh, p.bh)).chunk(4, 1)
    to_i, to_f = tanh(linear(c, p.Wm[: 2 * H], p.bm[: 2 * H])).chunk(2, 1)
    c = sigmoid(f + to_f) * c + sigmoid(i + to_i) * tanh(g)
    o = sigmoid(o + tanh(linear(c, p.Wm[2 * H :], p.bm[2 * H :])))
    return o * tanh(c), c


@cell
def mc_lstm_cell(x, h, v, c, W, U, a, b):
    """Memory-controller LSTM: gates see v, gated from the memory as the output is."""
    f = cello.sigmoid(W.f @ x + a.f + U.f @ v + b.f)
    i = cello.sigmoid(W.i @ x + a.i + U.i @ v + b.i)
    o = cello.sigmoid(W.o @ x + a.o + U.o @ v + b.o)
    m = cello.sigmoid(W.m @ x + a.m + U.m @ v + b.m)
    c = f * c + i * cello.tanh(W.n @ x + a.n + U.n @ v + b.n)
    return o * cello.tanh(c), m * cello.tanh(c), c


@real(
    "MC-LSTM",
    RECURRENT.format("mclstm", "NIPS workshop 2017"),
    mc_lstm_cell,
    stacked="""
    Wx: W.f W.i W.o W.m W.n
    Wh: U.f U.i U.o U.m U.n
    bx: a.f a.i a.o a.m a.n
    bh: b.f b.i b.o b.m b.n
    """,
)
def mc_lstm(x, s, p):
    _, v, c = s
    f, i, o, m, n = (linear(x, p.Wx, p.bx) + linear(v, p.Wh, p.bh)).chunk(5, 1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(n)
    squashed = tanh(c)
    return sigmoid(o) * squashed, sigmoid(m) * squashed, c


@cell
def residual_lstm_cell(x, h, c, W, U, p, V, a, b):  # noqa: PLR0913, PLR0917
    """Residual LSTM: the frame is added to a projection of the memory, below the output gate."""
    i = cello.sigmoid(W.i @ x + a.i + U.i @ h + b.i + p.i * c)
    f = cello.sigmoid(W.f @ x + a.f + U.f @ h + b.f + p.f * c)
    c = f * c + i * cello.tanh(W.g @ x + a.g + U.g @ h + b.g)
    o = cello.sigmoid(W.o @ x + a.o + U.o @ h + b.o + p.o * c)
    return o * (V @ cello.tanh(c) + W.r @ x), c


@real(
    "residual LSTM",
    RECURRENT.format("reslstm", "Kim et al. 2017"),
    residual_lstm_cell,
    stacked="""
    Wx: W.i W.f W.g W.o
    Wh: U.i U.f U.g U.o
    peep: p.i p.f p.o
    Wp: V
    Wr: W.r
    bx: a.i a.f a.g a.o
    bh: b.i b.f b.g b.o
    """,
)
def residual_lstm(x, s, p):
    h, c = s
    i, f, g, o = (linear(x, p.Wx, p.bx) + linear(h, p.Wh, p.bh)).chunk(4, 1)
    to_i, to_f, to_o = p.peep.chunk(3)
    c = sigmoid(f + to_f * c) * c + sigmoid(i + to_i * c) * tanh(g)
    return sigmoid(o + to_o * c) * (linear(tanh(c), p.Wp) + linear(x, p.Wr)), c


@real("LSTM", "PyTorch, nn.LSTMCell; Gers et al. 2000", ZOO["lstm"], stacked=IFGO)
def plain_lstm(x, s, p):
    return lstm(linear(x, p.Wx, p.b) + linear(s[0], p.Wh), s[1])


@real(
    "layer-norm LSTM",
    "PyTorch, benchmarks/fastrnns/custom_lstms.py; Ba et al. 2016",
    ZOO["lstm-layer-norm"],
    stacked=IFGO
    + """
    sx: s.wi s.wf s.wg s.wo
    sh: s.ui s.uf s.ug s.uo
    sc: s.c
    bc: b.c
    """,
)
def lstm_layer_norm(x, s, p):
    h, c = s
    wide, H = (4 * c.shape[1],), (c.shape[1],)
    gates = layer_norm(linear(x, p.Wx), wide, p.sx, p.b) + layer_norm(linear(h, p.Wh), wide, p.sh)
    i, f, g, o = gates.chunk(4, 1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(layer_norm(c, H, p.sc, p.bc)), c


@real(
    "ON-LSTM, chunks of 1",
    "yikangshen/Ordered-Neurons, ON_LSTM.py; Shen et al. 2019",
    ZOO["on-lstm"],
    stacked="""
    Wx: W.p W.q W.o W.g W.i W.f
    Wh: U.p U.q U.o U.g U.i U.f
    b: b.p b.q b.o b.g b.i b.f
    """,
)
def on_lstm(x, s, p):
    h, c = s
    keep, give, o, g, i, f = (linear(x, p.Wx, p.b) + linear(h, p.Wh)).chunk(6, 1)
    forget, given = keep.softmax(1).cumsum(1), 1 - give.softmax(1).cumsum(1)
    overlap = forget * given
    f = sigmoid(f) * overlap + (forget - overlap)
    i = sigmoid(i) * overlap + (given - overlap)
    c = f * c + i * tanh(g)
    return sigmoid(o) * tanh(c), c


@real("sLSTM, one head", "NX-AI/xlstm, slstm vanilla; Beck et al. 2024", ZOO["slstm"], stacked=IFGO)
def slstm(x, s, p):
    h, c, n, m = s
    i, f, g, o = (linear(x, p.Wx, p.b) + linear(h, p.Wh)).chunk(4, 1)
    kept = m + torch.nn.functional.logsigmoid(f)
    new_m = torch.where(n == 0, i, torch.maximum(i, kept))
    i, f = torch.exp(i - new_m), torch.where(n == 0, 0.0, torch.exp(kept - new_m))
    c, n = f * c + i * tanh(g), f * n + i
    return sigmoid(o) * c / n, c, n, new_m


@real(
    "multiplicative LSTM",
    RECURRENT.format("multiplicativelstm", "Krause et al. 2016"),
    ZOO["mlstm"],
    stacked="""
    Wm: W.m
    Um: U.m
    Wx: W.i W.f W.g W.o
    Wh: V.i V.f V.g V.o
    b: b.i b.f b.g b.o
    """,
)
def multiplicative_lstm(x, s, p):
    h, c = s
    return lstm(linear(x, p.Wx, p.b) + linear(linear(x, p.Wm) * linear(h, p.Um), p.Wh), c)


@real(
    "SRU",
    "asappresearch/sru, elementwise recurrence; Lei et al. 2018",
    ZOO["sru"],
    stacked="""
    W: W.g W.f W.r W.s
    vf: v.f
    vr: v.r
    bf: b.f
    br: b.r
    """,
    before=lambda x, p: linear(x, p.W),
)
def sru(x, s, p):
    _, c = s
    content, f, r, skip = x.chunk(4, 1)
    f, r = sigmoid(f + p.vf * c + p.bf), sigmoid(r + p.vr * c + p.br)
    c = content + (c - content) * f
    return skip + (c - skip) * r, c


def log_gates(x, p):
    i, f, content = linear(x, p.W, p.b).chunk(3, -1)
    difference = torch.nn.functional.softplus(-f) - torch.nn.functional.softplus(-i)
    return cat([torch.exp(-torch.nn.functional.softplus(difference)), content], -1)


@real(
    "minLSTM",
    "Feng et al. 2024, appendix B.2, with normalised gates",
    ZOO["minlstm"],
    stacked="""
    W: W.i W.f W.g
    b: b.i b.f b.g
    """,
    before=log_gates,
)
def minlstm(x, s, p):
    f, content = x.chunk(2, 1)
    return (f * s[0] + (1 - f) * content,)


@cell
def qrnn_cell(x, h, c, g, f, o, W, V, b):  # noqa: PLR0913, PLR0917
    """Quasi-recurrent network, fo-pooling over windows of two frames: what the frame before gives is carried over."""
    new = cello.tanh(W.g @ x + g + b.g)
    keep = cello.sigmoid(W.f @ x + f + b.f)
    give = cello.sigmoid(W.o @ x + o + b.o)
    c = keep * c + (1 - keep) * new
    return give * c, c, V.g @ x, V.f @ x, V.o @ x


def windows_of_two(x, p):
    before = cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)
    g, f, o = linear(cat([x, before], 2), p.W, p.b).chunk(3, -1)
    of_before = linear(x, p.W[:, x.shape[2] :])
    return cat([tanh(g), sigmoid(f), sigmoid(o), of_before], -1)


@real(
    "QRNN, window 2",
    "salesforce/pytorch-qrnn, torchqrnn/qrnn.py; Bradbury et al. 2017",
    qrnn_cell,
    stacked="""
    W: W.g W.f W.o | V.g V.f V.o
    b: b.g b.f b.o
    """,
    before=windows_of_two,
)
def qrnn(x, s, p):
    g, f, o, *carried = x.chunk(6, 1)
    c = f * s[1] + (1 - f) * g
    return o * c, c, *carried


@real(
    "nested LSTM",
    "hannw/nlstm; Moniz & Krueger 2017",
    ZOO["nested-lstm"],
    stacked=IFGO
    + """
    Wn: V.i V.f V.g V.o | V.ih V.fh V.gh V.oh
    bn: b.ji b.jf b.jg b.jo
    """,
)
def nested_lstm(x, s, p):
    h, c, m = s
    i, f, g, o = (linear(x, p.Wx, p.b) + linear(h, p.Wh)).chunk(4, 1)
    c, m = lstm(linear(cat([sigmoid(i) * tanh(g), sigmoid(f) * c], 1), p.Wn, p.bn), m)
    return sigmoid(o) * tanh(c), c, m


@real(
    "phased LSTM, regular frames",
    "philipperemy/tensorflow-phased-lstm; Neil et al. 2016",
    ZOO["phased-lstm"],
    stacked=IFGO + "    tau s r",
)
def phased_lstm(x, s, p):
    h, c, t = s
    phase = torch.remainder(t / p.tau - p.s, 1.0)
    opening, closing = 2 * phase / p.r, 2 - 2 * phase / p.r
    k = torch.where(phase < 0.5 * p.r, opening, torch.where(phase < p.r, closing, 0.001 * phase))
    new_h, new_c = lstm(linear(x, p.Wx, p.b) + linear(h, p.Wh), c)
    return k * new_h + (1 - k) * h, k * new_c + (1 - k) * c, t + 1
