# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, disable-error-code="valid-type"
"""Spiking networks with surrogate gradients."""

from __future__ import annotations

import math

import torch
from torch.nn.functional import linear

from cello import Fixed, Learned, Scalar, cell, where
from cello.cells.functions import stop
from cello.cells.load import zoo
from real_cells.real import real

ZOO = zoo()


class Surrogate(torch.autograd.Function):
    """A spike where u > 0; its derivative is given."""

    @staticmethod
    def forward(ctx, u, slope):
        ctx.save_for_backward(slope)
        return (u > 0).to(u.dtype)

    @staticmethod
    def backward(ctx, upstream):
        return upstream * ctx.saved_tensors[0], None


def decays(p):
    p.alpha = torch.exp(-1 / p.tau)
    p.rho_alpha = torch.exp(-1 / p.rho) if hasattr(p, "rho") else None


@real("LIF", "fzenke/spytorch; Neftci et al. 2019", ZOO["lif"], stacked="W U tau", once=decays)
def lif(x, s, p):
    z, v = s
    v = p.alpha * v + linear(x, p.W) + linear(z, p.U) - z
    u = v - 1
    return Surrogate.apply(u, 1 / (1 + 10 * u.detach().abs()) ** 2), v


@real("LSNN", "IGITUGraz/LSNN-official; Bellec et al. 2018", ZOO["lsnn"], stacked="W U tau rho", once=decays)
def lsnn(x, s, p):
    z, v, a = s
    v = p.alpha * v + linear(x, p.W) + linear(z, p.U) - z * (1 + 1.8 * a)
    a = p.rho_alpha * a + (1 - p.rho_alpha) * z
    threshold = 1 + 1.8 * a
    u = (v - threshold) / threshold
    return Surrogate.apply(u, 0.3 * (1 - u.detach().abs()).clamp(min=0)), v, a


@cell
def radlif_cell(  # noqa: PLR0913, PLR0917
    x,
    s,
    u,
    w,
    W,
    V,
    alpha: Learned(0.82, 0.96),
    beta: Learned(0.97, 0.99),
    a: Learned(-1.0, 1.0),
    b: Learned(0.0, 2.0),
    M: Fixed(lambda i, j: where(i > j, 1, where(j > i, 1, 0))),
):
    """Recurrent adaptive LIF; the surrogate is a box of width 1 around the threshold 1."""
    w = beta * w + a * u + b * s
    u = alpha * (u - s) + (1 - alpha) * (W @ x + (M * V) @ s - w)
    box = where(abs(u - 1) > 0.5, 0, 0.5)
    s = stop(where(u > 1, 1, 0)) + box * (u - stop(u))
    return s, u, w


def without_diagonal(p):
    p.recurrent = p.V * (1 - torch.eye(len(p.V), dtype=p.V.dtype))


@real(
    "RadLIF",
    "idiap/sparch, models/snns.py; Bittar & Garner 2022",
    radlif_cell,
    stacked="W V alpha beta a b",
    gain=12.0,
    once=without_diagonal,
)
def radlif(x, state, p):
    s, u, w = state
    w = p.beta * w + p.a * u + p.b * s
    u = p.alpha * (u - s) + (1 - p.alpha) * (linear(x, p.W) + linear(s, p.recurrent) - w)
    box = torch.where((u.detach() - 1).abs() > 0.5, 0.0, 0.5)
    return Surrogate.apply(u - 1, box), u, w


@cell
def synaptic_cell(x, z, i, v, W, U, alpha: Scalar(0.9), beta: Scalar(0.8)):
    """Recurrent second-order LIF with a synaptic current i; the surrogate is that of the arc tangent."""
    i = alpha * i + W @ x + U @ z
    v = beta * v + i - stop(where(v > 1, 1, 0))
    u = v - 1
    slope = stop(1 / (1 + (math.pi * u) ** 2))
    return stop(where(u > 0, 1, 0)) + slope * (u - stop(u)), i, v


@real("RSynaptic", "snntorch, _neurons/rsynaptic.py", synaptic_cell, stacked="W U alpha beta")
def synaptic(x, s, p):
    z, i, v = s
    reset = (v > 1).to(v.dtype)
    i = p.alpha * i + linear(x, p.W) + linear(z, p.U)
    v = p.beta * v + i - reset
    u = v - 1
    return Surrogate.apply(u, 1 / (1 + (math.pi * u.detach()) ** 2)), i, v
