"""Write the step of a cell whose values have several sizes: a loop for each shape, stage by stage."""

from __future__ import annotations

from cello.cells.graph import MULTIPLYING, REDUCTIONS, RESHAPING, Shape, dependencies
from cello.cells.sizes import columns_of, share
from cello.compiler.expression import ATOM
from cello.compiler.js.expression import Writer
from cello.compiler.js.names import RESERVED, SIZED, string
from cello.compiler.js.units import UnitStep, constants, values_of
from cello.compiler.places import unmarked
from cello.compiler.stages import Stage

REDUCED = {
    "total": "{to}[0] = total({of});",
    "largest": "{to}[0] = greatest({of});",
    "row_sum": "rowSum({of}, {to});",
    "column_sum": "columnSum({of}, {to}, {columns});",
    "flatten": "{to}.set({of});",
}
"""How each operation that needs a whole vector or matrix is written."""


def elements(text: str) -> str:
    """A size as it stands in the function: a number, D, H, or the name of a constant.

    >>> elements("16"), elements("H"), elements("(D-1)/2"), elements("2*H")
    ('16', 'H', 'D_less_1_2', 'H_times_2')
    """
    if (columns := columns_of(text)) is not None:
        return f"H_by_{elements(columns)}"
    factor, _, rest = text.rpartition("*")
    name = rest.replace("-", "_less_").replace("/", "_").strip("(").replace(")", "")
    return f"{name}_times_{factor}" if factor else name


def computed(text: str) -> str:
    """A size as an expression of D and H.

    >>> computed("H/4"), computed("(D-1)/2"), computed("2*H")
    ('Math.max(1, Math.floor(H / 4))', 'Math.max(1, Math.floor((D - 1) / 2))', 'Math.max(1, 2 * H)')
    >>> computed("H*(D-1)")
    'H * Math.max(1, D - 1)'
    """
    if (columns := columns_of(text)) is not None:
        return f"H * {columns if columns in ('D', 'H') or columns.isdigit() else computed(columns)}"
    spaced = text.replace("-", " - ").replace("/", " / ").replace("*", " * ")
    return f"Math.max(1, {f'Math.floor({spaced})' if '/' in text else spaced})"


class _Elements(Writer):
    """Reads element j of a vector; of a matrix the element ``at``, which stands in ``row`` and ``col``."""

    def element(self, k: int) -> str:
        node, name = self.nodes[k], self.place(k)
        if node.op == "size":
            return elements(str(node.name))
        if not node.shape:
            return f"{name}[0]" if node.op == "parameter" else name
        return f"{name}[{'j' if len(node.shape) == 1 else 'at'}]"

    def formula(self, k: int) -> tuple[str, int]:
        node = self.nodes[k]
        if node.op not in RESHAPING:
            return super().formula(k)
        name = self.place(node.args[0])
        if node.op == "matrix":
            return f"{name}[at]", ATOM
        if node.op == "columns" and not share(node.shape[1]):
            return f"{name}[col]", ATOM
        if node.op == "columns":
            return f"{name}[row - (row % {elements(node.shape[1])}) + col]", ATOM
        return f"{name}[{'row' if node.op == 'rows' else '0'}]", ATOM


