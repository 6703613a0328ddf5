# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
"""The zoo's eight LSTM variants of the search space odyssey, each with one change.

The vanilla LSTM of that paper has diagonal peepholes: it is lstm-peephole of the zoo.
"""

from __future__ import annotations

from cello.cells.definition import cell
from cello.cells.functions import sigmoid, tanh
from cello.cells.zoo.papers import (
    GREFF_2017,
)


@cell(paper=GREFF_2017)
def nig(x, h, c, W, U, p, b):
    """NIG, no input gate: i = 1."""
    f = sigmoid(W.f @ x + U.f @ h + p.f * c + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    c = f * c + g
    o = sigmoid(W.o @ x + U.o @ h + p.o * c + b.o)
    h = o * tanh(c)
    return h, c


@cell(paper=GREFF_2017)
def nfg(x, h, c, W, U, p, b):
    """NFG, no forget gate: f = 1."""
    i = sigmoid(W.i @ x + U.i @ h + p.i * c + b.i)
    g = tanh(W.g @ x + U.g @ h + b.g)
    c = c + i * g
    o = sigmoid(W.o @ x + U.o @ h + p.o * c + b.o)
    h = o * tanh(c)
    return h, c


@cell(paper=GREFF_2017)
def nog(x, h, c, W, U, p, b):
    """NOG, no output gate: o = 1."""
    i = sigmoid(W.i @ x + U.i @ h + p.i * c + b.i)
    f = sigmoid(W.f @ x + U.f @ h + p.f * c + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    c = f * c + i * g
    h = tanh(c)
    return h, c


@cell(paper=GREFF_2017)
def niaf(x, h, c, W, U, p, b):
    """NIAF, no input activation function: g is linear."""
    i = sigmoid(W.i @ x + U.i @ h + p.i * c + b.i)
    f = sigmoid(W.f @ x + U.f @ h + p.f * c + b.f)
    g = W.g @ x + U.g @ h + b.g
    c = f * c + i * g
    o = sigmoid(W.o @ x + U.o @ h + p.o * c + b.o)
    h = o * tanh(c)
    return h, c


@cell(paper=GREFF_2017)
def noaf(x, h, c, W, U, p, b):
    """NOAF, no output activation function: h = o * c."""
    i = sigmoid(W.i @ x + U.i @ h + p.i * c + b.i)
    f = sigmoid(W.f @ x + U.f @ h + p.f * c + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    c = f * c + i * g
    o = sigmoid(W.o @ x + U.o @ h + p.o * c + b.o)
    h = o * c
    return h, c


@cell(paper=GREFF_2017)
def cifg(x, h, c, W, U, p, b):
    """CIFG, coupled input and forget gate: f = 1 - i."""
    i = sigmoid(W.i @ x + U.i @ h + p.i * c + b.i)
    g = tanh(W.g @ x + U.g @ h + b.g)
    c = (1 - i) * c + i * g
    o = sigmoid(W.o @ x + U.o @ h + p.o * c + b.o)
    h = o * tanh(c)
    return h, c


@cell(paper=GREFF_2017)
def np(x, h, c, W, U, b):
    """NP, no peepholes: the same equations as lstm."""
    i = sigmoid(W.i @ x + U.i @ h + b.i)
    f = sigmoid(W.f @ x + U.f @ h + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    o = sigmoid(W.o @ x + U.o @ h + b.o)
    c = f * c + i * g
    h = o * tanh(c)
    return h, c


@cell(paper=GREFF_2017)
def fgr(x, h, c, i, f, o, W, U, p, R, b):  # noqa: PLR0913, PLR0917 (five states, five groups)
    """FGR, full gate recurrence: every gate sees all three gates of the step before.

    The gates are states; R.i_f leads from i to f.
    """
    i_new = sigmoid(W.i @ x + U.i @ h + p.i * c + R.i_i @ i + R.f_i @ f + R.o_i @ o + b.i)
    f_new = sigmoid(W.f @ x + U.f @ h + p.f * c + R.i_f @ i + R.f_f @ f + R.o_f @ o + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    c = f_new * c + i_new * g
    o_new = sigmoid(W.o @ x + U.o @ h + p.o * c + R.i_o @ i + R.f_o @ f + R.o_o @ o + b.o)
    h = o_new * tanh(c)
    return h, c, i_new, f_new, o_new
