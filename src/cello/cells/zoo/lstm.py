# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
"""The zoo's LSTMs: the standard one, the five variants of the gates study, and relatives.

``h`` is the output, ``c`` the memory cell; i, f, o are the input, forget and output gates, g the new content.
"""

from __future__ import annotations

from cello.cells.definition import cell
from cello.cells.functions import exp, maximum, minimum, sigmoid, softplus, tanh, where
from cello.cells.zoo.papers import (
    BECK_2024,
    BRADBURY_2017,
    FENG_2024,
    GERS_2000,
    GERS_2000_PEEPHOLES,
    GREFF_2017,
    HOCHREITER_1997,
    KRAUSE_2016,
    LEE_2017,
    LEI_2018,
)


@cell(paper=GERS_2000)
def lstm(x, h, c, W, U, b):
    """Long short-term memory with a forget gate, without peepholes; as in PyTorch, with one bias a gate."""
    i = sigmoid(W.i @ x + U.i @ h + b.i)
    f = sigmoid(W.f @ x + U.f @ h + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    o = sigmoid(W.o @ x + U.o @ h + b.o)
    c = f * c + i * g
    h = o * tanh(c)
    return h, c


@cell(paper=GERS_2000_PEEPHOLES)
def lstm_peephole(x, h, c, W, U, p, b):
    """LSTM with diagonal peepholes: each gate sees its own unit's memory, the output gate the new one."""
    i = sigmoid(W.i @ x + U.i @ h + p.i * c + b.i)
    f = sigmoid(W.f @ x + U.f @ h + p.f * c + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    c = f * c + i * g
    o = sigmoid(W.o @ x + U.o @ h + p.o * c + b.o)
    h = o * tanh(c)
    return h, c


@cell(paper=GERS_2000_PEEPHOLES)
def lstm_peephole_full(x, h, c, W, U, V, b):
    """LSTM with full peephole matrices: each gate sees every unit's memory, the output gate the new one.

    The gates study's peephole variant; the published one is diagonal (lstm-peephole).
    """
    i = sigmoid(W.i @ x + U.i @ h + V.i @ c + b.i)
    f = sigmoid(W.f @ x + U.f @ h + V.f @ c + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    c = f * c + i * g
    o = sigmoid(W.o @ x + U.o @ h + V.o @ c + b.o)
    h = o * tanh(c)
    return h, c


@cell(paper=GREFF_2017)
def lstm_coupled(x, h, c, W, U, b):
    """LSTM whose forget gate is 1 - i, without peepholes; with them it is cifg."""
    i = sigmoid(W.i @ x + U.i @ h + b.i)
    g = tanh(W.g @ x + U.g @ h + b.g)
    o = sigmoid(W.o @ x + U.o @ h + b.o)
    c = (1 - i) * c + i * g
    h = o * tanh(c)
    return h, c


@cell(paper=HOCHREITER_1997)
def lstm_no_forget(x, h, c, W, U, b):
    """LSTM without a forget gate, f = 1, without peepholes: the original of 1997 with full gradients."""
    i = sigmoid(W.i @ x + U.i @ h + b.i)
    g = tanh(W.g @ x + U.g @ h + b.g)
    o = sigmoid(W.o @ x + U.o @ h + b.o)
    c = c + i * g
    h = o * tanh(c)
    return h, c


@cell(paper=GREFF_2017)
def lstm_no_input(x, h, c, W, U, b):
    """LSTM without an input gate, i = 1, without peepholes; with them it is nig."""
    f = sigmoid(W.f @ x + U.f @ h + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    o = sigmoid(W.o @ x + U.o @ h + b.o)
    c = f * c + g
    h = o * tanh(c)
    return h, c


@cell(paper=GREFF_2017)
def lstm_no_output(x, h, c, W, U, b):
    """LSTM without an output gate, o = 1, without peepholes; with them it is nog."""
    i = sigmoid(W.i @ x + U.i @ h + b.i)
    f = sigmoid(W.f @ x + U.f @ h + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    c = f * c + i * g
    h = tanh(c)
    return h, c


@cell(paper=KRAUSE_2016)
def mlstm(x, h, c, W, U, V, b):
    """Multiplicative LSTM: the gates see m, a product of frame and state, in place of the state.

    Memory and output are those of lstm.
    """
    m = (W.m @ x) * (U.m @ h)
    i = sigmoid(W.i @ x + V.i @ m + b.i)
    f = sigmoid(W.f @ x + V.f @ m + b.f)
    g = tanh(W.g @ x + V.g @ m + b.g)
    o = sigmoid(W.o @ x + V.o @ m + b.o)
    c = f * c + i * g
    h = o * tanh(c)
    return h, c


@cell(paper=BECK_2024)
def slstm(x, h, c, n, m, W, U, b):
    """sLSTM: exponential input gate, normaliser n, and m to keep the exponentials in range; one head, f sigmoid.

    At the first step, where n is 0, m begins with i, as in the authors' code, so that i may be of any size; later n is
    at least 1.
    """
    i = W.i @ x + U.i @ h + b.i
    f = where(n > 0, m - softplus(-(W.f @ x + U.f @ h + b.f)), i)
    g = tanh(W.g @ x + U.g @ h + b.g)
    o = sigmoid(W.o @ x + U.o @ h + b.o)
    m = maximum(f, i)
    c = exp(f - m) * c + exp(i - m) * g
    n = exp(f - m) * n + exp(i - m)
    h = o * c / n
    return h, c, n, m


@cell(paper=LEE_2017)
def ran(x, h, c, W, U, b):
    """Recurrent additive network: the new content is linear in the frame."""
    i = sigmoid(W.i @ x + U.i @ h + b.i)
    f = sigmoid(W.f @ x + U.f @ h + b.f)
    c = f * c + i * (W.g @ x)
    h = tanh(c)
    return h, c


@cell(paper=BRADBURY_2017)
def qrnn(x, h, c, W, b):
    """Quasi-recurrent network, fo-pooling, filters one frame wide; h is output only."""
    g = tanh(W.g @ x + b.g)
    f = sigmoid(W.f @ x + b.f)
    o = sigmoid(W.o @ x + b.o)
    c = f * c + (1 - f) * g
    h = o * c
    return h, c


@cell(paper=LEI_2018)
def sru(x, h, c, W, v, b):
    """Simple recurrent unit; the skip connection goes through W.s, as where D and H differ; h is output only."""
    f = sigmoid(W.f @ x + v.f * c + b.f)
    r = sigmoid(W.r @ x + v.r * c + b.r)
    c = f * c + (1 - f) * (W.g @ x)
    h = r * c + (1 - r) * (W.s @ x)
    return h, c


@cell(paper=FENG_2024)
def minlstm(x, h, W, b):
    """Minimal LSTM: gates of the frame alone, normalised to sum to one.

    i and f are sigmoid(i) and sigmoid(f) times the same factor, with m so that they can be divided if both are closed.
    """
    i = W.i @ x + b.i
    f = W.f @ x + b.f
    m = minimum(minimum(i, f), 0)
    i, f = exp(m) + exp(m - f), exp(m) + exp(m - i)
    return (f * h + i * (W.g @ x + b.g)) / (f + i)
