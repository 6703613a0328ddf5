# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, disable-error-code="valid-type"
"""Projections, low ranks, block-diagonal products, parts of a frame, and memories of one matrix a head."""

from __future__ import annotations

import math

import torch
from torch import cat, relu, sigmoid, tanh
from torch.nn.functional import linear, logsigmoid, normalize, silu, softplus

import cello
from cello import Fixed, Heads, Members, Parts, Scalar, Size, cell, where
from cello.cells.functions import columns, floor, outer, rows
from real_cells.lstms import IFGO, lstm
from real_cells.real import real

RANK = Size("H/4")
HEADS = 4


@cell
def fastgrnn_low_rank_cell(x, h, W: Members(down=RANK), U: Members(down=RANK), b, zeta: Scalar, nu: Scalar):
    """FastGRNN with matrices of rank H / 4."""
    s = W.up @ (W.down @ x) + U.up @ (U.down @ h)
    z, n = cello.sigmoid(s + b.z), cello.tanh(s + b.n)
    return (cello.sigmoid(zeta) * (1 - z) + cello.sigmoid(nu)) * n + z * h


@real(
    "FastGRNN, rank H / 4",
    "EdgeML, edgeml_pytorch/graph/rnn.py; Kusupati et al. 2018",
    fastgrnn_low_rank_cell,
    stacked="""
    W1: W.down
    W2: W.up
    U1: U.down
    U2: U.up
    bz: b.z
    bn: b.n
    zeta nu
    """,
)
def fastgrnn_low_rank(x, s, p):
    (h,) = s
    pre = linear(linear(x, p.W1), p.W2) + linear(linear(h, p.U1), p.U2)
    z, c = sigmoid(pre + p.bz), tanh(pre + p.bn)
    return (z * h + (sigmoid(p.zeta) * (1.0 - z) + sigmoid(p.nu)) * c,)


@cell
def multi_head_gru_cell(x, h, W, U: Heads(4), b, c):
    """GRU whose recurrent matrices are block-diagonal."""
    r = cello.sigmoid(W.r @ x + b.r + U.r @ h + c.r)
    z = cello.sigmoid(W.z @ x + b.z + U.z @ h + c.z)
    n = cello.tanh(W.n @ x + b.n + r * (U.n @ h + c.n))
    return (1 - z) * n + z * h


def blocks(p):
    d = p.Wh.shape[1]
    p.blocks = p.Wh.view(3, HEADS, d, d).permute(1, 3, 0, 2).reshape(HEADS, d, 3 * d)


