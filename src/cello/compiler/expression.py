"""Write a graph as equations, for every target that prints formulas."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from cello.cells.graph import LEAVES, Graph, Node, Shape, dependencies

ATOM = 9
"""The precedence of what never needs parentheses."""
DEEPEST = 100
"""Operations inside one another in one expression of C: Clang takes 256 brackets."""
MOST_EQUATIONS, FEW_EQUATIONS = 60, 16
"""Equations in a step's title, and in the title of a step whose text is a loop."""


FURTHER = frozenset(["sin", "cos", "atan", "erf", "floor", "round", "sign", "mod"])
"""The operations that functions.h has; runtimes in C have the others."""


@dataclass(frozen=True)
class Row:
    """How one operation is written: ``needs`` is the precedence below which each argument takes parentheses."""

    template: str
    precedence: int
    needs: tuple[int, ...]


def function(template: str, arguments: int = 1) -> Row:
    """The row of an operation whose template itself encloses its arguments."""
    return Row(template, ATOM, (0,) * arguments)


@dataclass(frozen=True)
class Style:
    """A target: its row for each operation and its way of writing names and numbers.

    ``leaf(kind, name)`` writes an "input", "state" or "parameter"; ``new_state(name)`` and ``value(name)`` write the
    left sides, ``shape`` what a matrix is made of a vector in; ``parentheses`` is a template.
    """

    rows: Mapping[str, Row]
    leaf: Callable[[str, str], str]
    new_state: Callable[[str], str]
    value: Callable[[str], str]
    constant: Callable[[float], str]
    shape: Callable[[Shape], str] = "×".join
    parentheses: str = "({})"


def equations(graph: Graph, style: Style) -> list[tuple[str, str]]:
    """Left and right sides of a step's equations, in order: of named values, of values used twice, of new states."""
    return _Writer(graph, style).equations()


def shortened(lines: list[str], left_out: str, most: int = MOST_EQUATIONS) -> list[str]:
    """The equations of a title; of more than ``most`` the first and the last, as whoever unfolds need not read all."""
    if len(lines) <= most:
        return lines
    half = most // 2
    return [*lines[:half], left_out.format(len(lines) - 2 * half), *lines[-half:]]


def inline(nodes: Sequence[Node], style: Style) -> str:
    """The last of these nodes as one formula."""
    writer = _Writer(Graph(tuple(nodes), ("value",), (len(nodes) - 1,)), style)
    writer.known.clear()
    return writer.text(len(nodes) - 1)


def _patterns(graph: Graph) -> dict[int, tuple[str, tuple[int, ...]]]:
    """What is written as one operation of others: ``S @ q``, ``outer(v, k)``, ``v ** n``; and what is not written.

    Broadcasting is not written: a value that is broadcast is written as it is.
    """
    nodes, found = graph.nodes, dict[int, tuple[str, tuple[int, ...]]]()
    for k, node in enumerate(nodes):
        ops = [nodes[arg].op for arg in node.args]
        if node.op == "broadcast":
            found[k] = ("", node.args)
        elif node.op == "where" and (power := _power(nodes, node)):
            found[k] = ("power", power)
        elif node.op == "mul" and ops == ["rows", "columns"]:
            found[k] = ("outer", tuple(nodes[arg].args[0] for arg in node.args))
        elif node.op in ("row_sum", "column_sum") and ops == ["mul"]:
            matrix, repeated = nodes[node.args[0]].args
            along = "columns" if node.op == "row_sum" else "rows"
            if nodes[repeated].op == along and node.args[0] not in graph.outputs:
                op = "product" if node.op == "row_sum" else "turned_product"
                found[k] = (op, (matrix, nodes[repeated].args[0]))
    return found


def _scaled(nodes: Sequence[Node]) -> dict[int, tuple[str, tuple[int, ...]]]:
    """What is a number times a value: its number first, wherever it stands in the function."""
    found = dict[int, tuple[str, tuple[int, ...]]]()
    for k, node in enumerate(nodes):
        numbers = [nodes[arg].op == "constant" for arg in node.args]
        if node.op == "mul" and any(numbers) and not all(numbers):
            found[k] = ("scaled", node.args if numbers[0] else node.args[::-1])
    return found


def _power(nodes: Sequence[Node], node: Node) -> tuple[int, int] | None:
    """The base and the exponent, where a value is what ``v ** n`` is traced as."""
    base, zero, above, edge = node.args
    if nodes[above].op != "exp" or nodes[edge].op != "stop":
        return None
    product, outside = nodes[nodes[above].args[0]], nodes[nodes[edge].args[0]]
    if product.op != "mul" or outside.op != "exp":
        return None
    power, logarithm = product.args
    safe = nodes[logarithm].args[0] if nodes[logarithm].op == "log" else power
    return (base, power) if nodes[safe].args[:3] == (base, zero, base) and nodes[safe].op == "where" else None


