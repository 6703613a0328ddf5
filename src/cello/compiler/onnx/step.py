"""Write one step of a cell as ONNX nodes, from its graph.

What knows the frame and no state is written apart, for all frames of a sequence at once; products with the same vector
are one product with their matrices side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cello.cells.definition import Cell
from cello.cells.graph import dependencies
from cello.compiler.onnx.operations import row
from cello.compiler.onnx.writer import Array, Writer
from cello.compiler.stages import Sum, lower

FRAME_ONLY = frozenset(["input"])
NOTHING = Sum(-1, (), ())


@dataclass(frozen=True)
class Group:
    """Sums of one stage with the same vectors, states among them: one product gives them all, side by side."""

    sums: tuple[Sum, ...]
    vectors: tuple[int, ...]

    @property
    def node(self) -> int:
        """The position that stands for the group."""
        return self.sums[0].node


class StepWriter:
    """Writes steps of a cell with given weights; ``writer`` is the graph in which weights and frames stand."""

    def __init__(self, writer: Writer, cell: Cell, weights: Mapping[str, Array], hidden: int) -> None:
        self.writer, self.weights, self.hidden = writer, weights, hidden
        self.plan = lower(cell)
        self.nodes = self.plan.graph.nodes
        self.needs = dependencies(self.nodes)
        self.sums = {each.node: each for stage in self.plan.stages for each in stage.sums}
        self.stages = [
            (self._groups(stage.sums), tuple(k for k in stage.pointwise if self.needs[k] != FRAME_ONLY))
            for stage in self.plan.stages
        ]
        self._invariant: dict[int, str] = {}

    def frames(self, x: str) -> dict[int, str]:
        """What steps need of the frames ``x`` (…, D), each (…, H) or of a group (…, n·H), by position."""
        return _Frames(self, x).needed()

    def step(self, writer: Writer, given: Mapping[int, str], states: Sequence[str]) -> list[str]:
        """The new states (B, H) from the old ones and from ``given``, what ``frames`` returned of one frame."""
        values = dict(given)
        names = dict(zip(self.plan.graph.states, states, strict=True))
        values.update({k: names[str(node.name)] for k, node in enumerate(self.nodes) if node.op == "state"})
        for groups, pointwise in self.stages:
            for group in groups:
                whole = self._product(writer, group, values, given.get(group.node))
                parts = writer.split(whole, [self.hidden] * len(group.sums))
                values.update({each.node: part for each, part in zip(group.sums, parts, strict=True)})
            for k in pointwise:
                values[k] = self._pointwise(writer, k, values)
        return [values[k] for k in self.plan.graph.outputs]

    def invariant(self, k: int) -> str:
        """What is the same at every step: weights, numbers, and what is computed from them."""
        if k not in self._invariant:
            node = self.nodes[k]
            if node.op == "constant":
                self._invariant[k] = self.writer.constant(np.float64(node.value or 0.0))
            elif node.op == "parameter":
                self._invariant[k] = self.writer.constant(self.weights[str(node.name)])
            else:
                self._invariant[k] = row(node.op)(self.writer, *(self.invariant(arg) for arg in node.args))
        return self._invariant[k]

    def bias(self, sums: Sequence[Sum]) -> str | None:
        """The invariants of sums, side by side (n·H,), or None where there are none."""
        if not any(each.invariant for each in sums):
            return None
        parts = []
        for each in sums:
            total = self.writer.constant(np.zeros(self.hidden))
            for k in each.invariant:
                total = self.writer.write("Add", total, self.invariant(k))
            parts.append(total)
        return self.writer.concat(*parts)

    def stacked(self, sums: Sequence[Sum], vector: int) -> Array:
        """The matrices by which sums multiply a vector, (size of the vector, n·H); zero where one does not."""
        found: list[Array | None] = []
        for each in sums:
            own = [self.weights[str(self.nodes[matrix].name)] for matrix, of in each.products if of == vector]
            found.append(np.asarray(sum(own[1:], start=own[0])).T if own else None)
        shape = next(part.shape for part in found if part is not None)
        return np.concatenate([np.zeros(shape, np.float32) if part is None else part for part in found], axis=1)

    def frame_vectors(self, each: Sum) -> list[int]:
        """The vectors of a sum that know no state."""
        return [vector for _, vector in each.products if self.needs[vector] == FRAME_ONLY]

    def _groups(self, sums: Sequence[Sum]) -> list[Group]:
        found: dict[tuple[int, ...], list[Sum]] = {}
        for each in sums:
            vectors = tuple(sorted({vector for _, vector in each.products} - set(self.frame_vectors(each))))
            if vectors:
                found.setdefault(vectors, []).append(each)
        return [Group(tuple(some), vectors) for vectors, some in found.items()]

    def _product(self, writer: Writer, group: Group, values: Mapping[int, str], given: str | None) -> str:
        matrices = [self.writer.weight(self.stacked(group.sums, vector), 1) for vector in group.vectors]
        vectors = writer.concat(*(values[vector] for vector in group.vectors))
        start = given if given is not None else self.bias(group.sums)
        inputs = [vectors, self.writer.concat(*matrices, axis=0)]
        return writer.write("Gemm", *inputs, *([] if start is None else [start]))

    def _pointwise(self, writer: Writer, k: int, values: Mapping[int, str]) -> str:
        node = self.nodes[k]
        return row(node.op)(writer, *(values[arg] if self.needs[arg] else self.invariant(arg) for arg in node.args))


class _Frames:
    """Writes what knows the frame alone."""

    def __init__(self, cell: StepWriter, x: str) -> None:
        self.cell, self.writer = cell, cell.writer
        self.values = {k: x for k, node in enumerate(cell.nodes) if node.op == "input"}
        self.groups = {group.node: group for groups, _ in cell.stages for group in groups}
        apart = {k: (each,) for k, each in cell.sums.items() if cell.needs[k] == FRAME_ONLY}
        self.readers = apart | {k: group.sums for k, group in self.groups.items()}
        self.parts: dict[tuple[int, int], str] = {}

    def needed(self) -> dict[int, str]:
        """By position: for each group what it begins with, and each value that something with a state reads."""
        found = {k: self._sum(k) for k in self.groups if any(map(self.cell.frame_vectors, self.readers[k]))}
        wanted = [arg for _, pointwise in self.cell.stages for k in pointwise for arg in self.cell.nodes[k].args]
        for k in (*wanted, *self.cell.plan.graph.outputs):
            if self.cell.needs[k] == FRAME_ONLY:
                found[k] = self._value(k)
        return found

    def _value(self, k: int) -> str:
        if k not in self.values:
            if k in self.readers:
                self.values[k] = self._sum(k)
            else:
                node, cell = self.cell.nodes[k], self.cell
                args = [self._value(arg) if cell.needs[arg] else cell.invariant(arg) for arg in node.args]
                self.values[k] = row(node.op)(self.writer, *args)
        return self.values[k]

    def _sum(self, k: int) -> str:
        """The part of a sum, or of a group of sums, that knows no state; its invariants included."""
        total = None
        for vector in self._vectors(k):
            part = self._part(k, vector)
            total = part if total is None else self.writer.write("Add", total, part)
        assert total is not None
        return total

    def _vectors(self, k: int) -> list[int]:
        return sorted({vector for each in self.readers[k] for vector in self.cell.frame_vectors(each)})

    def _part(self, k: int, vector: int) -> str:
        """What one vector adds to a sum or group; all that read the vector are one product."""
        if (k, vector) not in self.parts:
            readers = [reader for reader in self.readers if vector in self._vectors(reader)]
            sums = [each for reader in readers for each in self.readers[reader]]
            matrix = np.concatenate([self.cell.stacked(self.readers[reader], vector) for reader in readers], axis=1)
            whole = self.writer.write("MatMul", self._value(vector), self.writer.weight(matrix, 1))
            # of several vectors the first brings the invariants
            first = [self._vectors(reader)[0] == vector for reader in readers for _ in self.readers[reader]]
            bias = self.cell.bias([each if own else NOTHING for each, own in zip(sums, first, strict=True)])
            whole = whole if bias is None else self.writer.write("Add", whole, bias)
            sizes = [self.cell.hidden * len(self.readers[reader]) for reader in readers]
            for reader, part in zip(readers, self.writer.split(whole, sizes), strict=True):
                self.parts[reader, vector] = part
        return self.parts[k, vector]
