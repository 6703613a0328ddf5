# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, disable-error-code="valid-type"
"""The zoo's networks with matrix memories: four heads each, without most gates of their papers."""

from __future__ import annotations

import math

from cello.cells.annotations import Heads, Size
from cello.cells.definition import cell
from cello.cells.functions import columns, exp, floor, log, maximum, outer, rows, sigmoid, softplus, sqrt, tanh, where
from cello.cells.signature import Fixed, Learned, Members
from cello.cells.values import uniform
from cello.cells.zoo.papers import BECK_2024, KATHAROPOULOS_2020, PENG_2024, SCHLAG_2021, SUN_2023, YANG_2025


def of_head(i, j, H):
    """1 where unit i is of head j, of four."""
    return where(floor(4 * i / H) > j, 0, where(j > floor(4 * i / H), 0, 1))


@cell(paper=BECK_2024)
def mlstm_heads(  # noqa: PLR0913, PLR0917 (three fixed tensors)
    x,
    h,
    C: Heads(4),
    n,
    m,
    W: Members(i=Size(4), f=Size(4)),
    b,
    E: Fixed(of_head),
    J: Fixed(1.0, size=Heads(4)),
    s: Fixed(lambda H: sqrt(4 / H)),
):
    """xLSTM's mLSTM with four heads: exponential gates, one a head, m their stabiliser; outputs are normalised by head.

    E tells heads to units. The norm has no scale of its own.
    """
    i = E @ (W.i @ x + b.i)
    f = -softplus(-(E @ (W.f @ x + b.f)))
    k, v, q = s * (W.k @ x + b.k), W.v @ x + b.v, W.q @ x + b.q
    new = maximum(f + m, i)
    i, f = exp(i - new), exp(f + m - new)
    C = rows(f) * C + outer(i * v, k)
    n = f * n + i * k
    y = (C @ q) / maximum(abs(J @ (n * q)), exp(-new))
    h = sigmoid(W.o @ x + b.o) * y / sqrt(s * s * (J @ (y * y)) + 1e-6)
    return h, C, n, new


@cell(paper=KATHAROPOULOS_2020)
def linear_attention(x, h, S: Heads(4), z, W, J: Fixed(1.0, size=Heads(4))):
    """Causal linear attention with the feature map elu + 1; h is output only."""
    k, v, q = W.k @ x, W.v @ x, W.q @ x
    k = where(k > 0, k + 1, exp(k))
    q = where(q > 0, q + 1, exp(q))
    S = S + outer(v, k)
    z = z + k
    h = (S @ q) / (J @ (z * q))
    return h, S, z


@cell(paper=SUN_2023)
def retention(
    x,
    h,
    S: Heads(4),
    W,
    gamma: Fixed(lambda i, H: 1 - exp(-math.log(2) * (5 + floor(4 * i / H)))),
    J: Fixed(1.0, size=Heads(4)),
    s: Fixed(lambda H: sqrt(4 / H)),
):
    """RetNet's retention without positions and gate: each head forgets at its own rate, 1 - 2⁻⁵ to 1 - 2⁻⁸.

    Outputs are normalised by head, as in its code; without that they grow with the third power of the frame, and of two
    layers with the ninth. h is output only.
    """
    S = rows(gamma) * S + outer(W.v @ x, W.k @ x)
    y = S @ (W.q @ x)
    h = y / sqrt(s * s * (J @ (y * y)) + 1e-6)
    return h, S


@cell(paper=SCHLAG_2021)
def delta_rule(x, h, S: Heads(4), w: Size(1), W, J: Fixed(1.0, size=Heads(4))):
    """Fast weights with the delta rule: what a key holds is corrected towards the new value; keys are softmaxes."""
    k, q = exp(W.k @ x), exp(W.q @ x)
    k, q = k / (J @ k), q / (J @ q)
    S = S + sigmoid(w @ x) * outer(W.v @ x - S @ k, k)
    h = S @ q
    return h, S


@cell(paper=YANG_2025)
def gated_delta_net(  # noqa: PLR0913, PLR0917 (three fixed tensors)
    x,
    h,
    S: Heads(4),
    W: Members(a=Size(4), b=Size(4)),
    A: Learned(lambda: log(uniform(1, 16)), size=4),
    d: Learned(lambda: log(exp(exp(uniform(math.log(0.001), math.log(0.1)))) - 1), size=4),
    n: Learned(1.0),
    E: Fixed(of_head),
    J: Fixed(1.0, size=Heads(4)),
    s: Fixed(lambda H: sqrt(4 / H)),
):
    """Gated DeltaNet without short convolutions: a head forgets at a rate of the frame, then one value is replaced.

    Keys and queries have norm 1; outputs are normalised by head and gated. E tells heads to units; h is output only.
    """
    k, v, q = W.k @ x, W.v @ x, W.q @ x
    k, v, q = k * sigmoid(k), v * sigmoid(v), q * sigmoid(q)
    k, q = k / sqrt(J @ (k * k) + 1e-6), q / sqrt(J @ (q * q) + 1e-6)
    S = rows(E @ exp(-exp(A) * softplus(W.a @ x + d))) * S
    S = S + outer((E @ sigmoid(W.b @ x)) * (v - S @ k), k)
    y = s * (S @ q)
    z = W.z @ x
    h = n * y / sqrt(s * s * (J @ (y * y)) + 1e-5) * z * sigmoid(z)
    return h, S


@cell(paper=PENG_2024)
def rwkv_6(
    x,
    h,
    S: Heads(4),
    W: Members(down=Size(16)),
    u,
    d: Learned(lambda i, H: -6 + 5 * i / H),
    J: Fixed(1.0, size=Heads(4)),
    s: Fixed(lambda H: sqrt(4 / H)),
):
    """RWKV-6's time mixing without token shift and gate: the decay of each key depends on the frame.

    Outputs are normalised by head, without a scale and a bias of their own; h is output only.
    """
    r, k, v = W.r @ x, W.k @ x, W.v @ x
    w = exp(-exp(d + W.up @ tanh(W.down @ x)))
    y = (S + outer(v, u * k)) @ r
    y = y - s * s * (J @ y)
    h = y / sqrt(s * s * (J @ (y * y)) + 64e-5)
    S = columns(w) * S + outer(v, k)
    return h, S
