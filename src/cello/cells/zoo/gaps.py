# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, disable-error-code="valid-type"
"""The zoo's networks for frames with parts: values, what was missing, and the time since the last frame.

Studies of the whole zoo leave them out: they are for sound of which some is lost (``data.lost_frames``).
"""

from __future__ import annotations

import math

from cello.cells.annotations import Parts, Size
from cello.cells.definition import cell
from cello.cells.functions import exp, log, relu, sigmoid, tanh
from cello.cells.zoo.papers import BAYTAS_2017, CHE_2018, HASANI_2022


@cell(paper=CHE_2018)
def gru_d(x: Parts("value", "mask", "gap"), h, last: Size("x.value"), W, U, V, w: Size("x.value"), b):
    """GRU-D: values decay to their mean, 0, and the memory to 0, with the time since each feature was last seen."""
    gamma = exp(-relu(w * x.gap + b.x))
    value = x.mask * x.value + (1 - x.mask) * gamma * last
    last = x.mask * x.value + (1 - x.mask) * last
    h = exp(-relu(W.g @ x.gap + b.h)) * h
    r = sigmoid(W.r @ value + U.r @ h + V.r @ x.mask + b.r)
    z = sigmoid(W.z @ value + U.z @ h + V.z @ x.mask + b.z)
    n = tanh(W.n @ value + U.n @ (r * h) + V.n @ x.mask + b.n)
    h = (1 - z) * h + z * n
    return h, last


@cell(paper=BAYTAS_2017)
def t_lstm(x: Parts("value", gap=1), h, c, W, U, b):
    """Time-aware LSTM: the short-term part of the memory is discounted by 1 / log(e + gap)."""
    short = tanh(U.d @ c + b.d)
    c = c - short + short / log(math.e + x.gap)
    i = sigmoid(W.i @ x.value + U.i @ h + b.i)
    f = sigmoid(W.f @ x.value + U.f @ h + b.f)
    g = tanh(W.g @ x.value + U.g @ h + b.g)
    o = sigmoid(W.o @ x.value + U.o @ h + b.o)
    c = f * c + i * g
    h = o * tanh(c)
    return h, c


@cell(paper=HASANI_2022)
def cfc_gaps(x: Parts("value", gap=1), h, W, U, b):
    """Closed-form continuous time, without backbone: a gate of the time since the last frame blends two contents."""
    f = tanh(W.f @ x.value + U.f @ h + b.f)
    g = tanh(W.g @ x.value + U.g @ h + b.g)
    t = sigmoid((W.a @ x.value + U.a @ h + b.a) * x.gap + W.b @ x.value + U.b @ h + b.b)
    return f * (1 - t) + t * g
