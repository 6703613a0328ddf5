"""Write the step of a cell whose values are all vectors of H units as a C99 function.

It is sums of products, then what follows from them unit by unit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile

from cello.cells.arrays import Real
from cello.cells.definition import Cell
from cello.cells.graph import dependencies
from cello.compiler.c99.expression import Body
from cello.compiler.c99.repeated import Pointers
from cello.compiler.expression import FEW_EQUATIONS, MOST_EQUATIONS, equations, shortened, value_names
from cello.compiler.identifiers import comment, identifiers, state_parts
from cello.compiler.places import marked, unmarked
from cello.compiler.repeated import COMMENT, Block, Part, found, has_series, lines_of, share_memory
from cello.compiler.stages import Stage, Step, Sum, lower
from cello.compiler.text import STYLE

RESERVED = frozenset("jxDHP")
"""Single letters that mean something else in the function."""


@dataclass(frozen=True)
class Memory:
    """Floats of a step: where each state begins in ``states``, how many stand there, and how many in ``scratch``."""

    places: tuple[int, ...]
    states: int
    scratch: int


@dataclass(frozen=True)
class StepText:
    """A step as C99.

    Attributes:
        lines: the function ``NAME(x, states, scratch)``, or ``NAME(x, sums, states, scratch)`` where there are sums;
            x (D,) and states (S · P,) are floats, a state has P of them
        weights: the static array in which each of the cell's parameters is to stand
        scratch: how many times P floats it needs in ``scratch``
        memory: what it needs where its values have several sizes
        sums: how many times P floats of ``sums`` a step reads and writes
        frames: the function ``NAME_frames(count, x, stride, sums)`` that writes there what depends on frames alone
    """

    lines: list[str]
    weights: dict[str, str]
    scratch: int
    memory: Memory | None = None
    sums: int = 0
    frames: tuple[str, ...] = ()


class UnitStep:
    """Where each value of a step is kept, and the loops over the units that compute them."""

    reserved = RESERVED

    def __init__(self, cell: Cell, name: str, inputs: int, int8: bool, real: Real) -> None:
        self.cell, self.name, self.inputs, self.int8, self.real = cell, name, inputs, int8, real
        self.step: Step = lower(cell)
        self.graph, self.nodes = self.step.graph, self.step.graph.nodes
        self.needs = dependencies(self.nodes)
        self.sums = {each.node for stage in self.step.stages for each in stage.sums}
        self.of = identifiers(self.graph, self.sums, self.reserved)
        self.weights = {
            str(node.name): f"{name}_{self.of[k]}" for k, node in enumerate(self.nodes) if node.op == "parameter"
        }
        self.stage_of = {
            k: number
            for number, stage in enumerate(self.step.stages)
            for k in (*stage.pointwise, *stage.reductions, *(each.node for each in stage.sums))
        }
        self.states = state_parts(self.graph.states)
        self.arrays = self._find_arrays()
        self.ahead: dict[int, int] = {}  # sums that begin with products of the frame, and with how many

    def _find_arrays(self) -> dict[int, str]:
        """The arrays of the values that are read again after their loop, and of the old states; as marked places."""
        found = {k: marked(f"{self.of[k]}_array") for k in sorted(self.sums)}
        read = {arg for k, stage in self.stage_of.items() for arg in self.nodes[k].args if self._before(arg, stage)}
        vectors = {v for stage in self.step.stages for each in stage.sums for _, v in each.products}
        for k in sorted((read | vectors) & set(self.stage_of)):
            found.setdefault(k, marked(f"{self.of[k]}_array"))
        for k, node in enumerate(self.nodes):
            if node.op == "state":
                found[k] = marked(f"old_{self.states[self.graph.states.index(str(node.name))]}")
            elif node.op == "input":
                found[k] = marked("x")
        return found

    @property
    def load_weights(self) -> str:
        """The function that loads weights as vecs."""
        return "load" if self.real == "float" else "widened"

    def _before(self, k: int, stage: int) -> bool:
        return self.stage_of.get(k, stage) < stage

    def _reads(self, state: str) -> bool:
        return any(node.op == "state" and node.name == state for node in self.nodes)

    def text(self) -> StepText:
        count, real = len(self.graph.states), self.real
        body, own = self._body_and_arrays()
        body += unmarked(self._unchanged())
        if not self.repeats and not self.int8 and (ahead := self._frame_first()):
            self.ahead = ahead
            body, own = self._body_and_arrays()
            body += unmarked(self._unchanged())
        sums = [unmarked([self.arrays[k]])[0] for k in self.ahead]
        read = {name for name, state in zip(self.states, self.graph.states, strict=True) if self._reads(state)}
        given = f"{real} *sums, " * bool(sums)
        lines = [
            *self._title(),
            f"static void {self.name}(const {real} *x, {given}{real} *states, {real} *scratch) {{",
            *(
                f"    const {real} *const old_{name} = states{_place(n)};"
                for n, name in enumerate(self.states)
                if name in read
            ),
            *(f"    {real} *const new_{name} = scratch{_place(n)};" for n, name in enumerate(self.states)),
            *(f"    {real} *const {name} = scratch{_place(count + n)};" for n, name in enumerate(own)),
            *(f"    {real} *const {name} = sums{_place(n)};" for n, name in enumerate(sums)),
            *body,
            f"    memcpy(states, scratch, {count} * P * sizeof({real}));",
            *([] if re.search(r"\bx\b", COMMENT.sub("", "\n".join(body))) else ["    (void)x;"]),
            "}",
        ]
        return StepText(lines, self.weights, count + len(own), sums=len(sums), frames=tuple(self._frames(sums)))

    def _frame_first(self) -> dict[int, int]:
        """The sums that begin with products of the frame, by their nodes, and with how many they begin."""
        counts = {
            each.node: len([*takewhile(lambda product: self.nodes[product[1]].op == "input", each.products)])
            for each in self._every_sum()
        }
        return {k: count for k, count in counts.items() if count}

    def _frames(self, sums: Sequence[str]) -> list[str]:
        """The function that begins the sums of several steps."""
        if not sums:
            return []
        real = self.real
        starts, products = list[str](), list[str]()
        for number, each in enumerate(each for each in self._every_sum() if each.node in self.ahead):
            first = replace(each, products=each.products[: self.ahead[each.node]])
            products.append(self._equation(first))
            starts += [f"    {line}" for line in self._start(each, self.arrays[each.node], each.invariant)]
            for matrix, _ in first.products:
                blocks, columns = self._dimensions(each, matrix)
                weight, place = self._weight(matrix), f"x, stride, sums{_place(number)}, {len(sums)} * P"
                products.append(f"    add_products(count, {blocks}, {columns}, {weight}, {columns} * ROWS, {place});")
        return unmarked(
            [
                "/* What the sums of `count` steps begin with; a frame stands `stride` "
                f"{real}s after the one before. */",
                f"static void {self.name}_frames(int count, const {real} *x, int stride, {real} *sums) {{",
                "    for (int k = 0; k < count; k++) {",
                *(
                    f"        {real} *const {name} = sums + ({len(sums)} * k + {number}) * P;"
                    for number, name in enumerate(sums)
                ),
                *starts,
                "    }",
                *products,
                "}",
            ]
        )

    def _body_and_arrays(self) -> tuple[list[str], dict[str, int]]:
        """The stages' lines, what they do several times as loops, and their arrays with the node that is kept there."""
        mine = {k: name for k, name in self.arrays.items() if k in self.stage_of and k not in self.ahead}
        own = {unmarked([name])[0]: k for k, name in mine.items()}
        parts, gone = share_memory(self._parts(), {name: self._floats(k) for name, k in own.items()})
        new = [f"new_{name}" for name in self.states]
        matrices = {self.weights[str(self.nodes[m].name)] for each in self._every_sum() for m, _ in each.products}
        int8 = matrices if self.int8 else set[str]()
        weights = {*self.weights.values(), *(f"{name}_scale" for name in int8)}
        pointers = Pointers({*own, *new}, weights, int8, self.real)
        self.repeats = has_series(parts)
        return pointers.write(parts), {name: k for name, k in own.items() if name not in gone}

    def _every_sum(self) -> list[Sum]:
        return [each for stage in self.step.stages for each in stage.sums]

    def _parts(self) -> list[Part]:
        """The stages' blocks, with those that repeat as series.

        A first turn often begins with what all have of the frame: it is as the others where that comes before it.
        """
        parts = found(self._blocks(self.step.stages), chained=True)
        if not has_series(parts):
            return parts
        frame_first = [
            replace(stage, sums=tuple(sorted(stage.sums, key=lambda each: "state" in self.needs[each.node])))
            for stage in self.step.stages
        ]
        return min(parts, found(self._blocks(frame_first), chained=True), key=lines_of)

    def _blocks(self, stages: Sequence[Stage]) -> list[Block]:
        every = [lines for number, stage in enumerate(stages) for lines in self._stage(number, stage)]
        return [Block(tuple(lines)) for lines in every if lines]

    def _floats(self, k: int) -> int:
        """The floats in which a value stands, as a multiple of P."""
        return 1

    def _title(self) -> list[str]:
        written = [f"   {comment(f'{left} = {right}')}" for left, right in equations(self.graph, STYLE)]
        written = shortened(written, "   ... {} more equations ...", FEW_EQUATIONS if self.repeats else MOST_EQUATIONS)
        order = ", ".join(self.graph.states)
        return [
            f"/* {comment(f'{self.cell.name}: {self.cell.title}')}",
            *written,
            f"   {comment(f'states: {order}')}; the new ones are computed in scratch. */",
        ]

    def _stage(self, number: int, stage: Stage) -> list[list[str]]:
        """A stage's blocks: its sums and its loop."""
        stores = [
            *((f"{self.arrays[k]} + j", k) for k in stage.pointwise if k in self.arrays),
            *(
                (f"{marked(f'new_{self.states[n]}')} + j", k)
                for n, k in enumerate(self.graph.outputs)
                if self.stage_of.get(k) == number
            ),
        ]
        return [*map(self._sum, stage.sums), self._loop(stores, set(stage.pointwise), self._comments)]

    def _unchanged(self) -> list[str]:
        """New states that are old ones: no stage computes them."""
        outputs = zip(self.states, self.graph.outputs, strict=True)
        return self._loop([(f"new_{name} + j", k) for name, k in outputs if k not in self.stage_of], set())

    def _loop(
        self,
        stores: list[tuple[str, int]],
        here: set[int],
        comments: Mapping[int, str] | None = None,
        floats: str = "P",
    ) -> list[str]:
        if not stores:
            return []

        def loads(k: int) -> str | None:
            node = self.nodes[k]
            if node.op == "parameter":
                array = self._weight(k)
                return f"{self.load_weights}({array} + j)" if node.shape else f"broadcast({array}[0])"
            return None if k in here or k not in self.arrays else f"load({self.arrays[k]} + j)"

        body = Body(self.nodes, self.of, loads, comments or {}, self.real).write(stores)
        return [f"    for (int j = 0; j < {floats}; j += LANES) {{", *(f"        {line}" for line in body), "    }"]

    def _sum(self, each: Sum) -> list[str]:
        """A sum: what is the same at every step, then one product after another added to it."""
        array = self.arrays[each.node]
        if each.node in self.ahead:
            each = replace(each, products=each.products[self.ahead[each.node] :], invariant=())
            lines = [self._equation(each, "+=")] if each.products else []
        else:
            lines = [self._equation(each), *self._start(each, array, each.invariant)]
        for matrix, vector in each.products:
            weight, (blocks, columns) = self._weight(matrix), self._dimensions(each, matrix)
            with_scale = (
                f"{weight}, {self._weight(matrix, '_scale')}" if self.int8 else f"{weight}, {columns} * ROWS, ROWS"
            )
            function = "add_product_int8" if self.int8 else "add_product"
            lines.append(f"    {function}({blocks}, {columns}, {with_scale}, {self.arrays[vector]}, {array});")
        return lines

    def _equation(self, each: Sum, sign: str = "=") -> str:
        terms = [f"{self.nodes[m].name} @ {self.nodes[v].name or self.of[v]}" for m, v in each.products]
        terms += [self._told(k) for k in each.invariant]
        return f"    /* {comment(f'{self.of[each.node]} {sign} ' + ' + '.join(terms))} */"

    def _weight(self, k: int, of: str = "") -> str:
        """The array of a parameter, or one of its own that is called after it; a marked place."""
        return marked(self.weights[str(self.nodes[k].name)] + of)

    def _told(self, k: int) -> str:
        node = self.nodes[k]
        return f"{node.value:g}" if node.op == "constant" else str(node.name or self.of[k])

    def _dimensions(self, each: Sum, matrix: int) -> tuple[str, str]:
        """The blocks and the columns of a matrix of a sum."""
        return "P / ROWS", "H" if self.nodes[matrix].shape == ("H", "H") else str(self.inputs)

    def _padded(self, each: Sum) -> str:
        """The floats in which a sum stands."""
        return "P"

    def _start(self, each: Sum, array: str, invariant: tuple[int, ...]) -> list[str]:
        floats = self._padded(each)
        if not invariant:
            return [f"    memset({array}, 0, {floats} * sizeof({self.real}));"]
        (only,) = (self.nodes[k] for k in invariant) if len(invariant) == 1 else (None,)
        if self.real == "float" and only is not None and only.op == "parameter" and only.shape:
            return [f"    memcpy({array}, {self._weight(invariant[0])}, {floats} * sizeof(float));"]
        lines = self._loop([("START", k) for k in invariant], set(), floats=floats)
        stores = [line.strip().removeprefix("store(START, ").removesuffix(");") for line in lines if "START" in line]
        before = [line for line in lines[:-1] if "START" not in line]
        terms = [f"({text})" for text in stores]
        return [*before, f"        store({array} + j, {' + '.join(terms)});", lines[-1]]

    @cached_property
    def _comments(self) -> dict[int, str]:
        """The equations of named values and of new states, by their nodes."""
        left = {name: k for k, name in value_names(self.graph).items()}
        left |= {f"{s}[t]": k for s, k in zip(self.graph.states, self.graph.outputs, strict=True)}
        found = equations(self.graph, STYLE)
        return {left[name]: f"/* {comment(f'{name} = {right}')} */" for name, right in found}


def _place(number: int) -> str:
    """Where the row of this number begins, behind a pointer."""
    return "" if number == 0 else " + P" if number == 1 else f" + {number} * P"
