# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
"""The zoo's gated units with one state, and one with two.

``h`` is the output; r and z are the reset and update gates, n the new content.
"""

from __future__ import annotations

from cello.cells.definition import cell
from cello.cells.functions import relu, sigmoid, tanh
from cello.cells.signature import Scalar
from cello.cells.zoo.papers import (
    CHEN_2017,
    CHO_2014,
    COLLINS_2017,
    FENG_2024,
    JOZEFOWICZ_2015,
    KUSUPATI_2018,
    LAURENT_2017,
    RAVANELLI_2018,
    RUSCH_2022,
    VAN_DER_WESTHUIZEN_2018,
    ZHANG_2018,
    ZHOU_2016,
)


@cell(paper=CHO_2014)
def gru(x, h, W, U, b, c):
    """Gated recurrent unit, reset gate after the recurrent product, as in cuDNN and PyTorch; two biases a gate.

    The reset is that of the paper's first version.
    """
    r = sigmoid(W.r @ x + b.r + U.r @ h + c.r)
    z = sigmoid(W.z @ x + b.z + U.z @ h + c.z)
    n = tanh(W.n @ x + b.n + r * (U.n @ h + c.n))
    return (1 - z) * n + z * h


@cell(paper=CHO_2014)
def gru_original(x, h, W, U, b):
    """Gated recurrent unit, reset gate before the recurrent product; z keeps the old state. Biases are added.

    The reset is that of the paper's third version.
    """
    r = sigmoid(W.r @ x + U.r @ h + b.r)
    z = sigmoid(W.z @ x + U.z @ h + b.z)
    n = tanh(W.n @ x + U.n @ (r * h) + b.n)
    return (1 - z) * n + z * h


@cell(paper=ZHOU_2016)
def mgu(x, h, W, U, b):
    """Minimal gated unit: one gate f both resets and updates."""
    f = sigmoid(W.f @ x + U.f @ h + b.f)
    n = tanh(W.n @ x + U.n @ (f * h) + b.n)
    return (1 - f) * h + f * n


@cell(paper=COLLINS_2017)
def ugrnn(x, h, W, U, b):
    """Update gate RNN: a plain RNN with one gate that keeps the old state."""
    n = tanh(W.n @ x + U.n @ h + b.n)
    z = sigmoid(W.z @ x + U.z @ h + b.z)
    return (1 - z) * n + z * h


@cell(paper=VAN_DER_WESTHUIZEN_2018)
def janet(x, h, W, U, b):
    """JANET: an LSTM with the forget gate alone; what comes in is shifted by beta = 1."""
    s = W.f @ x + U.f @ h + b.f
    n = tanh(W.n @ x + U.n @ h + b.n)
    return sigmoid(s) * h + (1 - sigmoid(s - 1)) * n


@cell(paper=RAVANELLI_2018)
def ligru(x, h, W, U, b):
    """Light GRU: no reset gate, ReLU; without the paper's batch normalisation, which biases replace here."""
    z = sigmoid(W.z @ x + U.z @ h + b.z)
    n = relu(W.n @ x + U.n @ h + b.n)
    return (1 - z) * n + z * h


@cell(paper=CHEN_2017)
def minimalrnn(x, h, W, U, V, b):
    """MinimalRNN: the frame is mapped once, n, and a gate u mixes it into the state."""
    n = tanh(W @ x + b.n)
    u = sigmoid(U @ h + V @ n + b.u)
    return u * h + (1 - u) * n


@cell(paper=KUSUPATI_2018)
def fastgrnn(x, h, W, U, b, zeta: Scalar, nu: Scalar):
    """FastGRNN with full-rank matrices: gate and content share them; zeta and nu pass through sigmoids."""
    s = W @ x + U @ h
    z = sigmoid(s + b.z)
    n = tanh(s + b.n)
    return (sigmoid(zeta) * (1 - z) + sigmoid(nu)) * n + z * h


@cell(paper=JOZEFOWICZ_2015)
def mut1(x, h, W, U, b):
    """MUT1, found by search; its tanh(x) is tanh(W.n x) here, for D and H that differ."""
    z = sigmoid(W.z @ x + b.z)
    r = sigmoid(W.r @ x + U.r @ h + b.r)
    n = tanh(U.n @ (r * h) + tanh(W.n @ x) + b.n)
    return n * z + h * (1 - z)


@cell(paper=JOZEFOWICZ_2015)
def mut2(x, h, W, U, b):
    """MUT2, found by search; the x of its reset gate is W.r x here, for D and H that differ."""
    z = sigmoid(W.z @ x + U.z @ h + b.z)
    r = sigmoid(W.r @ x + U.r @ h + b.r)
    n = tanh(U.n @ (r * h) + W.n @ x + b.n)
    return n * z + h * (1 - z)


@cell(paper=JOZEFOWICZ_2015)
def mut3(x, h, W, U, b):
    """MUT3, found by search: the update gate sees tanh of the state."""
    z = sigmoid(W.z @ x + U.z @ tanh(h) + b.z)
    r = sigmoid(W.r @ x + U.r @ h + b.r)
    n = tanh(U.n @ (r * h) + W.n @ x + b.n)
    return n * z + h * (1 - z)


@cell(paper=LAURENT_2017)
def cfn(x, h, W, U, b):
    """Chaos-free network: the content depends on the frame alone; f forgets, i lets in."""
    f = sigmoid(W.f @ x + U.f @ h + b.f)
    i = sigmoid(W.i @ x + U.i @ h + b.i)
    return f * tanh(h) + i * tanh(W.n @ x)


@cell(paper=ZHANG_2018)
def atr(x, h, W, U, b):
    """Addition-subtraction twin-gated unit: the sum of p and q opens one gate, their difference the other."""
    p = W @ x + b
    q = U @ h
    return sigmoid(p + q) * p + sigmoid(p - q) * h


@cell(paper=FENG_2024)
def mingru(x, h, W, b):
    """Minimal GRU: gate and content of the frame alone."""
    z = sigmoid(W.z @ x + b.z)
    return (1 - z) * h + z * (W.n @ x + b.n)


@cell(paper=RUSCH_2022)
def lem(x, y, z, W, V, b):
    """Long expressive memory: two states with learned time steps, Δt = 1; the output is y."""
    s = sigmoid(V.s @ x + W.s @ y + b.s)
    t = sigmoid(V.t @ x + W.t @ y + b.t)
    z = (1 - s) * z + s * tanh(V.z @ x + W.z @ y + b.z)
    y = (1 - t) * y + t * tanh(V.y @ x + W.y @ z + b.y)
    return y, z
