# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls
"""The zoo's gated units with one state, and one with two.

``h`` is the output; r and z are the reset and update gates, n the new content.
"""

from __future__ import annotations

from cello.cells.definition import Scalar, cell
from cello.cells.functions import relu, sigmoid, tanh


@cell
def gru(x, h, W, U, b, c):
    """Gated recurrent unit, reset gate after the recurrent product, as in cuDNN and PyTorch; two biases a gate.

    Reference: K. Cho, B. van Merriënboer, C. Gulcehre, D. Bahdanau, F. Bougares, H. Schwenk, Y. Bengio (2014).
    Learning phrase representations using RNN encoder-decoder for statistical machine translation. EMNLP 2014,
    arXiv:1406.1078 (the reset of its first version).
    """
    r = sigmoid(W.r @ x + b.r + U.r @ h + c.r)
    z = sigmoid(W.z @ x + b.z + U.z @ h + c.z)
    n = tanh(W.n @ x + b.n + r * (U.n @ h + c.n))
    return (1 - z) * n + z * h


@cell
def gru_original(x, h, W, U, b):
    """Gated recurrent unit, reset gate before the recurrent product; z keeps the old state. Biases are added.

    Reference: K. Cho, B. van Merriënboer, C. Gulcehre, D. Bahdanau, F. Bougares, H. Schwenk, Y. Bengio (2014).
    Learning phrase representations using RNN encoder-decoder for statistical machine translation. EMNLP 2014,
    arXiv:1406.1078v3.
    """
    r = sigmoid(W.r @ x + U.r @ h + b.r)
    z = sigmoid(W.z @ x + U.z @ h + b.z)
    n = tanh(W.n @ x + U.n @ (r * h) + b.n)
    return (1 - z) * n + z * h


@cell
def mgu(x, h, W, U, b):
    """Minimal gated unit: one gate f both resets and updates.

    Reference: G.-B. Zhou, J. Wu, C.-L. Zhang, Z.-H. Zhou (2016). Minimal gated unit for recurrent neural networks.
    International Journal of Automation and Computing 13(3), 226-234, arXiv:1603.09420.
    """
    f = sigmoid(W.f @ x + U.f @ h + b.f)
    n = tanh(W.n @ x + U.n @ (f * h) + b.n)
    return (1 - f) * h + f * n


@cell
def ugrnn(x, h, W, U, b):
    """Update gate RNN: a plain RNN with one gate that keeps the old state.

    Reference: J. Collins, J. Sohl-Dickstein, D. Sussillo (2017). Capacity and trainability in recurrent neural
    networks. ICLR 2017, arXiv:1611.09913.
    """
    n = tanh(W.n @ x + U.n @ h + b.n)
    z = sigmoid(W.z @ x + U.z @ h + b.z)
    return (1 - z) * n + z * h


@cell
def janet(x, h, W, U, b):
    """JANET: an LSTM with the forget gate alone; what comes in is shifted by beta = 1.

    Reference: J. van der Westhuizen, J. Lasenby (2018). The unreasonable effectiveness of the forget gate.
    arXiv:1804.04849.
    """
    s = W.f @ x + U.f @ h + b.f
    n = tanh(W.n @ x + U.n @ h + b.n)
    return sigmoid(s) * h + (1 - sigmoid(s - 1)) * n


@cell
def ligru(x, h, W, U, b):
    """Light GRU: no reset gate, ReLU; without the paper's batch normalisation, which biases replace here.

    Reference: M. Ravanelli, P. Brakel, M. Omologo, Y. Bengio (2018). Light gated recurrent units for speech
    recognition. IEEE Transactions on Emerging Topics in Computational Intelligence 2(2), 92-102, arXiv:1803.10225.
    """
    z = sigmoid(W.z @ x + U.z @ h + b.z)
    n = relu(W.n @ x + U.n @ h + b.n)
    return (1 - z) * n + z * h


@cell
def minimalrnn(x, h, W, U, V, b):
    """MinimalRNN: the frame is mapped once, n, and a gate u mixes it into the state.

    Reference: M. Chen (2017). MinimalRNN: toward more interpretable and trainable recurrent neural networks.
    arXiv:1711.06788.
    """
    n = tanh(W @ x + b.n)
    u = sigmoid(U @ h + V @ n + b.u)
    return u * h + (1 - u) * n


