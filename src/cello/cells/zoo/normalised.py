# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, disable-error-code="valid-type"
"""The zoo's networks with functions over units: means by a matrix J of 1 / H, cumulative sums by a triangular one."""

from __future__ import annotations

from cello.cells.definition import cell
from cello.cells.functions import exp, sigmoid, sqrt, tanh, where
from cello.cells.signature import Fixed, Learned
from cello.cells.zoo.papers import BA_2016, SHEN_2019


def spread(mean, square):
    """The standard deviation of values with this mean and this mean square."""
    return sqrt(square - mean * mean + 1e-5)


@cell(paper=BA_2016)
def lstm_layer_norm(x, h, c, W, U, s: Learned(1.0), b: Learned(0.0), J: Fixed(lambda H: 1 / H)):
    """LSTM with layer normalisation of W x and of U h over all four gates together, and of the memory."""
    wi, wf, wg, wo = W.i @ x, W.f @ x, W.g @ x, W.o @ x
    ui, uf, ug, uo = U.i @ h, U.f @ h, U.g @ h, U.o @ h
    mw = J @ (0.25 * (wi + wf + wg + wo))
    mu = J @ (0.25 * (ui + uf + ug + uo))
    dw = spread(mw, J @ (0.25 * (wi * wi + wf * wf + wg * wg + wo * wo)))
    du = spread(mu, J @ (0.25 * (ui * ui + uf * uf + ug * ug + uo * uo)))
    i = sigmoid(s.wi * (wi - mw) / dw + s.ui * (ui - mu) / du + b.i)
    f = sigmoid(s.wf * (wf - mw) / dw + s.uf * (uf - mu) / du + b.f)
    g = tanh(s.wg * (wg - mw) / dw + s.ug * (ug - mu) / du + b.g)
    o = sigmoid(s.wo * (wo - mw) / dw + s.uo * (uo - mu) / du + b.o)
    c = f * c + i * g
    m = J @ c
    h = o * tanh(s.c * (c - m) / spread(m, J @ (c * c)) + b.c)
    return h, c


@cell(paper=BA_2016)
def gru_layer_norm(x, h, W, U, s: Learned(1.0), b: Learned(0.0), J: Fixed(lambda H: 1 / H)):
    """GRU with layer normalisation of W x and of U h, each over both gates together and over the content alone."""
    wr, wz, wn = W.r @ x, W.z @ x, W.n @ x
    ur, uz, un = U.r @ h, U.z @ h, U.n @ h
    mw, mu = J @ (0.5 * (wr + wz)), J @ (0.5 * (ur + uz))
    dw = spread(mw, J @ (0.5 * (wr * wr + wz * wz)))
    du = spread(mu, J @ (0.5 * (ur * ur + uz * uz)))
    r = sigmoid(s.wr * (wr - mw) / dw + s.ur * (ur - mu) / du + b.r)
    z = sigmoid(s.wz * (wz - mw) / dw + s.uz * (uz - mu) / du + b.z)
    mw, mu = J @ wn, J @ un
    a = s.wn * (wn - mw) / spread(mw, J @ (wn * wn)) + b.n
    n = tanh(a + r * (s.un * (un - mu) / spread(mu, J @ (un * un)) + b.u))
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