class SizedStep(UnitStep):
    """As its base, with an array for whatever a loop of another shape reads."""

    arguments = "weights, H, D"

    @property
    def reserved(self) -> frozenset[str]:
        return RESERVED | SIZED | {elements(text) for text in self._sizes()}

    def _sizes(self) -> list[str]:
        """The sizes that have constants of their own."""
        every = [text for node in self.nodes for text in node.shape] + [text for _, text in self.cell.parts]
        every += [str(node.name) for node in self.nodes if node.op == "size"]
        return list(dict.fromkeys(text for text in every if not (text.isdecimal() or text in ("D", "H"))))

    def _writer(self) -> Writer:
        return _Elements(self.graph, self.names, self.precision)

    def _own(self, k: int, needs: list[frozenset[str]]) -> bool:
        return super()._own(k, needs) or self._complete(k)

    def _complete(self, k: int) -> bool:
        """Whether somebody reads a value in another place than its own."""
        whole = any(k in node.args and node.op in RESHAPING for node in self.nodes)
        return whole or self.nodes[k].op in REDUCTIONS

    def _arrays(self) -> set[int]:
        needs = dependencies(self.nodes)
        return super()._arrays() | {
            k for k, node in enumerate(self.nodes) if node.args and needs[k] and self._complete(k)
        }

    def _length(self, shape: Shape) -> str:
        return " * ".join(map(elements, shape)) or "1"

    def _declared(self) -> list[str]:
        weights = [
            f"{self.names[k]} = weights[{string(str(node.name))}]"
            for k, node in enumerate(self.nodes)
            if node.op == "parameter"
        ]
        sizes = [f"{elements(text)} = {computed(text)}" for text in self._sizes()]
        shapes = dict(zip(self._states(), (self.nodes[k].shape for k in self.graph.outputs), strict=True))
        shapes |= {self.names[k]: self.nodes[k].shape for k in self._held()}
        shapes |= {name: self.nodes[k].shape for k, name in self._moved().items()}
        held = [f"{name} = new {self.array}({self._length(shape)})" for name, shape in shapes.items()]
        return [*constants(weights), *constants(sizes), *constants(held)]

    def _fixed_lines(self) -> list[str]:
        """What is the same at every step, computed once."""
        lines: list[str] = []
        for k in self.fixed:
            node, name = self.nodes[k], self.names[k]
            lines += [f"  {self.comments[k]}"] if k in self.comments else []
            if not node.shape:
                lines += unmarked([f"  const {name} = {self.writer.text(k)};"])
            else:
                lines.append(f"  const {name} = new {self.array}({self._length(node.shape)});")
                lines += [f"  {line}" for line in unmarked(self._whole(k))]
            self.writer.known[k] = self.writer.element(k)
        return lines

    def _whole(self, k: int) -> list[str]:
        """All elements of one value."""
        node = self.nodes[k]
        if node.op in REDUCTIONS:
            arg = node.args[0]
            columns = elements(self.nodes[arg].shape[-1])
            if node.op in MULTIPLYING:
                square = node if node.op == "multiply_transposed" else self.nodes[arg]
                transposed = [str(node.op == op).lower() for op in ("transposed_multiply", "multiply_transposed")]
                given = ", ".join(map(self.writer.place, (*node.args, k)))
                return [f"multiplied({given}, {elements(square.shape[1])}, {', '.join(transposed)});"]
            return [REDUCED[node.op].format(to=self.writer.place(k), of=self.writer.place(arg), columns=columns)]
        return self._looped(node.shape, [f"{self.writer.element(k)} = {self.writer.text(k)};"])

    def _looped(self, shape: Shape, lines: list[str]) -> list[str]:
        body = [f"  {line}" for line in lines]
        if len(shape) == 1:
            return [f"for (let j = 0; j < {elements(shape[0])}; j++) {{", *body, "}"]
        rows, columns = map(elements, shape)
        return [
            f"for (let row = 0, at = 0; row < {rows}; row++) {{",
            f"  for (let col = 0; col < {columns}; col++, at++) {{",
            *(f"  {line}" for line in body),
            "  }",
            "}",
        ]

    def _parts(self) -> list[str]:
        """The parts of a frame."""
        lines = []
        for k, node in enumerate(self.nodes):
            begin: list[str] = []
            for part, text in self.cell.parts if node.op == "input" and "." in str(node.name) else ():
                if part == str(node.name).partition(".")[2]:
                    first, end = " + ".join(begin) or "0", " + ".join([*begin, elements(text)])
                    lines.append(f"const {self.names[k]} = x.subarray({first}, {end});")
                begin.append(elements(text))
        return lines

    def _blocks(self) -> list[list[str]]:
        blocks = [[line] for line in self._parts()]
        for stage in self.stages:
            for k in stage.reductions:
                blocks.append([*([self.comments[k]] if k in self.comments else []), *self._whole(k)])
                self.writer.known[k] = self.writer.element(k)
            for shape, inside in self._shaped(stage):
                if body := self._values(inside):
                    blocks.append(self._looped(shape, body))
        return blocks

    def _floats(self, k: int) -> str:
        return self._length(self.nodes[k].shape)

    def _shaped(self, stage: Stage) -> list[tuple[Shape, list[int]]]:
        """The values of a stage in loops: one number a step, vectors, matrices."""
        values = [k for k in values_of(stage) if k not in stage.reductions]
        shapes = dict.fromkeys(self.nodes[k].shape for k in values)
        order = sorted(shapes, key=lambda shape: (len(shape), shape != ("1",)))
        return [(shape, [k for k in values if self.nodes[k].shape == shape]) for shape in order]
