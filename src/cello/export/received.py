"""Prepare models whose cells name parts of their frames for forms that compute features alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cello.cells.specialise import first_part, specialised
from cello.models.frames import VALUE
from cello.models.parts import Direction, ModelParts


def without_losses(parts: ModelParts) -> ModelParts:
    """The model whose frames are features: of sound none is lost, so that every mask and every gap is 1."""
    if not parts.received:
        return parts
    ((direction,), *rest) = parts.layers
    frame = direction.cell.arguments[0]
    ones = {f"{frame}.{name}": np.ones(n, np.float32) for name, n in parts.received if name != VALUE}
    cell, weights = specialised(direction.cell, direction.weights, parts.dimensions, parts.hidden, ones)
    cell = first_part(cell, parts.dimensions, parts.hidden, VALUE)
    begin = 0
    for name, elements in parts.received:
        if name == VALUE:
            break
        begin += elements
    own = slice(begin, begin + dict(parts.received)[VALUE])
    first = Direction(cell, dict(weights), direction.reverse, direction.first)
    return replace(parts, mean=parts.mean[own], deviation=parts.deviation[own], layers=((first,), *rest), received=())
