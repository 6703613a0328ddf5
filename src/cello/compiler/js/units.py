"""Write the step of a cell whose values are all vectors of H units: loops over the units, stage by stage."""

from __future__ import annotations

from collections.abc import Container

from cello.cells.arrays import Precision
from cello.cells.definition import Cell
from cello.cells.graph import LEAVES, dependencies, uses
from cello.compiler.expression import FEW_EQUATIONS, MOST_EQUATIONS, equations, shortened, value_names
from cello.compiler.js.expression import ARRAYS, Writer
from cello.compiler.js.names import RESERVED, comment, fresh, identifiers, string
from cello.compiler.js.repeated import Turns
from cello.compiler.places import unmarked
from cello.compiler.repeated import Block, Part, found, has_series, lines_of, share_memory
from cello.compiler.stages import Stage, stages
from cello.compiler.text import STYLE


class UnitStep:
    """Where each value of a step is kept: in an array, as a constant of unit j, or inside what reads it."""

    arguments = "weights, H"

    def __init__(self, cell: Cell, precision: Precision = "float32") -> None:
        self.precision, self.array = precision, ARRAYS[precision]
        self.cell, self.graph, self.nodes = cell, cell.graph, cell.graph.nodes
        self.names = identifiers(self.graph, self.reserved)
        self.stages = stages(self.graph)
        self.counts = uses(self.graph)
        self.writer = self._writer()
        needs = dependencies(self.nodes)
        self.fixed = [k for k, node in enumerate(self.nodes) if node.args and not needs[k] and self._own(k, needs)]
        self.arrays = self._arrays()
        left = {own: k for k, own in value_names(self.graph).items()}
        left |= {f"{state}[t]": k for state, k in zip(self.graph.states, self.graph.outputs, strict=True)}
        self.equations = equations(self.graph, STYLE)
        self.comments = {left[own]: comment(f"{own} = {right}") for own, right in self.equations}

    @property
    def reserved(self) -> frozenset[str]:
        """What a name of the step cannot be."""
        return RESERVED

    def _writer(self) -> Writer:
        return Writer(self.graph, self.names, self.precision)

    def _own(self, k: int, needs: list[frozenset[str]]) -> bool:
        """Whether a value that is the same at every step is read by one that is not, or more than once."""
        readers = [reader for reader, node in enumerate(self.nodes) if k in node.args]
        return self.counts[k] > 1 or any(needs[reader] for reader in readers)

    def _arrays(self) -> set[int]:
        """The values of a step that another unit or a later stage reads, and the new states."""
        found = {k for k in self.graph.outputs if self.nodes[k].args}
        found |= {node.args[1] for node in self.nodes if node.op == "product" and self.nodes[node.args[1]].args}
        stage = {k: number for number, each in enumerate(self.stages) for k in values_of(each)}
        for k, number in stage.items():
            found |= {arg for arg in self.nodes[k].args if stage.get(arg, number) < number}
        return found

    def lines(self, name: str) -> list[str]:
        title = comment(f"{self.cell.name}: {self.cell.title}")
        fixed = self._fixed_lines()  # first, for the step reads them
        body = [*self._step_lines(), *self._ending()]
        inner = [f"    {line}" for line in ["step(x) {", *(f"  {line}" for line in body), "},"]]
        step = [comment(f"  {left} = {right}") for left, right in self.equations]
        step = shortened(step, "//   ... {} more equations ...", FEW_EQUATIONS if self.repeats else MOST_EQUATIONS)
        states = ", ".join(self._states())
        return [
            *(title, *step, f"function {name}({self.arguments}) {{"),
            *self._declared(),
            *fixed,
            *("  return {", f"    states: [{states}],", *inner, "  };", "}"),
        ]

    def _states(self) -> list[str]:
        """The names of the old states; an output that the equations never read has no node."""
        own = {str(node.name): self.names[k] for k, node in enumerate(self.nodes) if node.op == "state"}
        taken = set(self.names.values())
        return [own.get(state) or fresh(state, len(self.nodes) + n, taken) for n, state in enumerate(self.graph.states)]

    def _declared(self) -> list[str]:
        weights = [
            f"{self.names[k]} = weights[{string(str(node.name))}]"
            for k, node in enumerate(self.nodes)
            if node.op == "parameter"
        ]
        held = [*self._states(), *(self.names[k] for k in self._held()), *self._moved().values()]
        return [*constants(weights), *constants([f"{name} = new {self.array}(H)" for name in held])]

    def _fixed_lines(self) -> list[str]:
        """What is the same at every step, computed once."""
        lines = []
        for k in self.fixed:
            (text,), vector = unmarked([self.writer.text(k)]), self.nodes[k].shape == ("H",)
            name = self.names[k]
            lines += [f"  {self.comments[k]}"] if k in self.comments else []
            if vector:
                lines.append(f"  const {name} = new {self.array}(H);")
                lines.append(f"  for (let j = 0; j < H; j++) {name}[j] = {text};")
            else:
                lines.append(f"  const {name} = {text};")
            self.writer.known[k] = self.writer.element(k)
        return lines

    def _step_lines(self) -> list[str]:
        """The stages' lines; what they do several times is a loop."""
        own = {self.names[k]: self._floats(k) for k in self.arrays - {*self.graph.outputs}}
        parts, self.gone = share_memory(self._step_parts(), own)
        self.repeats = has_series(parts)
        return Turns(frozenset(self.names.values())).write(parts)

    def _step_parts(self) -> list[Part]:
        """The step's blocks, with those that repeat as series.

        A first turn often begins with what all have of the frame: it is as the others where that is a block before it.
        """
        known = dict(self.writer.known)
        parts = self._found()
        if not has_series(parts):
            return parts
        self.writer.known, self.stages = known, self._frame_first()
        return min(parts, self._found(), key=lines_of)

    def _found(self) -> list[Part]:
        return found([Block(tuple(lines)) for lines in self._blocks()], chained=True)

    def _frame_first(self) -> tuple[Stage, ...]:
        """The stages, before each a stage of what it computes from the frame alone, where all of it is kept."""
        stages, needs = list[Stage](), dependencies(self.nodes)
        for stage in self.stages:
            early = {k for k in values_of(stage) if "state" not in needs[k]}
            later = {arg for k in values_of(stage) if k not in early for arg in self.nodes[k].args}
            stages += (
                [_only(stage, early), _only(stage, early, without=True)] if early & later <= self.arrays else [stage]
            )
        return tuple(stages)

    def _blocks(self) -> list[list[str]]:
        """The lines of each stage's loops."""
        bodies = [self._values(values_of(stage)) for stage in self.stages]
        return [["for (let j = 0; j < H; j++) {", *(f"  {line}" for line in body), "}"] for body in bodies if body]

    def _floats(self, k: int) -> str:
        """The length of a value's array."""
        return "H"

    def _held(self) -> list[int]:
        """The values that have an array of their own."""
        return [k for k in sorted(self.arrays) if self.names[k] not in self.gone]

    def _ending(self) -> list[str]:
        """The new states take the place of the old ones."""
        moved = self._moved()
        lines = [f"{name}.set({self.names[k]});" for k, name in moved.items()]
        for state, k in zip(self._states(), self.graph.outputs, strict=True):
            lines.append(f"{state}.set({moved.get(k, self.names[k])});")
        return [*lines, f"return {self._states()[0]};"]

    def _moved(self) -> dict[int, str]:
        """Copies of the old states that become new ones as they are."""
        taken = set(self.names.values())
        leaves = dict.fromkeys(k for k in self.graph.outputs if self.nodes[k].op in LEAVES)
        return {k: fresh(f"{self.names[k]}_old", k, taken) for k in leaves}

    def _values(self, values: list[int]) -> list[str]:
        """The lines of one loop, which computes these values."""
        lines: list[str] = []
        for k in values:
            if k in self.arrays:
                line = f"{self.writer.element(k)} = {self.writer.text(k)};"
                self.writer.known[k] = self.writer.element(k)
            elif self.counts[k] > 1 or k in self.comments:
                line = f"const {self.names[k]} = {self.writer.text(k)};"
                self.writer.known[k] = self.names[k]
            else:
                continue
            lines += [*([self.comments[k]] if k in self.comments else []), line]
        return lines


def values_of(stage: Stage) -> list[int]:
    """The values of a stage in an order in which they can be computed."""
    return sorted([*(each.node for each in stage.sums), *stage.pointwise])


def _only(stage: Stage, values: Container[int], *, without: bool = False) -> Stage:
    """The part of a stage that is these values, or that is all others; reductions read a stage before it."""
    return Stage(
        tuple(each for each in stage.sums if (each.node in values) != without),
        tuple(k for k in stage.pointwise if (k in values) != without),
        tuple(k for k in stage.reductions if (k in values) != without),
    )


def constants(parts: list[str]) -> list[str]:
    """Declarations, a few a line."""
    lines = [", ".join(parts[k : k + 4]) for k in range(0, len(parts), 4)]
    joined = ",\n    ".join(lines)
    return [f"  const {joined};"] if parts else []
