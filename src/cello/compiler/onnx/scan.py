"""Write a recurrent layer over time, and one step of it: ONNX's own operator where it is one, else the graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cello.cells.definition import Cell
from cello.compiler.deep import deep
from cello.compiler.onnx.native import Given, Operator, operator_of, write_operator
from cello.compiler.onnx.shapes import blocks_of
from cello.compiler.onnx.step import StepWriter
from cello.compiler.onnx.writer import Array, Writer


@dataclass(frozen=True, eq=False)
class LayerDirection:
    """One direction of a layer of H = ``hidden`` units that takes D = ``inputs`` elements: its cell, and its weights by
    the names of the equations.

    ``first`` are the values at which states begin, where they do not begin at zero. Without ``native`` no operator of
    ONNX stands for its equations: runtimes have those for floats alone.
    """

    cell: Cell
    weights: Mapping[str, Array]
    reverse: bool
    hidden: int
    inputs: int
    first: Mapping[str, Array] = field(default_factory=dict)
    native: bool = True

    @property
    def operator(self) -> Operator | None:
        """The operator of ONNX that it is; one whose states begin at other values than zero is none."""
        return None if self.first or not self.native else operator_of(self.cell)

    @property
    def lead(self) -> tuple[int, ...]:
        """The axes of a frame and of a state before their own in ``write_step``; operators have two."""
        return (1,) if self.operator is None else (1, 1)

    @property
    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each state in a graph, without batch: matrices (H, d) are (n, d, d), a head after the other."""
        sizes = self.cell.state_sizes(self.inputs, self.hidden)
        states = zip(self.cell.states, self.cell.state_shapes, sizes, strict=True)
        return {name: own if len(own) < 2 else blocks_of(shape, own) for name, shape, own in states}

    def writer(self, graph: Writer) -> StepWriter:
        """Writes steps of it into a graph."""
        return StepWriter(graph, self.cell, self.weights, self.inputs, self.hidden)


@dataclass(frozen=True)
class Clips:
    """The lengths of clips in a batch, as names: ``counts`` (B,) int64, and ``inside`` (T, B, 1) bool."""

    counts: str
    inside: str


@deep()
def write_layer(writer: Writer, directions: Sequence[LayerDirection], x: str, clips: Clips) -> tuple[str, str]:
    """Outputs (T, B, W), zero after a clip's end, and each direction's last output (B, W), side by side.

    A clip's states stay as they are after its end; a reverse direction begins at the clip's own end. W is the size of
    the outputs of all directions together.
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
    """Outputs (T, B, L) and the last output (B, L) of one direction, as a loop of its equations."""
    cell = direction.writer(writer)
    given = cell.frames(x)
    body = writer.body()
    old = [body.fresh(name) for name in direction.cell.states]
    slices = {name: body.fresh("frame") for name in given.values()}
    inside = body.fresh("inside")
    new = cell.step(body, {k: slices[name] for k, name in given.items()}, old)
    shapes, axes = direction.state_shapes.values(), {1: inside}
    for shape in shapes:
        if len(shape) not in axes:
            axes[len(shape)] = body.reshape(inside, 0, *(1 for _ in shape))
    kept = [
        body.write("Where", axes[len(shape)], after, before)
        for shape, after, before in zip(shapes, new, old, strict=True)
    ]
    output = body.write("Where", inside, new[0], body.constant(0.0))
    starts = _starts(writer, direction, x)
    found = writer.scan(
        body,
        dict(zip(old, starts, strict=True)),
        {inner: outer for outer, inner in slices.items()} | {inside: clips.inside},
        new=kept,
        out=[output],
        kinds={inside: "bool"},
        reverse=direction.reverse,
    )
    return found[-1], found[0]


def _starts(writer: Writer, direction: LayerDirection, x: str) -> list[str]:
    """The values (B, …) at which the states of a batch begin; the same ones are written once."""
    batch = writer.write("Shape", x, start=1, end=2)
    wholes: dict[tuple[int, ...], str] = {}
    starts: dict[tuple[bytes, tuple[int, ...]], str] = {}
    found = []
    for name, shape in direction.state_shapes.items():
        if shape not in wholes:
            wholes[shape] = writer.concat(batch, writer.integers(*shape), axis=0)
        value = direction.first[name].reshape(shape) if name in direction.first else np.zeros(1)
        key = value.tobytes(), shape
        if key not in starts:
            starts[key] = writer.write("Expand", writer.constant(value[None]), wholes[shape])
        found.append(starts[key])
    return found


@deep()
def write_step(writer: Writer, direction: LayerDirection, x: str, states: Sequence[str]) -> list[str]:
    """The new states of one direction after one frame x, (1, D) or (1, 1, D) as ``direction.lead`` has it."""
    operator = direction.operator
    if operator is None:
        cell = direction.writer(writer)
        return cell.step(writer, cell.frames(x), states)
    return write_operator(writer, operator, [Given(direction.weights, direction.reverse)], x, "", states)[1]
