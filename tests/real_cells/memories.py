# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, disable-error-code="valid-type"
"""Memories that equations address: fast weights, plastic ones, a step of gradient descent, slots, a stack, patterns."""

from __future__ import annotations

import torch
from torch import cat, relu, sigmoid, tanh
from torch.nn.functional import layer_norm, linear, normalize, silu, softplus

import cello
from cello import Fixed, Heads, Learned, Members, Scalar, Size, cell, softmax, where
from cello.cells.functions import mod, outer
from cello.cells.load import zoo
from real_cells.lstms import lstm
from real_cells.real import real
from real_cells.sized import HEADS, heads, no_memory, of_head

ZOO = zoo()


def one_matrix(B, H):
    return torch.zeros(B, H), torch.zeros(B, 1, H, H)


def times(S, v):
    """The product of a matrix and a vector, of each clip and head."""
    return (S @ v.unsqueeze(-1)).squeeze(-1)


def dyad(v, k):
    return v.unsqueeze(-1) * k.unsqueeze(-2)


@cell
def fast_weights_cell(  # noqa: PLR0913, PLR0917
    x, h, A: Heads(1), W, U, s: Learned(1.0), b, decay: Scalar(0.95, bounds=(0, 1)), rate: Scalar(0.5, positive=True)
):
    """Fast weights: what was lately seen attracts the state in three inner steps, each with layer normalisation."""
    A = decay * A + rate * outer(h, h)
    pre = W @ x + U @ h
    h = cello.relu(pre)
    for _ in range(3):
        d = pre + A @ h
        d = d - d.mean()
        h = cello.relu(s * d / cello.sqrt((d * d).mean() + 1e-5) + b)
    return h, A


@real(
    "fast weights, 3 inner steps",
    "jxwufan/AssociativeRetrieval; Ba et al. 2016",
    fast_weights_cell,
    stacked="""
    W: W | U
    s b decay rate
    """,
    begin=one_matrix,
)
def fast_weights(x, st, p):
    h, A = st
    A = p.decay * A + p.rate * dyad(h, h).unsqueeze(1)
    pre = linear(cat([x, h], 1), p.W)
    h = relu(pre)
    for _ in range(3):
        h = relu(layer_norm(pre + times(A[:, 0], h), h.shape[1:], p.s, p.b, 1e-5))
    return h, A


@cell
def plastic_cell(x, h, S: Heads(1), W, U, alpha: Heads(1), b, rate: Scalar(0.1)):
    """Differentiable plasticity: each recurrent weight has a part that follows Hebb's rule, as strong as alpha."""
    new = cello.tanh(W @ x + U @ h + (alpha * S) @ h + b)
    return new, (1 - rate) * S + rate * outer(new, h)


@real(
    "RNN with plastic weights",
    "uber-research/differentiable-plasticity; Miconi et al. 2018",
    plastic_cell,
    stacked="W\nU\nalpha\nb rate",
    begin=one_matrix,
)
def plastic(x, st, p):
    h, S = st
    new = tanh(linear(x, p.W, p.b) + times(p.U + p.alpha * S[:, 0], h))
    return new, (1 - p.rate) * S + p.rate * dyad(new, h).unsqueeze(1)


@real(
    "Gated DeltaNet, 4 heads",
    "NVlabs/GatedDeltaNet; Yang et al. 2025",
    ZOO["gated-delta-net"],
    stacked="""
    W: W.q W.k W.v W.z
    Wg: W.a W.b
    A d n
    """,
    begin=no_memory,
)
def gated_delta(x, st, p):
    q, k, v, g = linear(x, p.W).chunk(4, 1)
    q, k, v = heads(silu(q)), heads(silu(k)), heads(silu(v))
    q, k = (u / (u.square().sum(-1, True) + 1e-6).sqrt() for u in (q, k))
    a, beta = linear(x, p.Wg).chunk(2, 1)
    S = st[1] * torch.exp(-torch.exp(p.A) * softplus(a + p.d)).view(-1, HEADS, 1, 1)
    S = S + dyad(sigmoid(beta).unsqueeze(-1) * (v - times(S, k)), k)
    y = times(S, q * q.shape[-1] ** -0.5)
    y = y * (y.square().mean(-1, True) + 1e-5).rsqrt()
    return y.flatten(1) * p.n * silu(g), S


@cell
def ttt_cell(  # noqa: PLR0913, PLR0917
    x,
    h,
    S: Heads(4),
    W,
    g: Learned(1.0),
    b,
    e: Members(w=Size(4), b=Size(4)),
    E: Fixed(of_head),
    M: Fixed(lambda H: 4 / H, size=Heads(4)),
):
    """TTT-linear: a step of gradient descent on (g LN(S k) + b - (v - k))² / 2, each frame; M takes a head's mean."""
    k, v, q = W.k @ x, W.v @ x, W.q @ x
    u = S @ k
    u = u - M @ u
    r = 1 / cello.sqrt(M @ (u * u) + 1e-6)
    u = r * u
    d = (g * u + b - (v - k)) * g
    d = r * (d - M @ d - u * (M @ (d * u)))
    S = S - outer((E @ cello.sigmoid(e.w @ x + e.b)) * d, k)
    z = S @ q
    z = z - M @ z
    return q + g * z / cello.sqrt(M @ (z * z) + 1e-6) + b, S


