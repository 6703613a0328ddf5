# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
"""The zoo's networks without gates."""

from __future__ import annotations

from cello.cells.definition import Scalar, cell
from cello.cells.functions import relu, sigmoid, tanh


@cell
def rnn(x, h, W, U, b):
    """Simple recurrent network with tanh, as in PyTorch, with one bias.

    Reference: J. L. Elman (1990). Finding structure in time. Cognitive Science 14(2), 179-211.
    """
    return tanh(W @ x + U @ h + b)


@cell
def rnn_relu(x, h, W, U, b):
    """Simple recurrent network with ReLU; the paper starts U at the identity.

    Reference: Q. V. Le, N. Jaitly, G. E. Hinton (2015). A simple way to initialize recurrent networks of rectified
    linear units. arXiv:1504.00941.
    """
    return relu(W @ x + U @ h + b)


@cell
def indrnn(x, h, W, u, b):
    """Independently recurrent network: each unit sees its own past only; one layer, ReLU.

    Reference: S. Li, W. Li, C. Cook, C. Zhu, Y. Gao (2018). Independently recurrent neural network (IndRNN): building
    a longer and deeper RNN. CVPR 2018, arXiv:1803.04831.
    """
    return relu(W @ x + u * h + b)


@cell
def mi_rnn(x, h, W, U, a, b):
    """Multiplicative integration: frame and state are multiplied, beside being added; the general form.

    Reference: Y. Wu, S. Zhang, Y. Zhang, Y. Bengio, R. Salakhutdinov (2016). On multiplicative integration with
    recurrent neural networks. NeurIPS 2016, arXiv:1606.06630.
    """
    p = W @ x
    q = U @ h
    return tanh(a.pq * p * q + a.q * q + a.p * p + b)


@cell
def fastrnn(x, h, W, U, b, alpha: Scalar, beta: Scalar):
    """FastRNN: a weighted residual connection with two learned numbers, each through a sigmoid.

    Reference: A. Kusupati, M. Singh, K. Bhatia, A. Kumar, P. Jain, M. Varma (2018). FastGRNN: a fast, accurate, stable
    and tiny kilobyte sized gated recurrent neural network. NeurIPS 2018, arXiv:1901.02358.
    """
    n = tanh(W @ x + U @ h + b)
    return sigmoid(alpha) * n + sigmoid(beta) * h
