"""Write a recurrent layer over time, and one step of it: ONNX's own operator where it is one, else the graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cello.cells.definition import Cell
from cello.compiler.deep import deep
from cello.compiler.onnx.native import Given, Operator, operator_of, write_operator
from cello.compiler.onnx.step import StepWriter
from cello.compiler.onnx.writer import Array, Writer


@dataclass(frozen=True, eq=False)
class LayerDirection:
    """One direction of a layer of H = ``hidden`` units: its cell, and its weights by the names of the equations.

    ``first`` are the values (H,) at which states begin, where they do not begin at zero.
    """

    cell: Cell
    weights: Mapping[str, Array]
    reverse: bool
    hidden: int
    first: Mapping[str, Array] = field(default_factory=dict)

    @property
    def operator(self) -> Operator | None:
        """The operator of ONNX that it is; one whose states begin at other values than zero is none."""
        return None if self.first else operator_of(self.cell)


@dataclass(frozen=True)
class Clips:
    """The lengths of clips in a batch, as names: ``counts`` (B,) int64, and ``inside`` (T, B, 1) bool."""

    counts: str
    inside: str


@deep()
def write_layer(writer: Writer, directions: Sequence[LayerDirection], x: str, clips: Clips) -> tuple[str, str]:
    """Outputs (T, B, W), zero after a clip's end, and each direction's last output (B, W), side by side.

    A clip's states stay as they are after its end; a reverse direction begins at the clip's own end. W is H, or 2H of
    two directions.
    """
    operator = directions[0].operator
    if operator is None:
        pairs = [_scanned(writer, direction, x, clips) for direction in directions]
        return writer.concat(*(y for y, _ in pairs)), writer.concat(*(last for _, last in pairs))
    given = [Given(direction.weights, direction.reverse) for direction in directions]
    lengths = writer.cast(clips.counts, "int32")
    outputs, last = write_operator(writer, operator, given, x, lengths)
    width = directions[0].hidden * len(directions)
    y = writer.reshape(writer.write("Transpose", outputs, perm=[0, 2, 1, 3]), 0, 0, width)
    return y, writer.reshape(writer.write("Transpose", last[0], perm=[1, 0, 2]), 0, width)


def _scanned(writer: Writer, direction: LayerDirection, x: str, clips: Clips) -> tuple[str, str]:
    """Outputs (T, B, H) and the last output (B, H) of one direction, as a loop of its equations."""
    cell = StepWriter(writer, direction.cell, direction.weights, direction.hidden)
    given = cell.frames(x)
    body = writer.body()
    old = [body.fresh(name) for name in direction.cell.states]
    slices = {name: body.fresh("frame") for name in given.values()}
    inside = body.fresh("inside")
    new = cell.step(body, {k: slices[name] for k, name in given.items()}, old)
    kept = [body.write("Where", inside, after, before) for after, before in zip(new, old, strict=True)]
    output = body.write("Where", inside, new[0], body.constant(0.0))
    batch = writer.write("Shape", x, start=1, end=2)
    shape = writer.concat(batch, writer.integers(direction.hidden), axis=0)
    begins = [direction.first.get(name, np.zeros(1)) for name in direction.cell.states]
    starts: dict[bytes, str] = {}
    for value in begins:
        if value.tobytes() not in starts:
            starts[value.tobytes()] = writer.write("Expand", writer.constant(value[None]), shape)
    found = writer.scan(
        body,
        {name: starts[value.tobytes()] for name, value in zip(old, begins, strict=True)},
        {inner: outer for outer, inner in slices.items()} | {inside: clips.inside},
        new=kept,
        out=[output],
        kinds={inside: "bool"},
        reverse=direction.reverse,
    )
    return found[-1], found[0]


def step_shape(direction: LayerDirection) -> tuple[int, ...]:
    """The shape in which ``write_step`` takes a state: operators have axes of their own for time and direction."""
    return (1, direction.hidden) if direction.operator is None else (1, 1, direction.hidden)


@deep()
def write_step(writer: Writer, direction: LayerDirection, x: str, states: Sequence[str]) -> list[str]:
    """The new states of one direction after one frame x, (1, D) or (1, 1, D) as ``step_shape`` has the states."""
    operator = direction.operator
    if operator is None:
        cell = StepWriter(writer, direction.cell, direction.weights, direction.hidden)
        return cell.step(writer, cell.frames(x), states)
    return write_operator(writer, operator, [Given(direction.weights, direction.reverse)], x, "", states)[1]
