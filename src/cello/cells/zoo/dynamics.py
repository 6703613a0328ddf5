# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, disable-error-code="valid-type"
"""The zoo's networks with time scales: oscillators, differential equations, clocks, memories of fixed matrices.

What they need beside their equations stands in their signatures: first values, bounds, tensors that are not learned.
"""

from __future__ import annotations

import math

from cello.cells.definition import cell
from cello.cells.functions import (
    cos,
    erf,
    exp,
    expm,
    floor,
    inverse,
    log,
    maximum,
    mod,
    sigmoid,
    sin,
    sqrt,
    tanh,
    where,
)
from cello.cells.signature import Fixed, Learned, Members, Scalar
from cello.cells.values import normal, uniform
from cello.cells.zoo.papers import (
    CHANG_2019,
    HASANI_2021,
    HASANI_2022,
    KOUTNIK_2014,
    LEZCANO_2019,
    MONIZ_2017,
    NEIL_2016,
    ORVIETO_2023,
    PENG_2023,
    RUSCH_2021_CORNN,
    RUSCH_2021_UNICORNN,
    TALLEC_2018,
    VOELKER_2019,
    ZILLY_2017,
)

FRAMES = 64
"""Frames that the memories and clocks of this shelf are made for."""


@cell(paper=TALLEC_2018)
def lstm_chrono(
    x,
    h,
    c,
    W,
    U,
    b: Members(f=Learned(lambda: log(uniform(1, FRAMES - 1))), i=Learned(lambda: -log(uniform(1, FRAMES - 1)))),
):
    """LSTM whose gates begin with memories of 1 to 64 frames; the paper's b.i begins at -b.f, here it is drawn."""
    i = sigmoid(W.i @ x + U.i @ h + b.i)
    f = sigmoid(W.f @ x + U.f @ h + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    o = sigmoid(W.o @ x + U.o @ h + b.o)
    c = f * c + i * g
    h = o * tanh(c)
    return h, c


@cell(paper=RUSCH_2021_CORNN)
def cornn(x, y, z, W, V, U, b):
    """Coupled oscillatory RNN: a position y and a velocity z a unit; Δt, γ and ε are those of sequential MNIST."""
    z = z + 0.042 * (tanh(W @ y + V @ z + U @ x + b) - 2.7 * y - 4.7 * z)
    y = y + 0.042 * z
    return y, z


@cell(paper=RUSCH_2021_UNICORNN)
def unicornn(x, y, z, V, w: Learned(0.0, 1.0), b: Learned(0.0), c: Learned(-0.1, 0.1)):
    """UnICORNN: undamped oscillators, each with a time step of its own; one layer, with Δt = 0.13 and α = 9."""
    z = z - 0.13 * sigmoid(c) * (tanh(w * y + V @ x + b) + 9 * y)
    y = y + 0.13 * sigmoid(c) * z
    return y, z


@cell(paper=ORVIETO_2023)
def lru(
    x,
    y,
    re,
    im,
    B,
    C,
    nu: Learned(lambda: log(-0.5 * log(uniform(0.25, 0.98)))),
    theta: Learned(lambda: log(0.1 * math.pi * uniform(0.01, 1))),
):
    """Linear recurrent unit, then GELU: complex eigenvalues of moduli 0.5 to 0.99, phases to π / 10."""
    r = exp(-exp(nu))
    phase = exp(theta)
    gamma = sqrt(1 - r * r)
    real, imaginary = r * cos(phase), r * sin(phase)
    re, im = real * re - imaginary * im + gamma * (B.re @ x), imaginary * re + real * im + gamma * (B.im @ x)
    y = C.re @ re - C.im @ im + C.x @ x
    y = 0.5 * y * (1 + erf(y / math.sqrt(2)))
    return y, re, im


@cell(paper=CHANG_2019)
def antisymmetric_rnn(x, h, W, V: Learned(lambda H: normal(0, 1 / sqrt(H))), b, gamma: Scalar(0.01, positive=True)):
    """Antisymmetric RNN with its gate: the matrix V - Vᵀ - γI keeps the gradient; ε = 0.1, and γ is learned here."""
    A = V - V.T
    z = sigmoid(A @ h - gamma * h + W.z @ x + b.z)
    return h + 0.1 * z * tanh(A @ h - gamma * h + W.h @ x + b.h)


@cell(paper=LEZCANO_2019)
def exprnn(x, h, W, A: Learned(lambda i, j, H: where(i > j, uniform(-1, 1) / sqrt(H), 0)), b: Learned(0.0)):
    """Exponential RNN: the recurrent matrix is orthogonal, exp(A - Aᵀ); its nonlinearity is modReLU."""
    v = expm(A - A.T) @ h + W @ x
    return where(v > 0, 1, -1) * maximum(abs(v) + b, 0)


@cell(paper=KOUTNIK_2014)
def clockwork(
    x,
    h,
    t,
    W,
    U,
    M: Fixed(lambda i, j, H: where(floor(8 * i / H) > floor(8 * j / H), 0, 1)),
    T: Fixed(lambda i, H: exp(floor(8 * i / H) * math.log(2))),
    b,
):
    """Clockwork RNN: 8 modules with periods 1, 2, 4, ... 128; slower modules feed faster ones, t counts frames."""
    n = tanh(W @ x + (M * U) @ h + b)
    h = where(mod(t + 0.5, T) > 1, h, n)
    return h, t + 1


def continuous(i, j):
    """The (i, j) element of the LMU's continuous state matrix, over θ = 64 frames."""
    sign = where(mod(i - j, 2) > 0.5, 1, -1)
    return (2 * i + 1) / FRAMES * where(j > i, -1, sign)


def legendre(i, j):
    """The discrete state matrix, exp(A), as with a zero-order hold."""
    return expm(continuous(i, j))


def input_of(i, j):
    """The discrete input vector, A⁻¹ (exp(A) - I) b."""
    a = continuous(i, j)
    b = (2 * i + 1) / FRAMES * where(mod(i, 2) > 0.5, -1, 1)
    identity = where(i > j, 0, where(j > i, 0, 1))
    return (inverse(a) @ (expm(a) - identity)) @ b


@cell(paper=VOELKER_2019)
def lmu(  # noqa: PLR0913, PLR0917 (three fixed tensors)
    x,
    h,
    m,
    W,
    U,
    e: Members(h=Learned(lambda H: uniform(-1 / H, 1 / H)), m=Learned(0.0)),
    J: Fixed(1.0),
    A: Fixed(legendre),
    B: Fixed(input_of),
):
    """Legendre memory unit of order H: m holds the last 64 frames of a signal u as Legendre polynomials.

    u is one number for all units: J adds up over units. So the paper's vector e.x is the sum of the rows of W.u.
    """
    u = J @ (W.u @ x + e.h * h + e.m * m)
    m = A @ m + B * u
    h = tanh(W.h @ x + U.h @ h + U.m @ m)
    return h, m


@cell(paper=ZILLY_2017)
def rhn(x, h, W, U, b: Members(t1=Learned(-2.0), t2=Learned(-2.0), t3=Learned(-2.0))):
    """Recurrent highway network of depth 3, carry gate 1 - t; the frame enters the first layer."""
    t = sigmoid(W.t @ x + U.t1 @ h + b.t1)
    h = t * tanh(W.h @ x + U.h1 @ h + b.h1) + (1 - t) * h
    t = sigmoid(U.t2 @ h + b.t2)
    h = t * tanh(U.h2 @ h + b.h2) + (1 - t) * h
    t = sigmoid(U.t3 @ h + b.t3)
    return t * tanh(U.h3 @ h + b.h3) + (1 - t) * h


@cell(paper=NEIL_2016)
def phased_lstm(  # noqa: PLR0913, PLR0917 (an oscillator has three parameters)
    x,
    h,
    c,
    t,
    W,
    U,
    b,
    tau: Learned(2.0, float(FRAMES), log=True, positive=True),
    s: Learned(0.0, 1.0),
    r: Learned(0.05, bounds=(0, 1)),
):
    """Phased LSTM on regular frames: a unit is written to while its oscillator of period tau is open, a share r of it.

    t counts frames; the leak while closed is 0.001. s is the phase as a share of the period.
    """
    phase = mod(t / tau - s, 1)
    k = where(phase < r / 2, 2 * phase / r, where(phase < r, 2 - 2 * phase / r, 0.001 * phase))
    i = sigmoid(W.i @ x + U.i @ h + b.i)
    f = sigmoid(W.f @ x + U.f @ h + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    o = sigmoid(W.o @ x + U.o @ h + b.o)
    new = f * c + i * g
    h = k * o * tanh(new) + (1 - k) * h
    c = k * new + (1 - k) * c
    return h, c, t + 1


@cell(paper=HASANI_2021)
def ltc(x, h, W, U, b, tau: Learned(1.0, 10.0, log=True, positive=True), A: Learned(-1.0, 1.0)):
    """Liquid time constants: six fused Euler steps a frame; f is one gate a unit, without pairwise synapses."""
    for _ in range(6):
        f = sigmoid(W @ x + U @ h + b)
        h = (h + f * A / 6) / (1 + (1 / tau + f) / 6)
    return h


@cell(paper=HASANI_2022)
def cfc(x, h, W, U, b):
    """Closed-form continuous time, without backbone, one frame a unit of time: a gate of time blends two contents."""
    f = tanh(W.f @ x + U.f @ h + b.f)
    g = tanh(W.g @ x + U.g @ h + b.g)
    t = sigmoid(W.a @ x + U.a @ h + b.a + W.b @ x + U.b @ h + b.b)
    return f * (1 - t) + t * g


@cell(paper=MONIZ_2017)
def nested_lstm(x, h, c, m, W, U, V, b):
    """Nested LSTM: the memory c is the output of an inner LSTM, whose memory is m."""
    i = sigmoid(W.i @ x + U.i @ h + b.i)
    f = sigmoid(W.f @ x + U.f @ h + b.f)
    g = W.g @ x + U.g @ h + b.g
    o = sigmoid(W.o @ x + U.o @ h + b.o)
    old, new = f * c, i * tanh(g)
    j = sigmoid(V.i @ new + V.ih @ old + b.ji)
    k = sigmoid(V.f @ new + V.fh @ old + b.jf)
    n = tanh(V.g @ new + V.gh @ old + b.jg)
    q = sigmoid(V.o @ new + V.oh @ old + b.jo)
    m = k * m + j * n
    c = q * tanh(m)
    h = o * tanh(c)
    return h, c, m


@cell(paper=PENG_2023)
def rwkv(
    x,
    y,
    a,
    b,
    p: Fixed(-math.inf),
    W,
    w: Learned(lambda i, H: -5 + 8 * (i + 0.5) / H),
    u: Learned(lambda i: math.log(0.3) + 0.5 * (mod(i + 1, 3) - 1)),
):
    """RWKV-4's attention without softmax or token shift: a and b are sums of exponentials, p their largest exponent.

    y is output only.
    """
    k = W.k @ x
    v = W.v @ x
    q = maximum(p, u + k)
    y = sigmoid(W.r @ x) * (exp(p - q) * a + exp(u + k - q) * v) / (exp(p - q) * b + exp(u + k - q))
    decayed = p - exp(w)
    q = maximum(decayed, k)
    a = exp(decayed - q) * a + exp(k - q) * v
    b = exp(decayed - q) * b + exp(k - q)
    return y, a, b, q
