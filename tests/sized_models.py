"""Weights for the cells of several sizes, what they mean in double precision, and models of them, for every form."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from cello.cells.definition import Cell
from cello.cells.fold import fold, folded_weights
from cello.compiler.reference import step
from cello.models.parts import Direction, ModelParts
from sized_cells import SIZED, Building

Array = NDArray[np.float32]


def computed() -> Cell:
    """What is the same at every step and changes a shape: a softmax and a norm of parameters, a decay for each row."""
    b = Building()
    x, h, S = b.x(), b.state("h"), b.state("S", "H,H/2")
    e = b("exp", b.learned("a", "H"))
    share = b("div", e, b.to("broadcast", b("total", e), "H"))
    rate = b("div", b.learned("s", ""), b.leaf("size", "H/2", ""))
    norm = b("sqrt", b("total", b("row_sum", b("mul", b.learned("U", "H,H/2"), b.learned("U", "H,H/2")))))
    u = b("add", b("product", b.learned("W", "H,D"), x), b("mul", b.to("broadcast", norm, "H"), b("mul", share, h)))
    decay = b("sigmoid", b("mul", b.to("rows", b.learned("a", "H"), "H,H/2"), b.learned("U", "H,H/2")))
    new = b("add", b("mul", decay, S), b("mul", rate, b.to("rows", b("tanh", u), "H,H/2")))
    same = b.to("rows", b("mul", rate, u), "H,H/2")  # as many equal elements in a row as a head has
    flat = b.to("broadcast", b("largest", b("abs", x)), "H")
    read = b("add", b("row_sum", b("mul", new, b.to("columns", h, "H,H/2"))), b("column_sum", same))
    h = b("tanh", b("add", b("add", read, b("row_sum", same)), b.to("broadcast", b("total", flat), "H")))
    return b.cell("computed", {"h": h, "S": new}, "a s U W")


CELLS = {**SIZED, "computed": computed()}
"""The cells of several sizes, and one that computes values of its parameters alone."""


def direction_of(cell: Cell, inputs: int, hidden: int, seed: int = 0, *, reverse: bool = False) -> Direction:
    """A direction with random weights, its states at random first values."""
    rng = np.random.default_rng(seed)
    shapes = cell.parameters(inputs, hidden)
    weights = {name: rng.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}
    first = {
        state: rng.normal(0, 0.4, sizes).astype(np.float32)
        for state, sizes in zip(cell.states, cell.state_sizes(inputs, hidden), strict=True)
    }
    return Direction(fold(cell)[0], folded_weights(cell, weights), reverse, first)


def sized_parts(cell: Cell, dimensions: int, hidden: int, labels: int, pooling: str = "mean") -> ModelParts:
    """A model of two layers of this cell with random weights."""
    rng = np.random.default_rng(1)
    first = direction_of(cell, dimensions, hidden, 2)
    between = cell.output_size(dimensions, hidden)
    width = cell.output_size(between, hidden)
    return ModelParts(
        mean=rng.normal(size=dimensions).astype(np.float32),
        deviation=rng.uniform(1, 2, dimensions).astype(np.float32),
        frame_stacking=1,
        layers=((first,), (direction_of(cell, between, hidden, 3),)),
        pooling=pooling,  # type: ignore[arg-type]
        score=(rng.normal(size=width).astype(np.float32), 0.1) if pooling == "attention" else None,
        head=(rng.normal(0, 0.4, (labels, width)).astype(np.float32), rng.normal(size=labels).astype(np.float32)),
        units=hidden,
    )


def meant(direction: Direction, x: NDArray[np.floating]) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """Outputs (T, L) of one clip (T, D) and the last states, node by node in double precision."""
    weights = {name: torch.from_numpy(value).double() for name, value in direction.weights.items()}
    states = [torch.from_numpy(direction.first[state]).double() for state in direction.cell.states]
    outputs = [torch.zeros(0)] * len(x)
    for t in reversed(range(len(x))) if direction.reverse else range(len(x)):
        leaves = {**weights, **dict(zip(direction.cell.states, states, strict=True))}
        states = step(direction.cell, torch.from_numpy(x[t]).double(), leaves)
        outputs[t] = states[0]
    return np.array([output.numpy() for output in outputs]), [state.numpy() for state in states]


def outputs_meant(parts: ModelParts, frames: NDArray[np.floating]) -> NDArray[np.float64]:
    """The last layer's outputs (T, W) for frames (T, D) of a clip, in double precision."""
    x = (frames - parts.mean.astype(np.float64)) / parts.deviation
    for layer in parts.layers:
        x = np.concatenate([meant(direction, x)[0] for direction in layer], axis=1)
    return x


def scores_meant(parts: ModelParts, frames: NDArray[np.floating]) -> NDArray[np.float64]:
    """The scores (C,) of a clip, in double precision."""
    y = outputs_meant(parts, frames)
    pooled = y[-1] if parts.pooling == "last" else y.mean(axis=0)
    if parts.score is not None:
        shares = np.exp(y @ parts.score[0])
        pooled = shares / shares.sum() @ y
    weight, bias = parts.head
    return np.asarray(weight.astype(np.float64) @ pooled + bias)
