# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, disable-error-code="valid-type"
"""Gated units of one state and their relatives."""

from __future__ import annotations

import torch
from torch import cat, relu, sigmoid, tanh
from torch.nn.functional import layer_norm, linear, softplus

import cello
from cello import Scalar, cell
from cello.cells.load import zoo
from real_cells.real import real

EDGE_ML = "EdgeML, edgeml_pytorch/graph/rnn.py; Kusupati et al. 2018"
RECURRENT = "torchrecurrent, {}_cell.py; {}"
ZOO = zoo()


@real(
    "RHN, depth 3",
    RECURRENT.format("rhn", "Zilly et al. 2017"),
    ZOO["rhn"],
    stacked="""
    W1: W.h W.t | U.h1 U.t1
    W2: U.h2 U.t2
    W3: U.h3 U.t3
    b1: b.h1 b.t1
    b2: b.h2 b.t2
    b3: b.h3 b.t3
    """,
)
def rhn(x, s, p):
    (h,) = s
    given = cat([x, h], 1)
    for weight, bias in ((p.W1, p.b1), (p.W2, p.b2), (p.W3, p.b3)):
        content, transform = linear(given, weight, bias).chunk(2, 1)
        h = (tanh(content) - h) * sigmoid(transform) + h
        given = h
    return (h,)


@cell
def scrn_cell(x, h, s, W, U, V, b, c, d, alpha: Scalar(0.5)):  # noqa: PLR0913, PLR0917
    """Structurally constrained recurrent network: a slow context s beside h."""
    s = (1 - alpha) * (W.s @ x + b.s) + alpha * s
    n = cello.sigmoid(W.h @ x + b.h + V.h @ s + d.h + U.h @ h + c.h)
    h = cello.tanh(U.y @ n + c.y + V.y @ s + d.y)
    return h, s


@real(
    "SCRN",
    RECURRENT.format("scrn", "Mikolov et al. 2015"),
    scrn_cell,
    stacked="""
    Wx: W.s W.h
    Wh: U.h U.y
    Wc: V.h V.y
    bx: b.s b.h
    bh: c.h c.y
    bc: d.h d.y
    alpha
    """,
)
def scrn(x, s, p):
    h, context = s
    slow, fast = linear(x, p.Wx, p.bx).chunk(2, 1)
    (inner, outer), (inner_bias, outer_bias) = p.Wh.chunk(2), p.bh.chunk(2)
    context = (1 - p.alpha) * slow + p.alpha * context
    to_hidden, to_output = linear(context, p.Wc, p.bc).chunk(2, 1)
    hidden = sigmoid(fast + linear(h, inner, inner_bias) + to_hidden)
    return tanh(linear(hidden, outer, outer_bias) + to_output), context


@cell
def star_cell(x, h, W, U, b, c):
    """Stackable recurrent cell: the content is of the frame alone."""
    z = cello.tanh(W.z @ x + b.z)
    k = cello.sigmoid(W.k @ x + b.k + U @ h + c)
    return cello.tanh((1 - k) * h + k * z)


@real(
    "STAR",
    RECURRENT.format("star", "Turkoglu et al. 2019"),
    star_cell,
    stacked="""
    Wx: W.z W.k
    Wh: U
    bx: b.z b.k
    bh: c
    """,
)
def star(x, s, p):
    (h,) = s
    content, gate = linear(x, p.Wx, p.bx).chunk(2, 1)
    k = sigmoid(gate + linear(h, p.Wh, p.bh))
    return (tanh((1.0 - k) * h + k * tanh(content)),)


@cell
def nbr_cell(x, h, W, U, b):
    """Recurrently neuromodulated bistable cell."""
    a = 1 + cello.tanh(W.a @ x + U.a @ h + b.a)
    c = cello.sigmoid(W.c @ x + U.c @ h + b.c)
    return c * h + (1 - c) * cello.tanh(W.n @ x + a * h + b.n)


@real(
    "nBRC",
    RECURRENT.format("br", "Vecoven et al. 2021"),
    nbr_cell,
    stacked="""
    Wx: W.a W.c W.n
    Wh: U.a U.c
    b: b.a b.c b.n
    """,
)
def nbr(x, s, p):
    (h,) = s
    modulation, update, content = linear(x, p.Wx, p.b).chunk(3, 1)
    to_modulation, to_update = linear(h, p.Wh).chunk(2, 1)
    a, c = 1 + tanh(modulation + to_modulation), sigmoid(update + to_update)
    return (c * h + (1 - c) * tanh(content + a * h),)