def _read_count(graph: Graph, patterns: dict[int, tuple[str, tuple[int, ...]]]) -> list[int]:
    """How often each value stands in the equations as they are written."""
    count = [0] * len(graph.nodes)
    for output in graph.outputs:
        count[output] += 1
    for k in range(len(graph.nodes) - 1, -1, -1):
        op, args = patterns.get(k, ("written", graph.nodes[k].args))
        for arg in args if count[k] else ():
            count[arg] += count[k] if not op else 1
    return count


def _tries(wanted: str) -> Iterator[str]:
    """The name, or else the name with a number behind it."""
    yield wanted
    yield from (f"{wanted}_{n}" for n in count(2))


def value_names(graph: Graph) -> dict[int, str]:
    """A name of its own for each value that gets an equation and is no new state: the function's where it has one."""
    reads = _read_count(graph, _patterns(graph))
    leaves = [str(node.name) for node in graph.nodes if node.op in LEAVES]
    taken = {*leaves, *(name.split(".")[0] for name in leaves), *graph.states}
    names: dict[int, str] = {}
    tries: dict[str, Iterator[str]] = {}
    for k, node in enumerate(graph.nodes):
        if node.op in (*LEAVES, "broadcast") or k in graph.outputs or (node.name is None and reads[k] < 2):
            continue
        wanted = node.name or "s"
        names[k] = next(name for name in tries.setdefault(wanted, _tries(wanted)) if name not in taken)
        taken.add(names[k])
    return names


class _Writer:
    def __init__(self, graph: Graph, style: Style) -> None:
        self.graph, self.style = graph, style
        self.formulas: dict[int, tuple[str, int]] = {}
        self.patterns = _patterns(graph) if "turned_product" in style.rows else {}
        self.patterns |= _scaled(graph.nodes) if "scaled" in style.rows else {}
        needs = dependencies(graph.nodes)
        self.known = {
            k: style.value(name) if needs[k] else style.leaf("parameter", name)
            for k, name in value_names(graph).items()
        }
        for state, output in zip(graph.states, graph.outputs, strict=True):
            if graph.nodes[output].op not in LEAVES:
                self.known.setdefault(output, style.new_state(state))

    def equations(self) -> list[tuple[str, str]]:
        lines = [(self.known[k], self._formula(k)[0]) for k in sorted(self.known)]
        for state, output in zip(self.graph.states, self.graph.outputs, strict=True):
            left = self.style.new_state(state)
            if self.known.get(output) != left:
                lines.append((left, self._text(output, 0)))
        return lines

    def text(self, k: int) -> str:
        """The value of a node where it stands alone."""
        return self._text(k, 0)

    def _text(self, k: int, needs: int) -> str:
        if k in self.known:
            return self.known[k]
        text, precedence = self._formula(k)
        return text if precedence >= needs else self.style.parentheses.format(text)

    def _formula(self, k: int) -> tuple[str, int]:
        """The formula of a value and its precedence, after those inside it: chains may be long."""
        todo = [k] if k not in self.formulas else []
        while todo:
            at = todo[-1]
            inside = self._written(at)[1]
            missing = [arg for arg in inside if arg not in self.known and arg not in self.formulas]
            if missing:
                todo += missing
            else:
                self.formulas[todo.pop()] = self._whole(at)
        return self.formulas[k]

    def _written(self, k: int) -> tuple[str, tuple[int, ...]]:
        """The operation that is written for a value, and its arguments; none for what is written as its argument."""
        node = self.graph.nodes[k]
        return self.patterns.get(k, (node.op, node.args))

    def _whole(self, k: int) -> tuple[str, int]:
        node = self.graph.nodes[k]
        if node.op == "constant":
            value = float(node.value or 0.0)
            return self.style.constant(value), ATOM if value >= 0 else 0
        if node.op in LEAVES:
            return self.style.leaf(node.op, str(node.name)), ATOM
        op, args = self._written(k)
        if not op:
            return (self.known[args[0]], ATOM) if args[0] in self.known else self.formulas[args[0]]
        row = self.style.rows[op]
        parts = [self._text(arg, needs) for arg, needs in zip(args, row.needs, strict=True)]
        return row.template.format(*parts, shape=self.style.shape(node.shape)), row.precedence
