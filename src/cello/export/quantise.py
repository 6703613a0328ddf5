"""Round a model's matrices to 8 bits, each row with a scale of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cello.cells.specialise import multiplying
from cello.models.parts import Array, Direction, ModelParts

LARGEST = 127
"""The largest whole number that a weight becomes; its negative is the smallest."""


@dataclass(frozen=True, eq=False)
class Quantised:
    """A matrix (R, C) as ``values`` (R, C) of int8 times ``scale`` (R,)."""

    values: NDArray[np.int8]
    scale: Array

    def matrix(self) -> Array:
        """The matrix (R, C) that these values stand for, float32."""
        return self.values.astype(np.float32) * self.scale[:, None]


def quantise(matrix: Array) -> Quantised:
    """A matrix with every row rounded to whole multiples of its largest magnitude / 127.

    >>> quantise(np.array([[1.0, -0.5], [0.0, 0.0]], np.float32)).values.tolist()
    [[127, -64], [0, 0]]
    """
    scale = (np.abs(matrix).max(axis=1, initial=0.0) / LARGEST).astype(np.float32)
    steps = np.where(scale > 0, scale, 1).astype(np.float64)[:, None]
    values = np.clip(np.rint(matrix / steps), -LARGEST, LARGEST).astype(np.int8)
    return Quantised(values, scale)


def dequantised(parts: ModelParts) -> ModelParts:
    """The model whose matrices are those that 8 bits can hold: its accuracy is that of every form with int8 weights.

    Vectors, numbers, blocks of heads and the scores of attention stay as they are: only what multiplies is rounded.
    """
    weight, bias = parts.head
    layers = tuple(tuple(_rounded(direction) for direction in layer) for layer in parts.layers)
    return replace(parts, layers=layers, head=(quantise(weight).matrix(), bias))


def _rounded(direction: Direction) -> Direction:
    rounded = multiplying(direction.cell.graph.nodes)
    weights = {name: quantise(each).matrix() if name in rounded else each for name, each in direction.weights.items()}
    return replace(direction, weights=weights)


def weight_bytes(parts: ModelParts, *, int8: bool) -> int:
    """Bytes of a model's weights as float32, or with its matrices as int8 and a float32 scale for each row."""
    matrices, others = [parts.head[0]], [parts.head[1]]
    others += [] if parts.score is None else [parts.score[0], np.zeros(1, np.float32)]
    for direction in (direction for layer in parts.layers for direction in layer):
        rounded = multiplying(direction.cell.graph.nodes)
        for name, each in direction.weights.items():
            (matrices if name in rounded else others).append(each)
    sizes = [each.size + 4 * len(each) if int8 else 4 * each.size for each in matrices]
    return sum(sizes) + sum(4 * each.size for each in others)