@cell
def br_cell(x, h, W, w, b):
    """Bistable cell: every unit sees its own past only."""
    a = 1 + cello.tanh(W.a @ x + w.a * h + b.a)
    c = cello.sigmoid(W.c @ x + w.c * h + b.c)
    return c * h + (1 - c) * cello.tanh(W.n @ x + a * h + b.n)


@real(
    "BRC",
    "nvecoven/BRC; Vecoven et al. 2021",
    br_cell,
    stacked="""
    Wx: W.a W.c W.n
    wa: w.a
    wc: w.c
    b: b.a b.c b.n
    """,
)
def br(x, s, p):
    (h,) = s
    modulation, update, content = linear(x, p.Wx, p.b).chunk(3, 1)
    c = sigmoid(update + p.wc * h)
    return (c * h + (1.0 - c) * tanh(content + (1 + tanh(modulation + p.wa * h)) * h),)


@cell
def plrnn_cell(x, h, A, W, U, b):
    """Piecewise-linear recurrent network: h decays unit by unit, its positive part is mixed."""
    return A * h + U @ cello.relu(h) + W @ x + b


@real("PLRNN", RECURRENT.format("plrnn", "Koppe et al. 2019"), plrnn_cell, stacked="A W U b")
def plrnn(x, s, p):
    (h,) = s
    return (p.A * h + linear(relu(h), p.U) + linear(x, p.W, p.b),)


@cell
def intersection_cell(x, y, h, W, U, b, c):
    """Intersection RNN: y is the output of depth, h the state of time; for D and H that differ, W.x x is the frame."""
    content = cello.relu(W.y @ x + U.y @ h + b.y + c.y)
    n = cello.tanh(W.h @ x + U.h @ h + b.h + c.h)
    p = cello.sigmoid(W.p @ x + U.p @ h + b.p + c.p)
    g = cello.sigmoid(W.g @ x + U.g @ h + b.g + c.g)
    y = p * (W.x @ x) + (1 - p) * content
    h = g * h + (1 - g) * n
    return y, h


@real(
    "Intersection RNN",
    RECURRENT.format("intersectionrnn", "Collins et al. 2017"),
    intersection_cell,
    stacked="""
    Wx: W.y W.h W.p W.g
    Wh: U.y U.h U.p U.g
    bx: b.y b.h b.p b.g
    bh: c.y c.h c.p c.g
    Wp: W.x
    """,
)
def intersection(x, s, p):
    _, h = s
    gates = linear(x, p.Wx, p.bx) + linear(h, p.Wh, p.bh)
    depth, content, gate_y, gate_h = gates.chunk(4, 1)
    gate_y, gate_h = sigmoid(gate_y), sigmoid(gate_h)
    y = gate_y * linear(x, p.Wp) + (1.0 - gate_y) * relu(depth)
    return y, gate_h * h + (1.0 - gate_h) * tanh(content)


@real(
    "CFN",
    RECURRENT.format("cfn", "Laurent & von Brecht 2017"),
    ZOO["cfn"],
    stacked="""
    Wx: W.f W.i W.n
    Wh: U.f U.i
    b: b.f b.i
    """,
)
def cfn(x, s, p):
    (h,) = s
    forget, given, content = linear(x, p.Wx).chunk(3, 1)
    to_forget, to_given = linear(h, p.Wh, p.b).chunk(2, 1)
    return (sigmoid(forget + to_forget) * tanh(h) + sigmoid(given + to_given) * tanh(content),)


def both_of_all_frames(x, p):
    return linear(x, p.W, p.b)


@real(
    "minGRU",
    "lucidrains/minGRU-pytorch, sequential form; Feng et al. 2024",
    ZOO["mingru"],
    stacked="""
    W: W.z W.n
    b: b.z b.n
    """,
    before=both_of_all_frames,
)
def mingru(x, s, p):
    (h,) = s
    gate, content = x.chunk(2, 1)
    return (torch.lerp(h, content, sigmoid(gate)),)