@real(
    "TTT-linear, 4 heads",
    "test-time-training/ttt-lm-pytorch, one frame a batch; Sun et al. 2024",
    ttt_cell,
    stacked="""
    W: W.k W.v W.q
    g
    b
    we: e.w
    be: e.b
    """,
    begin=no_memory,
)
def ttt_linear(x, st, p):
    k, v, q = (heads(u) for u in linear(x, p.W).chunk(3, 1))
    (size,), g, b = k.shape[2:], heads(p.g.unsqueeze(0)), heads(p.b.unsqueeze(0))

    def parts(u):
        deviation = (u.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
        return (u - u.mean(-1, True)) / deviation, deviation

    normal, deviation = parts(times(st[1], k))
    slope = (g * normal + b - (v - k)) * g
    slope = size * slope - slope.sum(-1, True) - normal * (slope * normal).sum(-1, True)
    rate = sigmoid(linear(x, p.we, p.be)).unsqueeze(-1)
    S = st[1] - dyad(rate * slope / (size * deviation), k)
    return (q + g * parts(times(S, q))[0] + b).flatten(1), S


def shift(by):
    """The matrix that moves every element on by so many places, round the end."""
    return Fixed(lambda i, j, H: where(abs(mod(i - j, H) - mod(by, H)) > 0.5, 0, 1))


SLOTS = Members(beta=Size(1), gate=Size(1), gamma=Size(1), back=Size(1), stay=Size(1), on=Size(1))


@cell
def ntm_cell(  # noqa: PLR0913, PLR0917
    x,
    h,
    c,
    M: Heads(1),
    w,
    W,
    U,
    R,
    b,
    K,
    V: SLOTS,
    v: SLOTS,
    one: Fixed(1.0),
    On: shift(1),
    Back: shift(-1),
):
    """Neural Turing machine: an LSTM with H slots of H elements, read and written where one head looks."""
    r = M.T @ w
    i = cello.sigmoid(W.i @ x + U.i @ h + R.i @ r + b.i)
    f = cello.sigmoid(W.f @ x + U.f @ h + R.f @ r + b.f)
    c = f * c + i * cello.tanh(W.g @ x + U.g @ h + R.g @ r + b.g)
    h = cello.sigmoid(W.o @ x + U.o @ h + R.o @ r + b.o) * cello.tanh(c)
    key, beta = cello.tanh(K.key @ h), cello.softplus(V.beta @ h + v.beta)
    norms = cello.sqrt((M * M) @ one) * cello.sqrt((key * key).sum())
    gate = cello.sigmoid(V.gate @ h + v.gate)
    w = gate * softmax(beta * (M @ key) / (norms + 1e-8)) + (1 - gate) * w
    back, stay, on = (cello.exp(getattr(V, to) @ h + getattr(v, to)) for to in ("back", "stay", "on"))
    w = (back * (Back @ w) + stay * w + on * (On @ w)) / (back + stay + on)
    w = cello.exp((1 + cello.softplus(V.gamma @ h + v.gamma)) * cello.log(w + 1e-12))
    w = w / (w.sum() + 1e-16)
    M = M - M * outer(w, cello.sigmoid(K.erase @ h)) + outer(w, cello.tanh(K.write @ h))
    return h, c, M, w


@real(
    "neural Turing machine, H slots",
    "loudinthecloud/pytorch-ntm; Graves et al. 2014",
    ntm_cell,
    stacked="""
    W: W.i W.f W.g W.o | U.i U.f U.g U.o | R.i R.f R.g R.o
    b: b.i b.f b.g b.o
    K: K.key K.erase K.write
    V: V.beta V.gate V.gamma V.back V.stay V.on
    v: v.beta v.gate v.gamma v.back v.stay v.on
    """,
    begin=lambda B, H: (torch.zeros(B, H), torch.zeros(B, H), torch.zeros(B, 1, H, H), torch.zeros(B, H)),
)
def ntm(x, st, p):
    h, c, M, w = st
    M = M[:, 0]
    h, c = lstm(linear(cat([x, h, times(M.mT, w)], 1), p.W, p.b), c)
    key, erase, write = linear(h, p.K).chunk(3, 1)
    beta, gate, gamma, *shifts = linear(h, p.V, p.v).chunk(6, 1)
    key = tanh(key)
    likeness = times(M, key) / (M.square().sum(-1).sqrt() * key.norm(dim=1, keepdim=True) + 1e-8)
    gate, (back, stay, on) = sigmoid(gate), torch.softmax(cat(shifts, 1), 1).chunk(3, 1)
    w = gate * torch.softmax(softplus(beta) * likeness, 1) + (1 - gate) * w
    w = back * w.roll(-1, 1) + stay * w + on * w.roll(1, 1)
    w = (w + 1e-12) ** (1 + softplus(gamma))
    w = w / (w.sum(1, True) + 1e-16)
    M = M * (1 - dyad(w, sigmoid(erase))) + dyad(w, tanh(write))
    return h, c, M.unsqueeze(1), w


@cell
def stack_cell(  # noqa: PLR0913, PLR0917
    x,
    h,
    s,
    W: Members(push=Size(1)),
    U: Members(push=Size(1)),
    b: Members(push=Size(1)),
    P,
    top: Fixed(lambda i: where(i > 0.5, 0, 1)),
    Down: Fixed(lambda i, j: where(abs(i - j - 1) > 0.5, 0, 1)),
    Up: Fixed(lambda i, j: where(abs(j - i - 1) > 0.5, 0, 1)),
):
    """Stack RNN: a stack of H numbers, of which a share is pushed and the rest popped."""
    push = cello.sigmoid(W.push @ x + U.push @ h + b.push)
    new = cello.sigmoid(W.new @ x + U.new @ h + b.new)
    s = push * (Down @ s + top * new) + (1 - push) * (Up @ s)
    return cello.sigmoid(W.h @ x + U.h @ h + P @ s + b.h), s


@real(
    "stack RNN",
    "facebookarchive/Stack-RNN; Joulin & Mikolov 2015",
    stack_cell,
    stacked="""
    W: W.h W.new W.push
    U: U.h U.new U.push
    b: b.h b.new b.push
    P
    """,
)
def stack(x, st, p):
    h, s = st
    H = h.shape[1]
    read, new, push = (linear(x, p.W, p.b) + linear(h, p.U)).split([H, H, 1], 1)
    push, new, nothing = sigmoid(push), sigmoid(new), torch.zeros_like(s[:, :1])
    s = push * cat([new[:, :1], s[:, :-1]], 1) + (1 - push) * cat([s[:, 1:], nothing], 1)
    return sigmoid(read + linear(s, p.P)), s


@cell
def hopfield_cell(x, h, W, U, K: Size(32), b):
    """RNN that looks up the nearest of 32 learned patterns, the rows of K, in three steps of a Hopfield network."""
    q = W @ x + U @ h + b
    for _ in range(3):
        q = K.T @ softmax(K @ q)
    return cello.tanh(h + q)


@real(
    "RNN with a Hopfield lookup, 32 patterns",
    "ml-jku/hopfield-layers; Ramsauer et al. 2021",
    hopfield_cell,
    stacked="""
    W: W | U
    K
    b
    """,
)
def hopfield(x, st, p):
    q = linear(cat([x, st[0]], 1), p.W, p.b)
    for _ in range(3):
        q = torch.softmax(q @ p.K.T, 1) @ p.K
    return (tanh(st[0] + q),)


@cell
def rum_cell(x, h, W, U, b):
    """Rotational unit of memory, λ = 0: h is turned in the plane of e and t, by the angle between them."""
    e, t = W.e @ x + b.e, W.t @ x + U.t @ h + b.t
    z = cello.sigmoid(W.z @ x + U.z @ h + b.z)
    u = e / cello.sqrt((e * e).sum())
    w = t - (u * t).sum() * u
    w = w / cello.sqrt((w * w).sum())
    cos = (e * t).sum() / cello.sqrt((e * e).sum() * (t * t).sum())
    sin = cello.sqrt(1 - cos**2)
    along, across = (u * h).sum(), (w * h).sum()
    turned = h + ((cos - 1) * along - sin * across) * u + (sin * along + (cos - 1) * across) * w
    return z * h + (1 - z) * cello.relu(e + turned)


@real(
    "RUM",
    "rdangovs/rotational-unit-of-memory; Dangovski et al. 2019",
    rum_cell,
    stacked="""
    W: W.t W.z W.e
    U: U.t U.z
    b: b.t b.z b.e
    """,
)
def rum(x, st, p):
    (h,) = st
    t, z, e = linear(x, p.W, p.b).split(h.shape[1], 1)
    t, z = (cat([t, z], 1) + linear(h, p.U)).chunk(2, 1)
    u = normalize(e, dim=1)
    w = normalize(t - (u * t).sum(1, True) * u, dim=1)
    cos = torch.cosine_similarity(e, t, 1).unsqueeze(1)
    sin = (1 - cos**2).sqrt()
    plane = torch.stack([u, w], 2)
    turn = torch.stack([cat([cos, -sin], 1), cat([sin, cos], 1)], 1)
    within = times(plane.mT, h)
    turned = h + times(plane, times(turn, within) - within)
    return (sigmoid(z) * h + (1 - sigmoid(z)) * relu(e + turned),)
