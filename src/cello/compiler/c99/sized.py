"""Write one step of a cell whose values have several sizes as a C99 function: a loop for each shape, stage by stage.

A vector stands in as many floats as whole blocks of rows take. A matrix of heads stands row by row without gaps; the
last vector of a row may reach into the next row, which is written after it, or into floats kept free behind the last.
Its sums over rows and columns are taken while its rows are written, so that it need not be kept for them.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from cello.cells.arrays import Real
from cello.cells.definition import Cell
from cello.cells.graph import MULTIPLYING, REDUCTIONS, RESHAPING, Shape
from cello.cells.sizes import share, size
from cello.cells.specialise import multiplying
from cello.compiler.c99.expression import Body
from cello.compiler.c99.units import RESERVED, Memory, StepText, UnitStep
from cello.compiler.places import marked, unmarked
from cello.compiler.stages import Stage, Sum
from cello.errors import CellError

OVER_HEADS = frozenset(["row_sum", "column_sum"])


class SizedStep(UnitStep):
    """As its base for D = ``inputs``, H = ``hidden`` and blocks of ``rows`` rows, in numbers of each value's own."""

    reserved = RESERVED | {"u"}

    def __init__(self, cell: Cell, name: str, inputs: int, hidden: int, rows: int, *, int8: bool, real: Real) -> None:
        self.hidden, self.rows = hidden, rows
        super().__init__(cell, name, inputs, int8, real)
        products = {str(self.nodes[node.args[0]].name) for node in self.nodes if node.op == "product"}
        if both := sorted(products - multiplying(self.nodes)):
            raise CellError(
                f"cell {cell.name!r} multiplies by {both[0]} and uses it element by element, which C99 cannot; "
                "give it two parameters, or export another form"
            )

    def _sizes(self, shape: Shape) -> tuple[int, ...]:
        return tuple(size(each, self.inputs, self.hidden) for each in shape)

    def _floats(self, k: int) -> int:
        """The floats in which a value stands."""
        by_rows = len(self.nodes[k].shape) == 2 or any(node.op == "matrix" and k in node.args for node in self.nodes)
        return self._blocks_of(k) + self.rows * by_rows

    def _blocks_of(self, k: int) -> int:
        """The floats of as many whole blocks as a value takes."""
        return -(-prod(self._sizes(self.nodes[k].shape)) // self.rows) * self.rows

    def _find_arrays(self) -> dict[int, str]:
        found = super()._find_arrays()
        for k, node in enumerate(self.nodes):
            if node.op == "input" and "." in str(node.name):
                begin, _ = self.cell.part(str(node.name), self.inputs)
                found[k] = marked(f"(x + {begin})" if begin else "x")
        own = {k: marked(f"{self.of[k]}_array") for k in self.stage_of}
        for k, node in enumerate(self.nodes):
            if node.op in REDUCTIONS:
                found[k] = own[k]
            for arg in node.args if node.op in RESHAPING else ():
                if arg in own:
                    found.setdefault(arg, own[arg])
        return {k: name for k, name in found.items() if k not in self.stage_of or not self._passing(k)}

    def _passing(self, k: int) -> bool:
        """Whether a matrix is read by sums over rows and columns alone, and so is kept for one row at a time."""
        node = self.nodes[k]
        readers = [reader for reader in self.nodes if k in reader.args]
        inside = bool(node.args) and len(node.shape) == 2 and k not in self.graph.outputs
        return inside and all(reader.op in OVER_HEADS for reader in readers)

    def text(self) -> StepText:
        places, at, real = [], 0, self.real
        for k in self.graph.outputs:
            places.append(at)
            at += self._floats(k)
        states, own = at, []
        body, arrays = self._body_and_arrays()
        for name, k in arrays.items():
            own.append((name, at))
            at += self._floats(k)
        read = {name for name, state in zip(self.states, self.graph.states, strict=True) if self._reads(state)}
        named = list(zip(self.states, places, strict=True))
        lines = [
            *self._title(),
            f"static void {self.name}(const {real} *x, {real} *states, {real} *scratch) {{",
            *(f"    const {real} *const old_{name} = states{_place(n)};" for name, n in named if name in read),
            *(f"    {real} *const new_{name} = scratch{_place(n)};" for name, n in named),
            *(f"    {real} *const {name} = scratch{_place(n)};" for name, n in own),
            *body,
            *unmarked(self._unchanged()),
            f"    memcpy(states, scratch, {states} * sizeof({real}));",
            *([] if any(node.op == "input" for node in self.nodes) else ["    (void)x;"]),
            "}",
        ]
        memory = Memory(tuple(places), states + self.rows, at + self.rows)
        return StepText(lines, self.weights, 0, memory)

    def _stage(self, number: int, stage: Stage) -> list[list[str]]:
        blocks = [*map(self._sum, stage.sums)]
        for k in stage.reductions:
            if self.nodes[k].op not in OVER_HEADS:
                blocks.append([self._reduced(k)])
            elif self.nodes[self.nodes[k].args[0]].op == "state":
                array = self.arrays[self.nodes[k].args[0]]
                blocks.append(self._over_rows(self.nodes[self.nodes[k].args[0]].shape, [], [(k, array)]))
        return blocks + [self._shape(number, shape, values) for shape, values in self._shaped(number, stage)]

    def _shaped(self, number: int, stage: Stage) -> list[tuple[Shape, list[int]]]:
        """The values of a stage by shape; sums that are new states are stored as such, and so are among them."""
        outputs = [k for k in self.graph.outputs if self.stage_of.get(k) == number]
        values = sorted({*stage.pointwise, *outputs})
        shapes = dict.fromkeys(self.nodes[k].shape for k in values)
        order = sorted(shapes, key=lambda shape: (len(shape), shape != ("1",)))
        return [(shape, [k for k in values if self.nodes[k].shape == shape]) for shape in order]

    def _reduced(self, k: int) -> str:
        array = self._read_from(self.nodes[k].args[0])
        if self.nodes[k].op in MULTIPLYING:
            return self._multiplied(k)
        if self.nodes[k].op == "flatten":  # whose elements stand row by row already
            elements = prod(self._sizes(self.nodes[k].shape))
            return f"    memcpy({self.arrays[k]}, {array}, {elements} * sizeof({self.real}));"
        (elements,) = self._sizes(self.nodes[self.nodes[k].args[0]].shape)
        function = "total" if self.nodes[k].op == "total" else "greatest"
        return f"    {self.arrays[k]}[0] = {function}({array}, {elements});"

    def _multiplied(self, k: int) -> str:
        """A product of matrices."""
        node = self.nodes[k]
        left, right = (self.nodes[arg].shape for arg in node.args)
        (_, rows), (units, columns) = self._sizes(left), self._sizes(node.shape)
        (_, wide) = self._sizes(right)
        block, terms = (columns, wide) if node.op == "multiply_transposed" else (rows, rows)
        down, across = (1, rows) if node.op == "transposed_multiply" else (rows, 1)
        a = f"{self._read_from(node.args[0])}, (struct sides){{{rows}, {down}, {across}}}"
        down, across = (1, wide) if node.op == "multiply_transposed" else (wide, 1)
        b = f"{self._read_from(node.args[1])}, (struct sides){{{wide}, {down}, {across}}}"
        first, second = (self.nodes[arg].op == "parameter" for arg in node.args)
        function = "multiply_weights" if first else "multiply_by_weights" if second else "multiply"
        return f"    {function}({units}, {block}, {columns}, {terms}, {a}, {b}, {self.arrays[k]});"

    def _read_from(self, k: int) -> str:
        """The array of a leaf or of a value that is kept."""
        node = self.nodes[k]
        return self._weight(k) if node.op == "parameter" else self.arrays[k]

    def _shape(self, number: int, shape: Shape, values: list[int]) -> list[str]:
        """The loop over the elements of one shape."""
        stores = [(self.arrays[k], k) for k in values if k in self.arrays and k not in self.sums]
        stores = [(array, k) for array, k in stores if self.nodes[k].op not in REDUCTIONS]
        outputs = enumerate(self.graph.outputs)
        stores += [
            (marked(f"new_{self.states[n]}"), k) for n, k in outputs if k in values and self.stage_of.get(k) == number
        ]
        here = {*values} - self.sums - {k for k in values if self.nodes[k].op in REDUCTIONS}
        if len(shape) == 2:
            rows = [k for k in values if self._passing(k)]
            stores += [(f"{self.of[k]}_row", k) for k in rows]
            return self._matrix(shape, stores, here)
        if not stores:
            return []
        body = self._body(here).write((f"{array} + j", k) for array, k in stores)
        whole = -(-self._sizes(shape)[0] // self.rows) * self.rows
        return [f"    for (int j = 0; j < {whole}; j += LANES) {{", *(f"        {line}" for line in body), "    }"]

    def _matrix(self, shape: Shape, stores: list[tuple[str, int]], here: set[int]) -> list[str]:
        if not stores:
            return []
        _, width = self._sizes(shape)
        rows = {k for array, k in stores if array == f"{self.of[k]}_row"}
        places = [
            (f"{array} + {'j' if k in rows and array.endswith('_row') else f'u * {width} + j'}", k)
            for array, k in stores
        ]
        body = self._body(here).write(places)
        inner = [
            f"for (int j = 0; j < {width}; j += LANES) {{",
            *(f"    {line}" for line in body),
            "}",
        ]
        buffers = [f"{self.real} {self.of[k]}_row[{width + self.rows}];" for k in sorted(rows)]
        repeated = [k for k in sorted(here) if self.nodes[k].op == "rows"]  # read once a row, whatever is stored there
        buffers += [
            f"const vec {self.of[k]}_of_row = broadcast({self._read_from(self.nodes[k].args[0])}[u]);" for k in repeated
        ]
        first = {k: array for array, k in reversed(stores)}
        sums = [
            (k, self.nodes[k].args[0])
            for k, node in enumerate(self.nodes)
            if node.op in OVER_HEADS and node.args[0] in first
        ]
        return self._over_rows(shape, [*buffers, *inner], [(k, first[of]) for k, of in sums], rows)

    def _over_rows(
        self, shape: Shape, inner: list[str], sums: list[tuple[int, str]], rows: Iterable[int] = ()
    ) -> list[str]:
        """The loop over the rows of a matrix; after each row the sums (node, array) take it."""
        units, width = self._sizes(shape)
        buffers = {f"{self.of[k]}_row" for k in rows}
        after, before = [], []
        for k, array in sums:
            row = array if array in buffers else f"{array} + u * {width}"
            if self.nodes[k].op == "row_sum":
                after.append(f"{self.arrays[k]}[u] = total({row}, {width});")
            else:
                (own,) = self._sizes(self.nodes[k].shape)
                before.append(f"    memset({self.arrays[k]}, 0, {own} * sizeof({self.real}));")
                after.append(f"add_row({self.arrays[k]} + {self._head(shape)}0, {row}, {width});")
        return [
            *before,
            f"    for (int u = 0; u < {units}; u++) {{",
            *(f"        {line}" for line in (*inner, *after)),
            "    }",
        ]

    def _head(self, shape: Shape) -> str:
        """Where the head of row u begins in what repeats along rows, if there are heads."""
        width = self._sizes(shape)[1]
        return f"u / {width} * {width} + " if share(shape[1]) else ""

    def _body(self, here: set[int]) -> Body:
        def loads(k: int) -> str | None:
            node = self.nodes[k]
            if node.op == "parameter" and not node.shape:
                return f"broadcast({self._weight(k)}[0])"
            if node.op in ("broadcast", "rows", "columns", "matrix") and k in here:
                array = self._read_from(node.args[0])
                load = self.load_weights if self.nodes[node.args[0]].op == "parameter" else "load"
                if node.op == "matrix":
                    return f"{load}({array} + u * {self._sizes(node.shape)[1]} + j)"
                if node.op == "columns":
                    return f"{load}({array} + {self._head(node.shape)}j)"
                return f"broadcast({array}[0])" if node.op == "broadcast" else f"{self.of[k]}_of_row"
            if node.op != "parameter" and (k in here or k not in self.arrays):
                return None
            place = f"u * {self._sizes(node.shape)[1]} + j" if len(node.shape) == 2 else "j"
            load = self.load_weights if node.op == "parameter" else "load"
            return f"{load}({self._read_from(k)} + {place})"

        return Body(self.nodes, self.of, loads, self._comments, self.real)

    def _unchanged(self) -> list[str]:
        lines = []
        for name, k in zip(self.states, self.graph.outputs, strict=True):
            if k not in self.stage_of:
                elements = prod(self._sizes(self.nodes[k].shape))
                lines.append(self._copied(f"new_{name}", k, elements))
        return lines

    def _copied(self, to: str, k: int, elements: int) -> str:
        """A leaf as it is in another array."""
        if self.nodes[k].op == "parameter" and self.real != "float":
            return f"    for (int j = 0; j < {elements}; j++) {to}[j] = {self._read_from(k)}[j];"
        return f"    memcpy({to}, {self._read_from(k)}, {elements} * sizeof({self.real}));"

    def _dimensions(self, each: Sum, matrix: int) -> tuple[str, str]:
        rows, columns = self._sizes(self.nodes[matrix].shape)
        return str(-(-rows // self.rows)), str(columns)

    def _padded(self, each: Sum) -> str:
        return str(self._blocks_of(each.node))


def _place(floats: int) -> str:
    return f" + {floats}" if floats else ""