@real(
    "FastGRNN",
    EDGE_ML,
    ZOO["fastgrnn"],
    stacked="""
    W: W
    U: U
    bz: b.z
    bn: b.n
    zeta nu
    """,
)
def fastgrnn(x, s, p):
    (h,) = s
    pre = linear(x, p.W) + linear(h, p.U)
    z, c = sigmoid(pre + p.bz), tanh(pre + p.bn)
    return (z * h + (sigmoid(p.zeta) * (1.0 - z) + sigmoid(p.nu)) * c,)


@real("IndRNN", "StefOe/indrnn-pytorch; Li et al. 2018", ZOO["indrnn"], stacked="W u b")
def indrnn(x, s, p):
    (h,) = s
    return (relu(linear(x, p.W, p.b) + p.u * h),)


def normalised_frames(x, p):
    H = p.bn.numel()
    gates, content = linear(x, p.Wx).split([2 * H, H], -1)
    return cat([layer_norm(gates, (2 * H,), p.sx) + p.bg, layer_norm(content, (H,), p.sn) + p.bn], -1)


@real(
    "layer-norm GRU",
    "lmnt-com/haste, layer_norm_gru; Ba et al. 2016",
    ZOO["gru-layer-norm"],
    stacked="""
    Wx: W.r W.z W.n
    Wh: U.r U.z U.n
    sx: s.wr s.wz
    sn: s.wn
    sh: s.ur s.uz
    su: s.un
    bg: b.r b.z
    bn: b.n
    bu: b.u
    """,
    before=normalised_frames,
)
def gru_layer_norm(x, s, p):
    (h,) = s
    H = h.shape[1]
    given, content = x.split([2 * H, H], 1)
    fed, past = linear(h, p.Wh).split([2 * H, H], 1)
    r, z = sigmoid(given + layer_norm(fed, (2 * H,), p.sh)).chunk(2, 1)
    n = tanh(content + r * (layer_norm(past, (H,), p.su) + p.bu))
    return (n + z * (h - n),)


@real(
    "GRU",
    "PyTorch, nn.GRUCell; Cho et al. 2014",
    ZOO["gru"],
    stacked="""
    Wx: W.r W.z W.n
    Wh: U.r U.z U.n
    bx: b.r b.z b.n
    bh: c.r c.z c.n
    """,
)
def gru(x, s, p):
    (h,) = s
    (wr, wz, wn), (ur, uz, un) = linear(x, p.Wx, p.bx).chunk(3, 1), linear(h, p.Wh, p.bh).chunk(3, 1)
    n = tanh(wn + sigmoid(wr + ur) * un)
    return (n + sigmoid(wz + uz) * (h - n),)


@real(
    "MGU",
    RECURRENT.format("mgu", "Zhou et al. 2016"),
    ZOO["mgu"],
    stacked="""
    Wx: W.f W.n
    Wf: U.f
    Wn: U.n
    b: b.f b.n
    """,
)
def mgu(x, s, p):
    (h,) = s
    gate, content = linear(x, p.Wx, p.b).chunk(2, 1)
    f = sigmoid(gate + linear(h, p.Wf))
    return ((1 - f) * h + f * tanh(content + linear(f * h, p.Wn)),)


@real("ATR", "torchrecurrent, atr_cell.py; Zhang et al. 2018", ZOO["atr"], stacked="W U b")
def atr(x, s, p):
    (h,) = s
    a, b = linear(x, p.W, p.b), linear(h, p.U)
    return (sigmoid(a + b) * a + sigmoid(a - b) * h,)


@real(
    "Li-GRU",
    "speechbrain, nnet/RNN.py, without batch normalisation; Ravanelli et al. 2018",
    ZOO["ligru"],
    stacked="""
    W: W.n W.z
    U: U.n U.z
    b: b.n b.z
    """,
    before=both_of_all_frames,
)
def ligru(x, s, p):
    (h,) = s
    content, gate = (x + linear(h, p.U)).chunk(2, 1)
    z = sigmoid(gate)
    return (z * h + (1 - z) * relu(content),)


@real(
    "JANET",
    "torchrecurrent, janet_cell.py; van der Westhuizen & Lasenby 2018",
    ZOO["janet"],
    stacked="""
    Wx: W.f W.n
    Wh: U.f U.n
    b: b.f b.n
    """,
)
def janet(x, s, p):
    (h,) = s
    gate, content = (linear(x, p.Wx, p.b) + linear(h, p.Wh)).chunk(2, 1)
    return (sigmoid(gate) * h + (1 - sigmoid(gate - 1)) * tanh(content),)