@cell
def fastgrnn(x, h, W, U, b, zeta: Scalar, nu: Scalar):
    """FastGRNN with full-rank matrices: gate and content share them; zeta and nu pass through sigmoids.

    Reference: A. Kusupati, M. Singh, K. Bhatia, A. Kumar, P. Jain, M. Varma (2018). FastGRNN: a fast, accurate, stable
    and tiny kilobyte sized gated recurrent neural network. NeurIPS 2018, arXiv:1901.02358.
    """
    s = W @ x + U @ h
    z = sigmoid(s + b.z)
    n = tanh(s + b.n)
    return (sigmoid(zeta) * (1 - z) + sigmoid(nu)) * n + z * h


@cell
def mut1(x, h, W, U, b):
    """MUT1, found by search; its tanh(x) is tanh(W.n x) here, for D and H that differ.

    Reference: R. Jozefowicz, W. Zaremba, I. Sutskever (2015). An empirical exploration of recurrent network
    architectures. ICML 2015, 2342-2350.
    """
    z = sigmoid(W.z @ x + b.z)
    r = sigmoid(W.r @ x + U.r @ h + b.r)
    n = tanh(U.n @ (r * h) + tanh(W.n @ x) + b.n)
    return n * z + h * (1 - z)


@cell
def mut2(x, h, W, U, b):
    """MUT2, found by search; the x of its reset gate is W.r x here, for D and H that differ.

    Reference: R. Jozefowicz, W. Zaremba, I. Sutskever (2015). An empirical exploration of recurrent network
    architectures. ICML 2015, 2342-2350.
    """
    z = sigmoid(W.z @ x + U.z @ h + b.z)
    r = sigmoid(W.r @ x + U.r @ h + b.r)
    n = tanh(U.n @ (r * h) + W.n @ x + b.n)
    return n * z + h * (1 - z)


@cell
def mut3(x, h, W, U, b):
    """MUT3, found by search: the update gate sees tanh of the state.

    Reference: R. Jozefowicz, W. Zaremba, I. Sutskever (2015). An empirical exploration of recurrent network
    architectures. ICML 2015, 2342-2350.
    """
    z = sigmoid(W.z @ x + U.z @ tanh(h) + b.z)
    r = sigmoid(W.r @ x + U.r @ h + b.r)
    n = tanh(U.n @ (r * h) + W.n @ x + b.n)
    return n * z + h * (1 - z)


@cell
def cfn(x, h, W, U, b):
    """Chaos-free network: the content depends on the frame alone; f forgets, i lets in.

    Reference: T. Laurent, J. von Brecht (2017). A recurrent neural network without chaos. ICLR 2017,
    arXiv:1612.06212.
    """
    f = sigmoid(W.f @ x + U.f @ h + b.f)
    i = sigmoid(W.i @ x + U.i @ h + b.i)
    return f * tanh(h) + i * tanh(W.n @ x)


@cell
def atr(x, h, W, U, b):
    """Addition-subtraction twin-gated unit: the sum of p and q opens one gate, their difference the other.

    Reference: B. Zhang, D. Xiong, J. Su, Q. Lin, H. Zhang (2018). Simplifying neural machine translation with
    addition-subtraction twin-gated recurrent networks. EMNLP 2018, arXiv:1810.12546.
    """
    p = W @ x + b
    q = U @ h
    return sigmoid(p + q) * p + sigmoid(p - q) * h


@cell
def mingru(x, h, W, b):
    """Minimal GRU: gate and content of the frame alone.

    Reference: L. Feng, F. Tung, M. O. Ahmed, Y. Bengio, H. Hajimirsadeghi (2024). Were RNNs all we needed?
    arXiv:2410.01201.
    """
    z = sigmoid(W.z @ x + b.z)
    return (1 - z) * h + z * (W.n @ x + b.n)


@cell
def lem(x, y, z, W, V, b):
    """Long expressive memory: two states with learned time steps, Δt = 1; the output is y.

    Reference: T. K. Rusch, S. Mishra, N. B. Erichson, M. W. Mahoney (2022). Long expressive memory for sequence
    modeling. ICLR 2022, arXiv:2110.04744.
    """
    s = sigmoid(V.s @ x + W.s @ y + b.s)
    t = sigmoid(V.t @ x + W.t @ y + b.t)
    z = (1 - s) * z + s * tanh(V.z @ x + W.z @ y + b.z)
    y = (1 - t) * y + t * tanh(V.y @ x + W.y @ z + b.y)
    return y, z
