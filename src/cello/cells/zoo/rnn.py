# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
"""The zoo's networks without gates."""

from __future__ import annotations

from cello.cells.definition import cell
from cello.cells.functions import relu, sigmoid, tanh
from cello.cells.signature import Scalar
from cello.cells.zoo.papers import (
    ELMAN_1990,
    KUSUPATI_2018,
    LE_2015,
    LI_2018,
    WU_2016,
)


@cell(paper=ELMAN_1990)
def rnn(x, h, W, U, b):
    """Simple recurrent network with tanh, as in PyTorch, with one bias."""
    return tanh(W @ x + U @ h + b)


@cell(paper=LE_2015)
def rnn_relu(x, h, W, U, b):
    """Simple recurrent network with ReLU; the paper starts U at the identity."""
    return relu(W @ x + U @ h + b)


@cell(paper=LI_2018)
def indrnn(x, h, W, u, b):
    """Independently recurrent network: each unit sees its own past only; one layer, ReLU."""
    return relu(W @ x + u * h + b)


@cell(paper=WU_2016)
def mi_rnn(x, h, W, U, a, b):
    """Multiplicative integration: frame and state are multiplied, beside being added; the general form."""
    p = W @ x
    q = U @ h
    return tanh(a.pq * p * q + a.q * q + a.p * p + b)


@cell(paper=KUSUPATI_2018)
def fastrnn(x, h, W, U, b, alpha: Scalar, beta: Scalar):
    """FastRNN: a weighted residual connection with two learned scalars, each through a sigmoid."""
    n = tanh(W @ x + U @ h + b)
    return sigmoid(alpha) * n + sigmoid(beta) * h
