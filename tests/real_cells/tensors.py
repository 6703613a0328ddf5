# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, disable-error-code="valid-type"
"""Matrices that learned tensors of three dimensions make of each frame or state."""

from __future__ import annotations

import torch
from torch import cat, einsum, relu, sigmoid, softmax, tanh
from torch.nn.functional import linear

import cello
from cello import Fixed, Heads, Parts, Size, cell, exp, flatten, matrix, mod, outer, rows, stop, where
from real_cells.memories import one_matrix, times
from real_cells.real import real
from real_cells.sized import HEADS


@cell
def neural_cde_cell(x, h, last: Size("D"), U, a, V, b):
    """The state follows the changes of the frames by a matrix (H, D) that two layers make of it."""
    field = matrix(cello.tanh(V @ cello.relu(U @ h + a) + b), Size("H", "D"))
    return h + field @ (x - last), x


def path(B, H):
    return torch.zeros(B, H), torch.zeros(B, 1)


@real(
    "neural CDE, a step a frame",
    "patrickkidger/NeuralCDE, controldiffeq; Kidger et al. 2020",
    neural_cde_cell,
    stacked="U\na\nV\nb",
    begin=path,
)
def neural_cde(x, st, p):
    h, last = st
    field = tanh(linear(relu(linear(h, p.U, p.a)), p.V, p.b)).view(len(h), h.shape[1], -1)
    return h + (field @ (x - last).unsqueeze(-1)).squeeze(-1), x.clone()


@cell
def linear_cde_cell(x, h, last: Size("D"), A, B):
    """A linear CDE whose matrices are block-diagonal, of four blocks."""
    change = x - last
    return h + matrix(A @ change, Heads(4)) @ h + B @ change, x


@real(
    "linear CDE, 4 blocks",
    "Benjamin-Walker/structured-linear-cdes, block-diagonal; Walker et al. 2025",
    linear_cde_cell,
    stacked="A\nB",
    begin=path,
    gain=0.7,
)
def linear_cde(x, st, p):
    h, last = st
    change, width = x - last, h.shape[1] // HEADS
    blocks = linear(change, p.A).view(-1, HEADS, width, width)
    moved = (blocks @ h.view(-1, HEADS, width, 1)).flatten(1)
    return h + moved + linear(change, p.B), x.clone()


@cell
def mass_conserving_cell(x: Parts("aux", mass=1), h, c, W, U, b, one: Fixed(1.0)):
    """MC-LSTM: the columns of a matrix made of each frame share out what is stored, so that no mass is lost or made."""
    shares = c / (abs(c).sum() + 1e-5)
    i = cello.softmax(W.i @ x.aux + U.i @ shares + b.i)
    o = cello.sigmoid(W.o @ x.aux + U.o @ shares + b.o)
    r = W.r @ x.aux + U.r @ shares + b.r
    R = matrix(exp(r - stop(r.max())), Heads(1))
    m = R @ (c / (R.T @ one)) + i * x.mass
    return o * m, (1 - o) * m


@real(
    "mass-conserving LSTM",
    "ml-jku/mc-lstm, with softmax; Hoedt et al. 2021, equations 3 to 7",
    mass_conserving_cell,
    stacked="W_i: W.i | U.i\nW_o: W.o | U.o\nW_r: W.r | U.r\nb_i: b.i\nb_o: b.o\nb_r: b.r",
)
def mass_conserving(x, st, p):
    _, c = st
    aux, mass = x[:, :-1], x[:, -1:]
    seen = cat([aux, c / (c.abs().sum(1, keepdim=True) + 1e-5)], 1)
    i = softmax(linear(seen, p.W_i, p.b_i), 1)
    R = softmax(linear(seen, p.W_r, p.b_r).view(len(c), c.shape[1], -1), 1)
    o = sigmoid(linear(seen, p.W_o, p.b_o))
    m = times(R, c) + i * mass
    return o * m, (1 - o) * m


@cell
def second_order_cell(x, h, W, b):
    """A second-order network: each unit weighs all products of a unit and a feature."""
    return cello.sigmoid(matrix(W @ x, Heads(1)) @ h + b)


@real(
    "second-order RNN",
    "Giles et al. 1992",
    second_order_cell,
    stacked="W\nb",
)
def second_order(x, st, p):
    (h,) = st
    units = h.shape[1]
    return (sigmoid(einsum("ijk,bj,bk->bi", p.W.view(units, units, -1), h, x) + p.b),)


@cell
def isan_cell(x, h, W, a, V, b):
    """An input-switched affine network: every frame brings its own matrix and its own bias."""
    return matrix(W @ x + a, Heads(1)) @ h + V @ x + b


