"""Compute a trained classifier's scores with numpy: one clip at once, or step by step. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cello.cells.arrays import NUMPY, NUMPY_RESHAPING, Precision
from cello.cells.graph import Node, dependencies
from cello.cells.sizes import size
from cello.cells.specialise import frame_only, specialised
from cello.errors import CellError, unknown
from cello.models.frames import VALUE
from cello.models.parts import Direction, ModelParts

Floats = NDArray[np.float32]
Numbers = NDArray[np.floating]
"""What a model computes with: float32, or float64 where it is to be computed in that."""
States = list[list[tuple[Numbers, ...]]]
"""The states of every direction of every layer, (H,) unless the cell gives them another shape."""


class NumpyDirection:
    """One direction of one layer: what knows no state is computed for all frames at once, the rest step by step."""

    def __init__(self, direction: Direction, inputs: int, hidden: int, precision: Precision = "float32") -> None:
        self.number = np.dtype(precision).type
        cell, weights = specialised(direction.cell, direction.weights, inputs, hidden)
        self.cell, self.reverse, graph = cell, direction.reverse, cell.graph
        self.nodes, self.states, self.outputs = graph.nodes, graph.states, graph.outputs
        for node in self.nodes:
            if node.op not in (*NUMPY, *NUMPY_RESHAPING, "input", "state", "parameter", "constant"):
                raise CellError(unknown("operation of cells for numpy", node.op, NUMPY))
        needs, at_once = dependencies(self.nodes), frame_only(self.nodes)
        place = [k for k, node in enumerate(self.nodes) if node.args]
        self.per_frame = [k for k in place if k in at_once]
        self.per_step = [k for k in place if needs[k] and k not in at_once]
        self.operations = {k: self._operation(node, inputs, hidden) for k, node in enumerate(self.nodes) if node.args}
        self.values: list[Any] = [None] * len(self.nodes)
        for k, node in enumerate(self.nodes):
            if node.op == "parameter":
                self.values[k] = np.asarray(weights[str(node.name)], dtype=self.number)
            elif node.op == "constant":
                self.values[k] = self.number(node.value or 0.0)
            elif node.args and not needs[k]:
                self.values[k] = self.operations[k](*[self.values[arg] for arg in node.args])
        used = {arg for k in self.per_step for arg in self.nodes[k].args} | set(self.outputs)
        self.varying = [k for k in range(len(self.nodes)) if k in at_once and k in used]
        self.steps = [(k, self.operations[k], self.nodes[k].args) for k in self.per_step]

    @staticmethod
    def _operation(node: Node, inputs: int, hidden: int) -> Callable[..., Any]:
        if node.op in NUMPY:
            return NUMPY[node.op]
        reshaping, sizes = NUMPY_RESHAPING[node.op], tuple(size(each, inputs, hidden) for each in node.shape)
        return lambda *values: reshaping(*values, sizes)

    def run(self, x: Numbers, state: Sequence[Numbers]) -> tuple[Numbers, tuple[Numbers, ...]]:
        """Frames (T, D) → outputs (T, H) and the states after the last step, from these before the first."""
        x = x[::-1] if self.reverse else x
        values = list(self.values)
        for k, node in enumerate(self.nodes):
            if node.op == "input":
                begin, elements = self.cell.part(str(node.name), x.shape[1])
                values[k] = x[:, begin : begin + elements]
        for k in self.per_frame:
            values[k] = self.operations[k](*[values[arg] for arg in self.nodes[k].args])
        frames = [(k, np.broadcast_to(values[k], (len(x), *np.shape(values[k])[1:]))) for k in self.varying]
        olds = [(k, self.states.index(str(node.name))) for k, node in enumerate(self.nodes) if node.op == "state"]
        outputs, current = np.empty((len(x), len(state[0])), dtype=self.number), tuple(state)
        for t in range(len(x)):
            for k, own in frames:
                values[k] = own[t]
            for k, which in olds:
                values[k] = current[which]
            for k, operation, args in self.steps:
                values[k] = operation(*[values[arg] for arg in args])
            current = tuple(values[k] for k in self.outputs)
            outputs[t] = current[0]
        return (outputs[::-1] if self.reverse else outputs), current


class NumpyModel:
    """What ``ModelParts`` say, computed in a precision; every score is the torch model's within 1e-5.

    In float64 the weights, and what is computed once from them, are the float32 numbers that every form holds.
    """

    def __init__(self, parts: ModelParts, precision: Precision = "float32") -> None:
        self.parts, self.precision, self.number = parts, precision, np.dtype(precision).type
        self.layers = [
            [NumpyDirection(direction, parts.inputs(depth), parts.hidden, precision) for direction in layer]
            for depth, layer in enumerate(parts.layers)
        ]

    def first_states(self) -> States:
        """The states before the first step."""
        parts = self.parts
        return [
            [
                tuple(value.astype(self.number) for value in direction.first_states(parts.inputs(depth), parts.hidden))
                for direction in layer
            ]
            for depth, layer in enumerate(parts.layers)
        ]

    def standardised(self, frames: Floats) -> Numbers:
        """Raw frames (T, D) as the layers take them, before stacking; none of them is lost."""
        if self.parts.received:
            ones = np.ones((len(frames), max(elements for _, elements in self.parts.received)), np.float32)
            frames = np.concatenate([frames if name == VALUE else ones[:, :n] for name, n in self.parts.received], 1)
        return np.asarray(
            (frames.astype(self.number, copy=False) - self.parts.mean) / self.parts.deviation, dtype=self.number
        )

    def stacked(self, frames: Numbers) -> Numbers:
        """Standardised frames (T, D) → steps (⌈T / k⌉, k · D), zeros at the end."""
        count = self.parts.frame_stacking
        if count == 1:
            return frames
        short = -len(frames) % count
        return np.pad(frames, ((0, short), (0, 0))).reshape(-1, count * frames.shape[1])

    def encode(self, steps: Numbers, states: States) -> tuple[Numbers, States]:
        """Steps → outputs (T, W) of the last layer, and the states after them."""
        x, after = steps, []
        with np.errstate(all="ignore"):  # as torch, which gives infinity and NaN without a word
            for layer, before in zip(self.layers, states, strict=True):
                found = [direction.run(x, state) for direction, state in zip(layer, before, strict=True)]
                x = np.concatenate([outputs for outputs, _ in found], axis=1)
                after.append([end for _, end in found])
        return x, after

    def pooled(self, outputs: Numbers, last: Numbers) -> Numbers:
        """(T, W) outputs → (W,); ``last`` is each direction where it has seen the whole clip."""
        if self.parts.score is not None:
            weight, bias = self.parts.score
            score = outputs @ weight + self.number(bias)
            shares = np.exp(score - score.max())
            return np.asarray((shares / shares.sum()) @ outputs, dtype=self.number)
        return outputs.mean(axis=0) if self.parts.pooling == "mean" else last

    def head(self, pooled: Numbers) -> Floats:
        """Pooled outputs (…, W) → scores (…, C), float32."""
        weight, bias = self.parts.head
        return np.asarray(pooled @ weight.T + bias, dtype=np.float32)

    def scores(self, frames: Floats) -> Floats:
        """Raw frames (T, D) of a clip → its scores (C,), before softmax."""
        outputs, ends = self.encode(self.stacked(self.standardised(frames)), self.first_states())
        return self.head(self.pooled(outputs, np.concatenate([state[0] for state in ends[-1]])))
