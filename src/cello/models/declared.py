"""Give a layer's parameters the first values and the bounds that its cell declares."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cello.cells.definition import Cell
from cello.cells.values import Declared, Floats
from cello.errors import ModelError


def within_bounds(declared: Declared, r: Tensor) -> Tensor:
    """The value of a parameter r as the equations see it."""
    low, high = declared.low, declared.high
    if low is not None and high is not None:
        return low + (high - low) * r.sigmoid()
    if low is not None:
        return low + functional.softplus(r, threshold=40.0)
    return r if high is None else high - functional.softplus(r, threshold=40.0)


def fill(weight: Tensor, declared: Declared, inputs: int, hidden: int, generator: torch.Generator | None) -> None:
    """Write a parameter's declared first values, random ones from the generator, or torch's own if it is None.

    Raises:
        ModelError: they are not finite, or outside the bounds, for these sizes.
    """

    def draw(kind: str, shape: tuple[int, ...]) -> Floats:
        drawn = (torch.rand if kind == "uniform" else torch.randn)(shape, generator=generator, dtype=torch.float64)
        return np.asarray(drawn)

    value = declared.unbounded(declared.array(inputs, hidden, draw))
    if not np.isfinite(value).all():
        raise ModelError(
            f"the first values that the cell declares of {declared.name} are not finite, or outside its bounds, for "
            f"D = {inputs} and H = {hidden}; correct its annotation"
        )
    with torch.no_grad():
        weight.copy_(torch.from_numpy(value))


def infinite_states(cell: Cell) -> list[str]:
    """The states that begin at an infinite value."""
    values = {state: cell.first_value(state, 1) for state in cell.states}
    return [state for state, value in values.items() if value is not None and not np.isfinite(value).all()]
