# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, disable-error-code="valid-type"
"""The zoo's networks with functions over units: means by a matrix J of 1 / H, cumulative sums by a triangular one."""

from __future__ import annotations

from cello.cells.definition import cell
from cello.cells.functions import exp, sigmoid, sqrt, tanh, where
from cello.cells.signature import Fixed, Learned
from cello.cells.zoo.papers import BA_2016, SHEN_2019


def normalised(J, *values):
    """Layer normalisation of vectors side by side, without scale and shift."""
    share = 1 / len(values)
    mean = J @ (share * sum(values[1:], start=values[0]))
    centred = [value - mean for value in values]
    squares = [value * value for value in centred]
    deviation = sqrt(J @ (share * sum(squares[1:], start=squares[0])) + 1e-5)
    return [value / deviation for value in centred]


@cell(paper=BA_2016)
def lstm_layer_norm(x, h, c, W, U, s: Learned(1.0), b: Learned(0.0), J: Fixed(lambda H: 1 / H)):
    """LSTM with layer normalisation of W x and of U h over all four gates together, and of the memory."""
    wi, wf, wg, wo = normalised(J, W.i @ x, W.f @ x, W.g @ x, W.o @ x)
    ui, uf, ug, uo = normalised(J, U.i @ h, U.f @ h, U.g @ h, U.o @ h)
    i = sigmoid(s.wi * wi + s.ui * ui + b.i)
    f = sigmoid(s.wf * wf + s.uf * uf + b.f)
    g = tanh(s.wg * wg + s.ug * ug + b.g)
    o = sigmoid(s.wo * wo + s.uo * uo + b.o)
    c = f * c + i * g
    (n,) = normalised(J, c)
    h = o * tanh(s.c * n + b.c)
    return h, c


@cell(paper=BA_2016)
def gru_layer_norm(x, h, W, U, s: Learned(1.0), b: Learned(0.0), J: Fixed(lambda H: 1 / H)):
    """GRU with layer normalisation of W x and of U h, each over both gates together and over the content alone."""
    wr, wz = normalised(J, W.r @ x, W.z @ x)
    ur, uz = normalised(J, U.r @ h, U.z @ h)
    (wn,) = normalised(J, W.n @ x)
    (un,) = normalised(J, U.n @ h)
    r = sigmoid(s.wr * wr + s.ur * ur + b.r)
    z = sigmoid(s.wz * wz + s.uz * uz + b.z)
    n = tanh(s.wn * wn + b.n + r * (s.un * un + b.u))
    return (1 - z) * n + z * h


@cell(paper=SHEN_2019)
def on_lstm(x, h, c, W, U, b, J: Fixed(lambda H: 1 / H), C: Fixed(lambda i, j, H: where(j > i, 0, 1 / H))):
    """Ordered-neurons LSTM, chunks of one unit: two master gates are cumulative sums of softmaxes."""
    p = W.p @ x + U.p @ h + b.p
    q = W.q @ x + U.q @ h + b.q
    p, q = exp(p - J @ p), exp(q - J @ q)
    forget, keep = (C @ p) / (J @ p), 1 - (C @ q) / (J @ q)
    both = forget * keep
    i = sigmoid(W.i @ x + U.i @ h + b.i)
    f = sigmoid(W.f @ x + U.f @ h + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    o = sigmoid(W.o @ x + U.o @ h + b.o)
    c = (f * both + (forget - both)) * c + (i * both + (keep - both)) * g
    h = o * tanh(c)
    return h, c
