# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, disable-error-code="valid-type"
"""The zoo's networks whose values have several sizes: projections, low rank, values as wide as the frame, blocks."""

from __future__ import annotations

from cello.cells.annotations import Heads, Size
from cello.cells.definition import cell
from cello.cells.functions import exp, maximum, sigmoid, stop, tanh
from cello.cells.signature import Learned, Members, Scalar
from cello.cells.zoo.papers import BRADBURY_2017, CHENG_2016, GAO_2018, HA_2017, KUSUPATI_2018, MELIS_2020, SAK_2014


@cell(paper=SAK_2014)
def lstm_projected(x, h: Size("H/2"), c, W, U, p, b, R):
    """LSTM with peepholes and a recurrent projection: the output has H / 2 elements."""
    i = sigmoid(W.i @ x + U.i @ h + p.i * c + b.i)
    f = sigmoid(W.f @ x + U.f @ h + p.f * c + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    c = f * c + i * g
    o = sigmoid(W.o @ x + U.o @ h + p.o * c + b.o)
    h = R @ (o * tanh(c))
    return h, c


@cell(paper=KUSUPATI_2018)
def fastgrnn_low_rank(x, h, W: Members(down=Size(16)), U: Members(down=Size(16)), b, zeta: Scalar, nu: Scalar):
    """FastGRNN with matrices of rank 16."""
    s = W.up @ (W.down @ x) + U.up @ (U.down @ h)
    z = sigmoid(s + b.z)
    n = tanh(s + b.n)
    return (sigmoid(zeta) * (1 - z) + sigmoid(nu)) * n + z * h


@cell(paper=MELIS_2020)
def mogrifier_lstm(x, h, c, W, U, b, Q, R):
    """LSTM whose frame and old output gate each other first, in five rounds."""
    x = 2 * sigmoid(Q.a @ h) * x
    h = 2 * sigmoid(R.a @ x) * h
    x = 2 * sigmoid(Q.b @ h) * x
    h = 2 * sigmoid(R.b @ x) * h
    x = 2 * sigmoid(Q.c @ h) * x
    i = sigmoid(W.i @ x + U.i @ h + b.i)
    f = sigmoid(W.f @ x + U.f @ h + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    o = sigmoid(W.o @ x + U.o @ h + b.o)
    c = f * c + i * g
    h = o * tanh(c)
    return h, c


@cell(paper=GAO_2018)
def gru_heads(x, h, W, U: Heads(4), b):
    """GRU of four groups of units that see each other only through the frames: recurrent matrices of four blocks."""
    r = sigmoid(W.r @ x + U.r @ h + b.r)
    z = sigmoid(W.z @ x + U.z @ h + b.z)
    n = tanh(W.n @ x + b.n + r * (U.n @ h + b.u))
    return (1 - z) * n + z * h


@cell(paper=BRADBURY_2017)
def qrnn_3(x, h, c, x1: Size("D"), x2: Size("D"), W, V, U, b):  # noqa: PLR0913, PLR0917 (old frames are states)
    """Quasi-recurrent network with fo-pooling, whose causal convolution in time sees three frames."""
    z = tanh(W.z @ x + V.z @ x1 + U.z @ x2 + b.z)
    f = sigmoid(W.f @ x + V.f @ x1 + U.f @ x2 + b.f)
    o = sigmoid(W.o @ x + V.o @ x1 + U.o @ x2 + b.o)
    c = f * c + (1 - f) * z
    h = o * c
    return h, c, x, x1


@cell(paper=CHENG_2016)
def rnn_window_attention(x, h, h1, h2, W, U, b):
    """RNN that attends to its last three outputs by scaled products with a query; LSTMN attends to all of them."""
    q = W.q @ x
    scores = [(q * old).mean() for old in (h, h1, h2)]
    most = stop(maximum(maximum(scores[0], scores[1]), scores[2]))
    e, e1, e2 = (exp(score - most) for score in scores)
    context = (e * h + e1 * h1 + e2 * h2) / (e + e1 + e2)
    return tanh(W.h @ x + U @ context + b), h, h1


@cell(paper=HA_2017)
def hyper_lstm(  # noqa: PLR0913, PLR0917 (the parameters of two LSTMs)
    x,
    h,
    c,
    s: Size("H/4"),
    m: Size("H/4"),
    A: Size("H/4"),
    B,
    C,
    a,
    Z: Size(8),
    P,
    d: Learned(1.0),
    W,
    U,
    b,
):
    """HyperLSTM without layer normalisation: an LSTM of H / 4 units, (s, m), scales the gates of a larger one.

    It sees the frame and both outputs; its own reaches the gates through a vector of 8 elements.
    """
    i = sigmoid(A.i @ x + B.i @ h + C.i @ s + a.i)
    f = sigmoid(A.f @ x + B.f @ h + C.f @ s + a.f)
    g = tanh(A.g @ x + B.g @ h + C.g @ s + a.g)
    o = sigmoid(A.o @ x + B.o @ h + C.o @ s + a.o)
    m = f * m + i * g
    s = o * tanh(m)
    z = Z @ s

    def gate(k):
        to_x, to_h, to_b = (getattr(P, to + k) @ z for to in "xhb")
        to_x, to_h = to_x + getattr(d, f"x{k}"), to_h + getattr(d, f"h{k}")
        return to_x * (getattr(W, k) @ x) + to_h * (getattr(U, k) @ h) + to_b + getattr(b, k)

    i, f, o = sigmoid(gate("i")), sigmoid(gate("f")), sigmoid(gate("o"))
    c = f * c + i * tanh(gate("g"))
    h = o * tanh(c)
    return h, c, s, m