@real(
    "input-switched affine network",
    "Foerster et al. 2017, of frames of real numbers",
    isan_cell,
    stacked="W\na\nV\nb",
    gain=0.5,
)
def isan(x, st, p):
    (h,) = st
    return (times(linear(x, p.W, p.a).view(len(h), h.shape[1], -1), h) + linear(x, p.V, p.b),)


@cell
def dense_ssm_cell(x, h, A, W: Size(6), B):
    """A state-space model whose dense matrix is a mixture of six, chosen by the frame."""
    return matrix(A @ cello.softmax(W @ x), Heads(1)) @ h + B @ x


@real(
    "selective dense SSM, 6 matrices",
    "Terzić et al. 2025, the recurrence",
    dense_ssm_cell,
    stacked="A\nW\nB",
    gain=0.6,
)
def dense_ssm(x, st, p):
    (h,) = st
    units, weight = h.shape[1], softmax(linear(x, p.W), 1)
    return (einsum("bk,ijk,bj->bi", weight, p.A.view(units, units, -1), h) + linear(x, p.B),)


@cell
def programmed_cell(x, h, S: Heads(1), W, b, V):
    """A slow network that has an output for each weight of a fast one, which it changes at every frame."""
    S = cello.tanh(S + matrix(W @ x + b, Heads(1)))
    return cello.tanh(S @ (V @ x)), S


@real(
    "fast weights, an output for each",
    "Schmidhuber 1992, without addressing",
    programmed_cell,
    stacked="W\nb\nV",
    begin=one_matrix,
)
def programmed(x, st, p):
    S = tanh(st[1] + linear(x, p.W, p.b).view(st[1].shape))
    return tanh(times(S[:, 0], linear(x, p.V))), S


@cell
def development_cell(
    x,
    h,
    last: Size("D"),
    Z: Fixed(lambda i, j, H: where(mod(i, H / HEADS) == j, 1, 0), size=Heads(HEADS)),
    A,
    U,
    b,
):
    """The development of a path in four groups of matrices: a product of exponentials of what each change brings."""
    M = matrix(A @ (x - last), Heads(HEADS))
    Z = Z + Z @ (M + M @ M / 2 + M @ M @ M / 6)
    return cello.tanh(U @ flatten(Z) + b), x, Z


def identity(B, H):
    width = H // HEADS
    return torch.zeros(B, H), torch.zeros(B, 1), torch.eye(width).expand(B, HEADS, width, width)


@real(
    "path development, 4 groups",
    "PDevNet/DevNet, GL, with exponentials to the third order; Lou et al. 2022",
    development_cell,
    stacked="A\nU\nb",
    begin=identity,
    gain=0.3,
)
def development(x, st, p):
    _, last, Z = st
    M = linear(x - last, p.A).view(Z.shape)
    Z = Z @ (torch.eye(Z.shape[-1], dtype=x.dtype) + M + M @ M / 2 + M @ M @ M / 6)
    return tanh(linear(Z.flatten(1), p.U, p.b)), x.clone(), Z


def one_a_row(i, j):
    return where(i == j, 1, 0)


@cell
def kalman_cell(  # noqa: PLR0913, PLR0917 (a measurement's and the dynamics' parameters)
    x,
    h,
    P: Fixed(one_a_row, size=Heads(1)),
    A: Heads(1),
    w: Size(1),
    c,
    q,
    r: Size(1),
    eye: Fixed(one_a_row, size=Heads(1)),
):
    """A Kalman filter of one measurement a frame, with learned dynamics; P is the covariance of what it knows."""
    h, P = A @ h, A @ P @ A.T + rows(exp(q)) * eye
    k = P @ c
    k = k / ((c * k).sum() + exp(r))
    return h + k * (w @ x - (c * h).sum()), P - outer(k, P @ c)


def certain(B, H):
    return torch.zeros(B, H), torch.eye(H).expand(B, 1, H, H)


@real(
    "Kalman filter, one measurement",
    "Kalman 1960",
    kalman_cell,
    stacked="A\nw\nc q r",
    begin=certain,
)
def kalman(x, st, p):
    h, P = st[0], st[1][:, 0]
    h, P = linear(h, p.A), p.A @ P @ p.A.T + torch.diag(p.q.exp())
    k = (P @ p.c) / (einsum("i,bij,j->b", p.c, P, p.c) + p.r.exp()).unsqueeze(1)
    error = linear(x, p.w) - (h @ p.c).unsqueeze(1)
    return h + k * error, (P - einsum("bi,j,bjk->bik", k, p.c, P)).unsqueeze(1)
