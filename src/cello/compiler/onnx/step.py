"""Write one step of a cell as ONNX nodes, from its graph.

What knows the frame and no state is written apart, for all frames of a sequence at once; products with the same vector
are one product with their matrices side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cello.cells.definition import Cell
from cello.cells.graph import RESHAPING, dependencies
from cello.cells.specialise import frame_only, specialised
from cello.compiler.onnx.operations import row
from cello.compiler.onnx.shapes import Shapes
from cello.compiler.onnx.writer import Array, Writer
from cello.compiler.stages import Sum, lower


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

    def __init__(self, writer: Writer, cell: Cell, weights: Mapping[str, Array], inputs: int, hidden: int) -> None:
        self.writer, self.inputs = writer, inputs
        self.cell, self.weights = specialised(cell, weights, inputs, hidden)
        self.plan = lower(self.cell)
        self.nodes = self.plan.graph.nodes
        self.needs, self.frame_only = dependencies(self.nodes), frame_only(self.nodes)
        self.shapes = Shapes(self.nodes, inputs, hidden)
        self.sums = {each.node: each for stage in self.plan.stages for each in stage.sums}
        self.products, self.means = self._products(), self._means()
        inside = {arg for k in self.products for arg in self.nodes[k].args}
        inside |= {self.nodes[k].args[0] for k in self.means}
        self.stages = [
            (
                self._groups(stage.sums),
                tuple(k for k in (*stage.reductions, *stage.pointwise) if k not in self.frame_only | inside),
            )
            for stage in self.plan.stages
        ]
        self._invariant: dict[int, str] = {}

    def _products(self) -> dict[int, tuple[int, int]]:
        """The sums over rows and columns that are products of a matrix and a vector of each head."""
        found = {}
        for k, node in enumerate(self.nodes):
            repeated = {"row_sum": "columns", "column_sum": "rows"}.get(node.op)
            if repeated is None or self.nodes[node.args[0]].op != "mul" or self.plan.uses[node.args[0]] > 1:
                continue
            for matrix, other in (pair := self.nodes[node.args[0]].args, pair[::-1]):
                if self.nodes[other].op == repeated and self.nodes[matrix].shape:
                    found[k] = (matrix, self.nodes[other].args[0])
        return found

    def _means(self) -> dict[int, int]:
        """What is a sum over all units by their number, and what it is the mean of: one operator instead of two."""
        found = {}
        for k, node in enumerate(self.nodes):
            total, number = [self.nodes[arg] for arg in node.args] if node.op == "div" else (node, node)
            if total.op != "total" or number.op != "constant" or self.plan.uses[node.args[0]] > 1:
                continue
            if number.value == self.shapes.elements(total.args[0]):
                found[k] = total.args[0]
        return found

    def arguments(self, k: int) -> tuple[int, ...]:
        """What a value is written from."""
        return (self.means[k],) if k in self.means else self.products.get(k, self.nodes[k].args)

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
                parts = writer.split(whole, [self.shapes.elements(each.node) for each in group.sums])
                values.update({each.node: part for each, part in zip(group.sums, parts, strict=True)})
            for k in pointwise:
                values[k] = self.value(writer, k, values)
        return [self.whole(writer, k, values) for k in self.plan.graph.outputs]

    def value(self, writer: Writer, k: int, values: dict[int, str]) -> str:
        """What a node that is no sum makes of its arguments."""
        node = self.nodes[k]
        if k in self.products:
            at, of = self.products[k]
            vector = self.whole(writer, of, values)
            if self.nodes[at].op == "parameter":
                blocks = self.weights[str(self.nodes[at].name)]
                return self.shapes.block_diagonal((self.writer, writer), k, blocks, vector)
            return self.shapes.multiplied(writer, k, self.whole(writer, at, values), vector)
        if k in self.means:
            mean_of = self.whole(writer, self.means[k], values)
            return writer.write("ReduceMean", mean_of, writer.integers(-1), keepdims=1)
        if node.op in RESHAPING:
            return self.shapes.write(writer, k, *(self.whole(writer, arg, values) for arg in node.args))
        return row(node.op)(writer, *(values[arg] if self.needs[arg] else self.invariant(arg) for arg in node.args))

    def whole(self, writer: Writer, k: int, values: dict[int, str]) -> str:
        """A value with all its elements, wherever it repeats."""
        if not self.needs[k]:
            return self.invariant(k)
        if self.shapes.repeats(k):
            return self.shapes.expand(writer, k, values[k])
        return values[k]

    def read(self) -> list[int]:
        """What the steps' values that are no sums read."""
        wanted: list[int] = []
        for _, inside in self.stages:
            for k in inside:
                wanted += self.arguments(k)
        return wanted

    def invariant(self, k: int) -> str:
        """What is the same at every step: weights, numbers, and what is computed from them."""
        if k not in self._invariant:
            node = self.nodes[k]
            if node.op == "constant":
                self._invariant[k] = self.writer.constant(np.float64(node.value or 0.0))
            elif node.op == "parameter":
                self._invariant[k] = self.writer.constant(self.shapes.constant(k, self.weights[str(node.name)]))
            else:
                self._invariant[k] = row(node.op)(self.writer, *(self.invariant(arg) for arg in node.args))
        return self._invariant[k]

    def bias(self, sums: Sequence[Sum]) -> str | None:
        """The invariants of sums, side by side (n·H,), or None where there are none."""
        if not any(each.invariant for each in sums):
            return None
        parts = []
        for each in sums:
            total = self.writer.constant(np.zeros(self.shapes.elements(each.node)))
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
        inputs = next(len(part) for part in found if part is not None)
        blank = [np.zeros((inputs, self.shapes.elements(each.node)), np.float32) for each in sums]
        return np.concatenate([zero if part is None else part for zero, part in zip(blank, found, strict=True)], axis=1)

    def frame_vectors(self, each: Sum) -> list[int]:
        """The vectors of a sum that know no state."""
        return [vector for _, vector in each.products if vector in self.frame_only]

    def _groups(self, sums: Sequence[Sum]) -> list[Group]:
        found: dict[tuple[int, ...], list[Sum]] = {}
        for each in sums:
            vectors = tuple(sorted({vector for _, vector in each.products} - set(self.frame_vectors(each))))
            if vectors:
                found.setdefault(vectors, []).append(each)
        return [Group(tuple(some), vectors) for vectors, some in found.items()]

    def _product(self, writer: Writer, group: Group, values: dict[int, str], given: str | None) -> str:
        matrices = [self.writer.weight(self.stacked(group.sums, vector), 1) for vector in group.vectors]
        vectors = writer.concat(*(self.whole(writer, vector, values) for vector in group.vectors))
        start = given if given is not None else self.bias(group.sums)
        inputs = [vectors, self.writer.concat(*matrices, axis=0)]
        return writer.write("Gemm", *inputs, *([] if start is None else [start]))


