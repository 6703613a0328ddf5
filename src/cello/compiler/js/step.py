"""Write one step of a cell as a JavaScript function of its own."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources

from cello.cells.definition import Cell
from cello.cells.graph import LEAVES, dependencies, uses
from cello.compiler.deep import deep
from cello.compiler.expression import equations, value_names
from cello.compiler.js.expression import Writer
from cello.compiler.js.names import comment, fresh, identifiers, string
from cello.compiler.stages import Stage, stages
from cello.compiler.text import STYLE


def runtime() -> str:
    """The functions that every cell's step is written with."""
    return resources.files("cello.compiler.js").joinpath("runtime.js").read_text(encoding="utf-8")


@lru_cache(maxsize=256)
@deep()
def step_text(cell: Cell, name: str | None = None) -> str:
    """A function ``name(weights, H)`` that gives ``{states, step(x)}``, complete but for ``runtime()``.

    ``weights`` holds a Float32Array for each parameter by its name in the equations, matrices row by row. ``step(x)``
    takes a frame (D,), replaces ``states``, each (H,) and zero at first, and returns the output, which is the first.

    Raises:
        CellError: an operation that JavaScript has no row for.

    >>> from cello.cells.load import load_cell
    >>> print(step_text(load_cell("rnn")))  # doctest: +ELLIPSIS
    // rnn: ...
    //   h[t] = tanh(W @ x[t] + U @ h[t-1] + b)
    function rnn(weights, H) {
      const W = weights["W"], U = weights["U"], b = weights["b"];
      const h = new Float32Array(H), h_next = new Float32Array(H);
      return {
        states: [h],
        step(x) {
          for (let j = 0; j < H; j++) {
            // h[t] = tanh(W @ x[t] + U @ h[t-1] + b)
            h_next[j] = Math.tanh(dot(W, x, j) + dot(U, h, j) + b[j]);
          }
          h.set(h_next);
          return h;
        },
      };
    }
    """
    return "\n".join(_Step(cell).lines(name or function_name(cell)))


def function_name(cell: Cell) -> str:
    """The identifier of a cell's function: its name if that can be one."""
    plain = cell.name.replace("-", "_")
    return plain if plain.isascii() and plain.isidentifier() else fresh(plain, 0)


class _Step:
    """Where each value of a step is kept: in an array, as a constant of unit j, or inside what reads it."""

    def __init__(self, cell: Cell) -> None:
        self.cell, self.graph, self.nodes = cell, cell.graph, cell.graph.nodes
        self.names = identifiers(self.graph)
        self.stages = stages(self.graph)
        self.counts = uses(self.graph)
        self.writer = Writer(self.graph, self.names)
        needs = dependencies(self.nodes)
        self.fixed = [k for k, node in enumerate(self.nodes) if node.args and not needs[k] and self._own(k, needs)]
        self.arrays = self._arrays()
        left = {own: k for k, own in value_names(self.graph).items()}
        left |= {f"{state}[t]": k for state, k in zip(self.graph.states, self.graph.outputs, strict=True)}
        self.equations = equations(self.graph, STYLE)
        self.comments = {left[own]: comment(f"{own} = {right}") for own, right in self.equations}

    def _own(self, k: int, needs: list[frozenset[str]]) -> bool:
        """Whether a value that is the same at every step is read by one that is not, or more than once."""
        readers = [reader for reader, node in enumerate(self.nodes) if k in node.args]
        return self.counts[k] > 1 or any(needs[reader] for reader in readers)

    def _arrays(self) -> set[int]:
        """The values of a step that another unit or a later stage reads, and the new states."""
        found = {k for k in self.graph.outputs if self.nodes[k].args}
        found |= {node.args[1] for node in self.nodes if node.op == "product" and self.nodes[node.args[1]].args}
        stage = {k: number for number, each in enumerate(self.stages) for k in _values(each)}
        for k, number in stage.items():
            found |= {arg for arg in self.nodes[k].args if stage.get(arg, number) < number}
        return found

    def lines(self, name: str) -> list[str]:
        title = comment(f"{self.cell.name}: {self.cell.title}")
        step = [comment(f"  {left} = {right}") for left, right in self.equations]
        fixed = self._fixed_lines()  # first, for the step reads them
        inner = [f"    {line}" for line in ["step(x) {", *(f"  {line}" for line in self._step_lines()), "},"]]
        states = ", ".join(self._states())
        return [
            *(title, *step, f"function {name}(weights, H) {{"),
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
        held = [*self._states(), *(self.names[k] for k in sorted(self.arrays)), *self._moved().values()]
        return [*_constants(weights), *_constants([f"{name} = new Float32Array(H)" for name in held])]

    def _fixed_lines(self) -> list[str]:
        """What is the same at every step, computed once."""
        lines = []
        for k in self.fixed:
            text, vector = self.writer.text(k), self.nodes[k].shape == ("H",)
            name = self.names[k]
            lines += [f"  {self.comments[k]}"] if k in self.comments else []
            if vector:
                lines.append(f"  const {name} = new Float32Array(H);")
                lines.append(f"  for (let j = 0; j < H; j++) {name}[j] = {text};")
            else:
                lines.append(f"  const {name} = {text};")
            self.writer.known[k] = self.writer.element(k)
        return lines

    def _step_lines(self) -> list[str]:
        lines = []
        for stage in self.stages:
            if body := self._loop(stage):
                lines += ["for (let j = 0; j < H; j++) {", *(f"  {line}" for line in body), "}"]
        moved = self._moved()
        lines += [f"{name}.set({self.names[k]});" for k, name in moved.items()]
        for state, k in zip(self._states(), self.graph.outputs, strict=True):
            lines.append(f"{state}.set({moved.get(k, self.names[k])});")
        return [*lines, f"return {self._states()[0]};"]

    def _moved(self) -> dict[int, str]:
        """Copies of the old states that become new ones as they are."""
        taken = set(self.names.values())
        leaves = dict.fromkeys(k for k in self.graph.outputs if self.nodes[k].op in LEAVES)
        return {k: fresh(f"{self.names[k]}_old", k, taken) for k in leaves}

    def _loop(self, stage: Stage) -> list[str]:
        """The lines of one stage's loop over the units."""
        lines: list[str] = []
        for k in _values(stage):
            if k in self.arrays:
                line = f"{self.names[k]}[j] = {self.writer.text(k)};"
                self.writer.known[k] = f"{self.names[k]}[j]"
            elif self.counts[k] > 1 or k in self.comments:
                line = f"const {self.names[k]} = {self.writer.text(k)};"
                self.writer.known[k] = self.names[k]
            else:
                continue
            lines += [*([self.comments[k]] if k in self.comments else []), line]
        return lines


def _values(stage: Stage) -> list[int]:
    """The values of a stage in an order in which they can be computed."""
    return sorted([*(each.node for each in stage.sums), *stage.pointwise])


def _constants(parts: list[str]) -> list[str]:
    """Declarations, a few a line."""
    lines = [", ".join(parts[k : k + 4]) for k in range(0, len(parts), 4)]
    joined = ",\n    ".join(lines)
    return [f"  const {joined};"] if parts else []