@real(
    "multi-head GRU, 4 heads",
    "block-diagonal recurrent matrices, as NX-AI/xlstm's; Beck et al. 2024",
    multi_head_gru_cell,
    stacked="""
    Wx: W.r W.z W.n
    Wh: U.r U.z U.n
    bx: b.r b.z b.n
    bh: c.r c.z c.n
    """,
    once=blocks,
)
def multi_head_gru(x, s, p):
    (h,) = s
    B, H = h.shape
    products = torch.bmm(h.view(B, HEADS, H // HEADS).transpose(0, 1), p.blocks)
    fed = products.view(HEADS, B, 3, H // HEADS).permute(1, 2, 0, 3).reshape(B, 3 * H) + p.bh
    (wr, wz, wn), (ur, uz, un) = linear(x, p.Wx, p.bx).chunk(3, 1), fed.chunk(3, 1)
    n = tanh(wn + sigmoid(wr + ur) * un)
    return (n + sigmoid(wz + uz) * (h - n),)


@cell
def projected_lstm_cell(x, h: Size("H/2"), c, W, U, b, R):
    """LSTM with a projection of half as many elements as there are units."""
    i = cello.sigmoid(W.i @ x + U.i @ h + b.i)
    f = cello.sigmoid(W.f @ x + U.f @ h + b.f)
    c = f * c + i * cello.tanh(W.g @ x + U.g @ h + b.g)
    o = cello.sigmoid(W.o @ x + U.o @ h + b.o)
    return R @ (o * cello.tanh(c)), c


@real(
    "LSTM with a projection",
    "PyTorch, nn.LSTM(proj_size=H / 2); Sak et al. 2014",
    projected_lstm_cell,
    stacked=IFGO + "    Wp: R",
    begin=lambda B, H: (torch.zeros(B, H // 2), torch.zeros(B, H)),
)
def projected_lstm(x, s, p):
    h, c = lstm(linear(x, p.Wx, p.b) + linear(s[0], p.Wh), s[1])
    return linear(h, p.Wp), c


@cell
def mogrifier_cell(x, h, c, W, U, b, Q, R):
    """Mogrifier LSTM: before the step, frame and state gate each other in five rounds."""
    x = 2 * cello.sigmoid(Q.a @ h) * x
    h = 2 * cello.sigmoid(R.a @ x) * h
    x = 2 * cello.sigmoid(Q.b @ h) * x
    h = 2 * cello.sigmoid(R.b @ x) * h
    x = 2 * cello.sigmoid(Q.c @ h) * x
    i = cello.sigmoid(W.i @ x + U.i @ h + b.i)
    f = cello.sigmoid(W.f @ x + U.f @ h + b.f)
    c = f * c + i * cello.tanh(W.g @ x + U.g @ h + b.g)
    o = cello.sigmoid(W.o @ x + U.o @ h + b.o)
    return o * cello.tanh(c), c


@real(
    "Mogrifier LSTM, 5 rounds",
    "fawazsammani/mogrifier-lstm-pytorch; Melis et al. 2020",
    mogrifier_cell,
    stacked=IFGO
    + """
    Q1: Q.a
    R2: R.a
    Q3: Q.b
    R4: R.b
    Q5: Q.c
    """,
)
def mogrifier(x, s, p):
    h, c = s
    x = 2 * sigmoid(linear(h, p.Q1)) * x
    h = 2 * sigmoid(linear(x, p.R2)) * h
    x = 2 * sigmoid(linear(h, p.Q3)) * x
    h = 2 * sigmoid(linear(x, p.R4)) * h
    x = 2 * sigmoid(linear(h, p.Q5)) * x
    return lstm(linear(x, p.Wx, p.b) + linear(h, p.Wh), c)


@cell
def t_lstm_cell(x: Parts("value", gap=1), h, c, W, U, b, V, d):
    """Time-aware LSTM: what is short-term of the memory decays with the gap before the frame."""
    short = cello.tanh(V @ c + d)
    c = c - short + short / cello.log(math.e + abs(x.gap))
    i = cello.sigmoid(W.i @ x.value + U.i @ h + b.i)
    f = cello.sigmoid(W.f @ x.value + U.f @ h + b.f)
    c = f * c + i * cello.tanh(W.g @ x.value + U.g @ h + b.g)
    o = cello.sigmoid(W.o @ x.value + U.o @ h + b.o)
    return o * cello.tanh(c), c


@real(
    "T-LSTM",
    "illidanlab/T-LSTM; Baytas et al. 2017",
    t_lstm_cell,
    stacked=IFGO
    + """
    Wd: V
    bd: d
    """,
)
def t_lstm(x, s, p):
    x, gap = x[:, :-1], x[:, -1:]
    h, c = s
    short = tanh(linear(c, p.Wd, p.bd))
    c = c - short + short / torch.log(math.e + gap.abs())
    return lstm(linear(x, p.Wx, p.b) + linear(h, p.Wh), c)


def parts(x):
    """Values, masks and gaps of a frame."""
    value, mask, gap = x.chunk(3, 1)
    return value, (mask > 0).to(x.dtype), gap.abs()


@cell
def gru_decayed_cell(x: Parts("value", "mask", "gap"), h, W, V, U, b, A, a):
    """GRU whose state decays with the gaps of its inputs."""
    mask = where(x.mask > 0, 1, 0)
    h = cello.exp(-cello.relu(A @ abs(x.gap) + a)) * h
    r = cello.sigmoid(W.r @ x.value + V.r @ mask + U.r @ h + b.r)
    z = cello.sigmoid(W.z @ x.value + V.z @ mask + U.z @ h + b.z)
    n = cello.tanh(W.n @ x.value + V.n @ mask + U.n @ (r * h) + b.n)
    return (1 - z) * h + z * n


STACKED_GRU_D = """
    Wx: W.r W.z W.n | V.r V.z V.n
    Wg: U.r U.z
    Wn: U.n
    b: b.r b.z b.n
    Wd: A
    bd: a
"""


def gru_step(value, mask, h, p):
    H = h.shape[1]
    gates, content = linear(cat([value, mask], 1), p.Wx, p.b).split([2 * H, H], 1)
    r, z = sigmoid(gates + linear(h, p.Wg)).chunk(2, 1)
    return (1 - z) * h + z * tanh(content + linear(r * h, p.Wn))


@real("GRU-D, decay of the state", "Han-JD/GRU-D; Che et al. 2018", gru_decayed_cell, stacked=STACKED_GRU_D)
def gru_decayed(x, s, p):
    value, mask, gap = parts(x)
    return (gru_step(value, mask, torch.exp(-relu(linear(gap, p.Wd, p.bd))) * s[0], p),)


@cell
def gru_d_cell(  # noqa: PLR0913, PLR0917
    x: Parts("value", "mask", "gap"), h, last: Size("x.value"), W, V, U, b, A, a, w, d
):
    """GRU-D: missing inputs are the last ones seen, decayed towards their mean of 0."""
    mask, gap = where(x.mask > 0, 1, 0), abs(x.gap)
    last = mask * x.value + (1 - mask) * last
    value = mask * x.value + (1 - mask) * (cello.exp(-cello.relu(w * gap + d)) * last)
    h = cello.exp(-cello.relu(A @ gap + a)) * h
    r = cello.sigmoid(W.r @ value + V.r @ mask + U.r @ h + b.r)
    z = cello.sigmoid(W.z @ value + V.z @ mask + U.z @ h + b.z)
    n = cello.tanh(W.n @ value + V.n @ mask + U.n @ (r * h) + b.n)
    return (1 - z) * h + z * n, last


def nothing_seen(B, H):
    return torch.zeros(B, H), torch.zeros(B, 1)


@real(
    "GRU-D",
    "Han-JD/GRU-D; Che et al. 2018",
    gru_d_cell,
    stacked=STACKED_GRU_D
    + """
    wi: w
    bi: d
    """,
    begin=nothing_seen,
)
def gru_d(x, s, p):
    value, mask, gap = parts(x)
    h, last = s
    last = mask * value + (1 - mask) * last
    value = mask * value + (1 - mask) * (torch.exp(-relu(p.wi * gap + p.bi)) * last)
    return gru_step(value, mask, torch.exp(-relu(linear(gap, p.Wd, p.bd))) * h, p), last


def heads(v):
    return v.view(len(v), HEADS, -1)


def no_memory(B, H):
    return torch.zeros(B, H), torch.zeros(B, HEADS, H // HEADS, H // HEADS)


def read(S, q):
    """Every head's matrix (value, key) times its query, side by side."""
    return (S @ q.unsqueeze(-1)).flatten(1)


def of_head(i, j, H):
    """1 where unit i belongs to head j."""
    k = floor(4 * i / H) - j
    return where(k * k > 0.5, 0, 1)


def root(H):
    """The square root of a key's elements, inverted."""
    return cello.sqrt(4 / H)


def forgetting(i, H):
    """What a head keeps in a step, 1 - 2⁻⁵ for the first, nearer to 1 for the others."""
    return 1 - cello.exp(-math.log(2) * (5 + floor(4 * i / H)))


@cell
def mlstm_cell(  # noqa: PLR0913, PLR0917
    x,
    h,
    C: Heads(4),
    n,
    m,
    W: Members(i=Size(4), f=Size(4)),
    b: Members(i=Size(4), f=Size(4)),
    E: Fixed(of_head),
    P: Fixed(1.0, size=Heads(4)),
    s: Fixed(root),
):
    """mLSTM: one gate a head, spread to its units by E; P adds up over a head's units."""
    q, k, v = W.q @ x + b.q, s * (W.k @ x + b.k), W.v @ x + b.v
    i, kept = E @ (W.i @ x + b.i), m - cello.softplus(-(E @ (W.f @ x + b.f)))
    m = cello.maximum(kept, i)
    f, i = cello.exp(kept - m), cello.exp(i - m)
    C = rows(f) * C + outer(i * v, k)
    n = f * n + i * k
    h = cello.sigmoid(W.o @ x + b.o) * (C @ q) / cello.maximum(abs(P @ (n * q)), cello.exp(-m))
    return h, C, n, m


@real(
    "mLSTM, 4 heads",
    "NX-AI/xlstm, mlstm recurrent; Beck et al. 2024",
    mlstm_cell,
    stacked="""
    W: W.q W.k W.v W.o
    Wg: W.i W.f
    b: b.q b.k b.v b.o
    bg: b.i b.f
    """,
    begin=lambda B, H: (*no_memory(B, H), torch.zeros(B, HEADS, H // HEADS), torch.zeros(B, H)),
)
def mlstm(x, s, p):
    _, C, n, m = s
    q, k, v, o = (heads(part) for part in linear(x, p.W, p.b).chunk(4, 1))
    k = k * k.shape[-1] ** -0.5
    i, f = linear(x, p.Wg, p.bg).chunk(2, 1)
    kept = logsigmoid(f) + heads(m)[..., 0]
    m = torch.maximum(kept, i)
    f, i = torch.exp(kept - m).unsqueeze(-1), torch.exp(i - m).unsqueeze(-1)
    C = f.unsqueeze(-1) * C + i.unsqueeze(-1) * (v.unsqueeze(-1) * k.unsqueeze(-2))
    n = f * n + i * k
    size = torch.maximum((n * q).sum(-1).abs(), torch.exp(-m)).unsqueeze(-1)
    h = sigmoid(o) * (C @ q.unsqueeze(-1)).squeeze(-1) / size
    return h.flatten(1), C, n, m.repeat_interleave(k.shape[-1], 1)


@cell
def retention_cell(x, h, S: Heads(4), W, s: Fixed(root), g: Fixed(forgetting)):
    """Retention: every head forgets at its own rate."""
    S = rows(g) * S + outer(W.v @ x, W.k @ x)
    return S @ (s * (W.q @ x)), S


@real(
    "RetNet, 4 heads",
    "fla-org/flash-linear-attention, retention recurrent; Sun et al. 2023",
    retention_cell,
    stacked="W: W.q W.k W.v",
    begin=no_memory,
)
def retention(x, s, p):
    q, k, v = (heads(part) for part in linear(x, p.W).chunk(3, 1))
    decay = 1 - 2.0 ** (-5 - torch.arange(HEADS, dtype=x.dtype))
    S = decay.view(-1, 1, 1) * s[1] + v.unsqueeze(-1) * k.unsqueeze(-2)
    return read(S, q * q.shape[-1] ** -0.5), S


@cell
def gla_cell(x, h, S: Heads(4), W, b, s: Fixed(root)):
    """Gated linear attention: every element of a key decays by a gate of its own."""
    decay = cello.exp(-cello.softplus(-(W.a @ x + b)) / 16)
    S = columns(decay) * S + outer(W.v @ x, W.k @ x)
    gate = W.g @ x
    return (S @ (s * (W.q @ x))) * (gate * cello.sigmoid(gate)), S


@real(
    "GLA, 4 heads",
    "fla-org/flash-linear-attention, gla recurrent; Yang et al. 2024",
    gla_cell,
    stacked="""
    W: W.q W.k W.v W.a W.g
    b
    """,
    begin=no_memory,
)
def gated_linear_attention(x, s, p):
    q, k, v, a, gate = (heads(part) for part in linear(x, p.W).chunk(5, 1))
    decay = torch.exp(logsigmoid(a + heads(p.b.unsqueeze(0))) / 16)
    S = s[1] * decay.unsqueeze(-2) + v.unsqueeze(-1) * k.unsqueeze(-2)
    return read(S, q * q.shape[-1] ** -0.5) * silu(gate).flatten(1), S


@cell
def delta_net_cell(
    x, h, S: Heads(4), W: Members(b=Size(4)), E: Fixed(of_head), P: Fixed(1.0, size=Heads(4)), s: Fixed(root)
):
    """DeltaNet: what the memory gives for a key is replaced by a new value, by a share of one gate a head."""
    q, k, v = W.q @ x, W.k @ x, W.v @ x
    q, k, v = q * cello.sigmoid(q), k * cello.sigmoid(k), v * cello.sigmoid(v)
    q, k = q / cello.sqrt(P @ (q * q)), k / cello.sqrt(P @ (k * k))
    S = S + outer(cello.sigmoid(E @ (W.b @ x)) * (v - S @ k), k)
    return S @ (s * q), S


@real(
    "DeltaNet, 4 heads",
    "fla-org/flash-linear-attention, delta_rule recurrent; Yang et al. 2024",
    delta_net_cell,
    stacked="""
    W: W.q W.k W.v
    Wb: W.b
    """,
    begin=no_memory,
)
def delta_net(x, s, p):
    q, k, v = (heads(silu(part)) for part in linear(x, p.W).chunk(3, 1))
    q, k = normalize(q, dim=-1), normalize(k, dim=-1)
    beta = sigmoid(linear(x, p.Wb)).unsqueeze(-1)
    new = beta * (v - (s[1] @ k.unsqueeze(-1)).squeeze(-1))
    S = s[1] + new.unsqueeze(-1) * k.unsqueeze(-2)
    return read(S, q * q.shape[-1] ** -0.5), S


@cell
def rwkv7_cell(  # noqa: PLR0913, PLR0917
    x, h, S: Heads(4), W, w, a, kk, ka, P: Fixed(1.0, size=Heads(4))
):
    """RWKV-7's time mixing, without token shift: a key is removed from the memory before another is added."""
    decay = cello.exp(-0.606531 * cello.sigmoid(w + W.w @ x))
    gate, k = cello.sigmoid(a + W.a @ x), W.k @ x
    removed = kk * k / cello.sqrt(P @ (kk * k * kk * k))
    S = columns(decay) * S - outer(S @ removed, removed * gate) + outer(W.v @ x, k * (1 + (gate - 1) * ka))
    return S @ (W.r @ x), S


@real(
    "RWKV-7, 4 heads, time mixing",
    "BlinkDL/RWKV-LM, RWKV-v7; Peng et al. 2025",
    rwkv7_cell,
    stacked="""
    W: W.r W.w W.k W.v W.a
    w a kk ka
    """,
    begin=no_memory,
)
def rwkv7(x, s, p):
    r, w, k, v, a = linear(x, p.W).chunk(5, 1)
    decay = heads(torch.exp(-0.606531 * sigmoid(p.w + w)))
    a = sigmoid(p.a + a)
    removed = normalize(heads(k * p.kk), dim=-1)
    k, v, r = heads(k * (1 + (a - 1) * p.ka)), heads(v), heads(r)
    S = s[1]
    old = (S @ removed.unsqueeze(-1)).squeeze(-1)
    S = S * decay.unsqueeze(-2) - old.unsqueeze(-1) * (removed * heads(a)).unsqueeze(-2)
    S = S + v.unsqueeze(-1) * k.unsqueeze(-2)
    return read(S, r), S


@cell
def mamba2_cell(x, h, S: Heads(4), W: Members(t=Size(4)), b: Size(4), A: Size(4), D, E: Fixed(of_head)):
    """Mamba-2's state-space layer, without its convolution: one step size and one decay a head, B and C a group."""
    u, B, C = W.u @ x, W.B @ x, W.C @ x
    u, B, C = u * cello.sigmoid(u), B * cello.sigmoid(B), C * cello.sigmoid(C)
    t = cello.softplus(W.t @ x + b)
    S = rows(E @ cello.exp(-cello.exp(A) * t)) * S + outer((E @ t) * u, B)
    return S @ C + D * u, S


@real(
    "Mamba-2, 4 heads",
    "state-spaces/mamba, modules/ssd_minimal.py, a group a head; Dao & Gu 2024",
    mamba2_cell,
    stacked="""
    W: W.u W.B W.C
    Wt: W.t
    b A D
    """,
    begin=no_memory,
)
def mamba2(x, s, p):
    u, B, C = (heads(silu(part)) for part in linear(x, p.W).chunk(3, 1))
    dt = softplus(linear(x, p.Wt, p.b))
    decay = torch.exp(dt * -torch.exp(p.A)).view(-1, HEADS, 1, 1)
    S = decay * s[1] + (dt.unsqueeze(-1) * u).unsqueeze(-1) * B.unsqueeze(-2)
    return read(S, C) + p.D * u.flatten(1), S
