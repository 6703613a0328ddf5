"""Define a real cell: one of a paper or a repository, in Cello's language and as an eager loop in torch.

The loop is written from the source, with weights stacked as people stack them; ``stacked`` says which of Cello's
parameters each of its weights holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cello.cells.definition import Cell
from cello.models.layer import Layer

States = tuple[Tensor, ...]
Step = Callable[[Any, States, Any], States]
"""A frame (B, D), or what ``before`` made of it, states and weights → new states, of which the first is the output."""
Shapes = Callable[[int, int], Mapping[str, tuple[int, ...]]]


@dataclass(frozen=True, eq=False)
class RealCell:
    """A cell of a paper or a repository; ``waiting`` says what the language misses where there is no ``cell``.

    ``once`` adds to the weights what is computed once a call, ``before`` computes something of all frames at once where
    the source does so, ``begins`` are the states' first values, 0 where it is shorter, ``begin`` makes them where a
    state is not (B, H). Tests draw matrices ``gain`` times as large as a layer does.
    """

    name: str
    source: str
    step: Step
    cell: Cell | None = None
    stacked: Mapping[str, str] = field(default_factory=dict)
    begins: tuple[float, ...] = ()
    begin: Callable[[int, int], States] | None = None
    once: Callable[[Any], None] | None = None
    before: Callable[[Tensor, Any], Any] | None = None
    waiting: str = ""
    shapes: Shapes | None = None
    gain: float = 1.5


def real(
    name: str,
    source: str,
    cell: Cell | None = None,
    *,
    stacked: str = "",
    **more: Any,
) -> Callable[[Step], RealCell]:
    """Make a real cell of the function below: the eager step.

    ``stacked`` has a line for each weight of the loop: its name, a colon, Cello's parameters from top to bottom, and
    from left to right behind a bar. A line that is only a list of names holds weights that both call alike.
    """
    found: dict[str, str] = {}
    for line in stacked.strip().splitlines():
        key, colon, parts = (part.strip() for part in line.partition(":"))
        found |= {key: parts} if colon else {one: one for one in key.split()}

    def make(step: Step) -> RealCell:
        return RealCell(name, source, step, cell, found, **more)

    return make


def _pieces(layout: str) -> list[list[str]]:
    """Columns of rows of parameter names."""
    return [column.split() for column in layout.split("|")]


def weights(one: RealCell, inputs: int, hidden: int, dtype: torch.dtype, gain: float = 1.0) -> dict[str, Tensor]:
    """The loop's weights, drawn as a layer of the cell draws them, matrices times ``gain``."""
    torch.manual_seed(3)
    if one.cell is None:
        assert one.shapes is not None
        drawn = {name: torch.randn(shape, dtype=dtype) for name, shape in one.shapes(inputs, hidden).items()}
        scale = gain * hidden**-0.5
        return {name: (scale * value).requires_grad_() for name, value in drawn.items()}
    own = _drawn(one.cell, inputs, hidden, dtype)
    own = {name: gain * value if value.ndim == 2 else value for name, value in own.items()}
    return {
        name: torch.cat([torch.cat([own[part] for part in column]) for column in _pieces(layout)], -1).requires_grad_()
        if own[layout.split()[0]].ndim
        else own[layout].requires_grad_()
        for name, layout in one.stacked.items()
    }


def _drawn(cell: Cell, inputs: int, hidden: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """First values of a cell's parameters, as its equations see them."""
    layer = Layer(cell, inputs, hidden, dtype=dtype).layers[0][0]  # type: ignore[index]
    own = {name: getattr(layer, attribute).detach().clone() for attribute, name in layer.equation_names.items()}
    for declared in cell.declared:
        if declared.bounded:
            value = declared.bounded_value(own[declared.name].double().numpy())
            own[declared.name] = torch.from_numpy(np.asarray(value)).to(dtype)
    return own


def as_parameters(one: RealCell, given: Mapping[str, Tensor], inputs: int, hidden: int) -> dict[str, Tensor]:
    """Cello's parameters as parts of the loop's weights, differentiable."""
    assert one.cell is not None
    shapes, found = one.cell.parameters(inputs, hidden), {}
    for name, layout in one.stacked.items():
        left = 0
        for column in _pieces(layout):
            top = 0
            for part in column:
                shape = shapes[part]
                value = given[name]
                if len(shape) == 2:
                    value = value[top : top + shape[0], left : left + shape[1]]
                elif len(shape) == 1:
                    value = value[top : top + shape[0]]
                found[part] = value
                top += shape[0] if shape else 0
            left += shapes[column[0]][-1] if len(shapes[column[0]]) == 2 else 0
    return {name: found[name] for name in shapes}


def first_states(one: RealCell, x: Tensor, hidden: int) -> States:
    """The loop's states before the first frame."""
    if one.begin is not None:
        return tuple(state.to(x.dtype) for state in one.begin(len(x), hidden))
    count = len(one.begins) if one.cell is None else len(one.cell.states)
    begins = (*one.begins, *[0.0] * (count - len(one.begins)))
    return tuple(x.new_full((len(x), hidden), value) for value in begins)


def loop(
    one: RealCell, x: Tensor, given: Mapping[str, Tensor], hidden: int, lengths: Sequence[int] | None = None
) -> tuple[Tensor, States]:
    """Run the eager loop: outputs (B, T, H), zero after a clip's end, and every clip's states after its last frame."""
    own = SimpleNamespace(**given)
    if one.once is not None:
        one.once(own)
    states, outputs = first_states(one, x, hidden), []
    frames = x if one.before is None else one.before(x, own)
    whole = frames if isinstance(frames, tuple) else (frames,)
    for t, parts in enumerate(zip(*(part.unbind(1) for part in whole), strict=True)):
        new = one.step(parts if isinstance(frames, tuple) else parts[0], states, own)
        if lengths is None:
            states = new
            outputs.append(new[0])
            continue
        inside = torch.tensor(lengths) > t
        states = tuple(
            torch.where(inside.view(-1, *[1] * (after.ndim - 1)), after, before)
            for after, before in zip(new, states, strict=True)
        )
        outputs.append(torch.where(inside.unsqueeze(1), new[0], 0.0))
    return torch.stack(outputs, 1), states