@real(
    "MinimalRNN",
    RECURRENT.format("minimalrnn", "Chen 2017"),
    ZOO["minimalrnn"],
    stacked="""
    W: W
    Wu: U | V
    bz: b.n
    bu: b.u
    """,
)
def minimalrnn(x, s, p):
    (h,) = s
    z = tanh(linear(x, p.W, p.bz))
    u = sigmoid(linear(cat([h, z], 1), p.Wu, p.bu))
    return (u * h + (1 - u) * z,)


def hard_sigmoid(v):
    """torch's own has a derivative of 1 / 6 in single precision, of double values too."""
    return (v / 6 + 0.5).clamp(0, 1)


@cell
def sgu_cell(x, h, W, U, b, c):
    """Simple gated unit: the frame multiplies the state before the recurrent product."""
    g = cello.tanh(U.g @ ((W.g @ x + b.g) * h) + c.g)
    z = cello.minimum(cello.maximum((W.z @ x + b.z + U.z @ h + c.z) / 6 + 0.5, 0), 1)
    return (1 - z) * h + z * cello.softplus(g * h)


@real(
    "SGU",
    RECURRENT.format("sgu", "Gao & Glowacka 2016"),
    sgu_cell,
    stacked="""
    Wx: W.g W.z
    Wg: U.g
    Wz: U.z
    bx: b.g b.z
    cg: c.g
    cz: c.z
    """,
)
def sgu(x, s, p):
    (h,) = s
    to_content, to_gate = linear(x, p.Wx, p.bx).chunk(2, 1)
    content = softplus(tanh(linear(to_content * h, p.Wg, p.cg)) * h)
    z = hard_sigmoid(to_gate + linear(h, p.Wz, p.cz))
    return ((1.0 - z) * h + z * content,)


@cell
def dsgu_cell(x, h, W, U, b, c):
    """Deep simple gated unit: one more matrix behind the content."""
    g = cello.tanh(U.g @ ((W.g @ x + b.g) * h) + c.g)
    z = cello.minimum(cello.maximum((W.z @ x + b.z + U.z @ h + c.z) / 6 + 0.5, 0), 1)
    return (1 - z) * h + z * cello.sigmoid(U.o @ (g * h))


@real(
    "DSGU",
    RECURRENT.format("sgu", "Gao & Glowacka 2016"),
    dsgu_cell,
    stacked="""
    Wx: W.g W.z
    Wg: U.g
    Wz: U.z
    Wo: U.o
    bx: b.g b.z
    cg: c.g
    cz: c.z
    """,
)
def dsgu(x, s, p):
    (h,) = s
    to_content, to_gate = linear(x, p.Wx, p.bx).chunk(2, 1)
    content = sigmoid(linear(tanh(linear(to_content * h, p.Wg, p.cg)) * h, p.Wo))
    z = hard_sigmoid(to_gate + linear(h, p.Wz, p.cz))
    return ((1.0 - z) * h + z * content,)


@cell
def sgrn_cell(x, h, W, U, b, c):
    """Simple gated recurrent network: one product of the frame is both gate and content."""
    v = W @ x + b
    f = cello.sigmoid(v + U @ h + c)
    return cello.tanh((1 - f) * v + f * h)


@real("SGRN", RECURRENT.format("sgrn", "doi 10.1049/gtd2.12056"), sgrn_cell, stacked="W U b c")
def sgrn(x, s, p):
    (h,) = s
    v = linear(x, p.W, p.b)
    f = sigmoid(v + linear(h, p.U, p.c))
    return (tanh((1.0 - f) * v + f * h),)


@cell
def lightru_cell(x, h, W, U, b, c):
    """Light recurrent unit: the content is of the frame alone, and the state has no function around it."""
    f = cello.sigmoid(W.f @ x + b.f + U @ h + c)
    return (1 - f) * h + f * cello.tanh(W.n @ x + b.n)


@real(
    "LightRU",
    RECURRENT.format("lightru", "Electronics 13(16), 3204"),
    lightru_cell,
    stacked="""
    Wx: W.n W.f
    Wh: U
    bx: b.n b.f
    bh: c
    """,
)
def lightru(x, s, p):
    (h,) = s
    content, gate = linear(x, p.Wx, p.bx).chunk(2, 1)
    f = sigmoid(gate + linear(h, p.Wh, p.bh))
    return ((1.0 - f) * h + f * tanh(content),)