class _Frames:
    """Writes what knows the frame alone."""

    def __init__(self, cell: StepWriter, x: str) -> None:
        self.cell, self.writer = cell, cell.writer
        self.values = {k: self._part_of(x, k) for k, node in enumerate(cell.nodes) if node.op == "input"}
        self.groups = {group.node: group for groups, _ in cell.stages for group in groups}
        apart = {k: (each,) for k, each in cell.sums.items() if k in cell.frame_only}
        self.readers = apart | {k: group.sums for k, group in self.groups.items()}
        self.parts: dict[tuple[int, int], str] = {}

    def _part_of(self, x: str, k: int) -> str:
        """The frames, or the part of them that a node names."""
        begin, elements = self.cell.cell.part(str(self.cell.nodes[k].name), self.cell.inputs)
        if elements == self.cell.inputs:
            return x
        bounds = (self.writer.integers(begin), self.writer.integers(begin + elements), self.writer.integers(-1))
        return self.writer.write("Slice", x, *bounds)

    def needed(self) -> dict[int, str]:
        """By position: for each group what it begins with, and each value that something with a state reads."""
        found = {k: self._sum(k) for k in self.groups if any(map(self.cell.frame_vectors, self.readers[k]))}
        for k in (*self.cell.read(), *self.cell.plan.graph.outputs):
            if k in self.cell.frame_only:
                found[k] = self._value(k)
        return found

    def _value(self, k: int) -> str:
        if k not in self.values:
            if k in self.readers:
                self.values[k] = self._sum(k)
            else:
                for arg in self.cell.arguments(k):
                    (self._value if self.cell.needs[arg] else self.cell.invariant)(arg)
                self.values[k] = self.cell.value(self.writer, k, self.values)
        return self.values[k]

    def _whole(self, k: int) -> str:
        self._value(k)
        return self.cell.whole(self.writer, k, self.values)

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
            whole = self.writer.write("MatMul", self._whole(vector), self.writer.weight(matrix, 1))
            # of several vectors the first brings the invariants
            first = [self._vectors(reader)[0] == vector for reader in readers for _ in self.readers[reader]]
            bias = self.cell.bias(
                [each if own else Sum(each.node, (), ()) for each, own in zip(sums, first, strict=True)]
            )
            whole = whole if bias is None else self.writer.write("Add", whole, bias)
            elements = self.cell.shapes.elements
            sizes = [sum(elements(each.node) for each in self.readers[reader]) for reader in readers]
            for reader, part in zip(readers, self.writer.split(whole, sizes), strict=True):
                self.parts[reader, vector] = part
        return self.parts[k, vector]
