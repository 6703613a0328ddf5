"""Cells that do the same several times in a step, which compiled forms write as a loop."""

from __future__ import annotations

from dataclasses import replace

from cello.cells.definition import Cell
from cello.cells.definition import cell as make_cell
from cello.cells.functions import exp, sigmoid, tanh
from cello.cells.graph import GraphBuilder, moved


def liquid(unfolds: int) -> Cell:
    """Liquid time constants."""

    def own(x, h, W, U, b, tau, A):  # type: ignore[no-untyped-def]
        for _ in range(unfolds):
            f = sigmoid(W @ x + U @ h + b)
            h = (h + f * A / unfolds) / (1 + (exp(tau) + f) / unfolds)
        return h

    return make_cell(own)


def runge_kutta(steps: int) -> Cell:
    """A continuous-time network, h' = tanh(W x + U h + b) - h."""

    def own(x, h, W, U, b):  # type: ignore[no-untyped-def]
        def slope(h):  # type: ignore[no-untyped-def]
            return tanh(W @ x + U @ h + b) - h

        for _ in range(steps):
            first = slope(h)
            second = slope(h + first / (2 * steps))
            third = slope(h + second / (2 * steps))
            h = h + (first + 2 * second + 2 * third + slope(h + third / steps)) / (6 * steps)
        return h

    return make_cell(own)


@make_cell
def nested(x, h, W, U, V, b):  # type: ignore[no-untyped-def]
    for _ in range(6):
        for _ in range(5):
            h = h + 0.1 * tanh(U @ h + W @ x + b)
        h = h * sigmoid(V @ h)
    return h


@make_cell
def own_parameters(x, h, W, U, b):  # type: ignore[no-untyped-def]
    """Each turn has matrices and biases of its own."""
    for k in range(16):
        h = h + 0.1 * tanh(getattr(U, f"u{k}") @ h + getattr(b, f"b{k}")) * sigmoid(getattr(W, f"w{k}") @ x)
    return h


@make_cell
def one_other_parameter(x, h, W, U, V, b):  # type: ignore[no-untyped-def]
    """Of equal turns the fifth multiplies by another matrix, the seventh adds another bias and the ninth a number."""
    for k in range(18):
        bias = b.other if k == 6 else b.all + 0.5 if k == 8 else b.all
        h = h + 0.1 * tanh((V if k == 4 else U) @ h + W @ x + bias)
    return h


@make_cell
def from_outside(x, h, c, W, U, b):  # type: ignore[no-untyped-def]
    """A gate and a state from before the loop, read at every turn."""
    z = sigmoid(W @ x + U.z @ h)
    for _ in range(16):
        h = h + z * tanh(U.h @ h + b + c)
    return h, z * c + h


@make_cell
def two_at_once(x, h, m, W, U, b):  # type: ignore[no-untyped-def]
    """Each turn reads what the two turns before it computed."""
    p, q = h, m
    for _ in range(12):
        p, q = tanh(U.a @ q + W @ x) - 0.1 * q, p + 0.1 * sigmoid(U.b @ p + b)
    return p, q


@make_cell
def normalised(x, h, W, U, b):  # type: ignore[no-untyped-def]
    """Turns with sums over units, whose values stand once for each clip."""
    for _ in range(15):
        a = U @ h + W @ x + b
        a = a - a.mean()
        h = 0.5 * h + tanh(a / (a * a).sum() + a)
    return h


@make_cell
def names_of_loops(x, h, turn, W, p1, p1_of, p2):  # type: ignore[no-untyped-def]
    """Values that are called as a loop's own variables may be."""
    for _ in range(16):
        p3 = tanh(W.p4 @ h + p1 @ x + p2 * turn)
        h, turn = h + 0.1 * p3 * p1_of, turn - 0.1 * p3
    return h, turn


CELLS = {
    "LTC, 32 unfolds": liquid(32),
    "RK4, 10 steps": runge_kutta(10),
    "a loop in a loop": nested,
    "own parameters": own_parameters,
    "one other parameter": one_other_parameter,
    "a value from outside": from_outside,
    "two values at once": two_at_once,
    "sums over units": normalised,
}


def unfolded(cell: Cell, turns: int) -> Cell:
    """The cell that takes so many steps of this one for each frame."""
    builder, now = GraphBuilder(), dict[str, int]()
    for _ in range(turns):
        place: dict[int, int] = {}
        for k, node in enumerate(cell.graph.nodes):
            known = now.get(str(node.name)) if node.op == "state" else None
            place[k] = builder.add(moved(node, place)) if known is None else known
        now = {state: place[k] for state, k in zip(cell.graph.states, cell.graph.outputs, strict=True)}
    return replace(cell, graph=builder.graph(cell.graph.states, list(now.values())))
