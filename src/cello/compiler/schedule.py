"""When each value of a cell is computed: once, for all steps at once, or in a stage of every step.

A sum is reordered first, so that what knows only the frame stands together and can be computed before the loop, and
each matrix product is added to a running sum: ``W @ x + U @ h + b`` becomes ``((W @ x + b) + U @ h)``. The result is
again a legal graph.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from cello.cells.definition import Cell
from cello.cells.graph import Graph, Node, check, dependencies, reached

Term = tuple[int, int]
"""A term of a sum: its sign, +1 or −1, and its node's position."""


@dataclass(frozen=True)
class Stage:
    """Matrix products, then what can be computed from them unit by unit; positions of the schedule's graph."""

    products: tuple[int, ...]
    pointwise: tuple[int, ...]


@dataclass(frozen=True)
class Schedule:
    """A cell's reordered graph and when each node is computed.

    ``static`` nodes know only parameters and numbers, ``hoisted`` ones know the frame but no state; ``stages`` is one
    step, in order. Leaves appear nowhere. ``uses`` counts how often a node is an argument or an output.
    """

    graph: Graph
    static: tuple[int, ...]
    hoisted: tuple[int, ...]
    stages: tuple[Stage, ...]
    uses: tuple[int, ...]


@lru_cache(maxsize=256)
def schedule(cell: Cell) -> Schedule:
    """The schedule of a cell; a product waits one stage longer than the vector it multiplies."""
    graph = reordered(cell.graph)
    needs = dependencies(graph.nodes)
    inner = [k for k, node in enumerate(graph.nodes) if node.args]
    levels = _levels(graph.nodes, needs)
    steps = [k for k in inner if "state" in needs[k]]
    stages = [
        Stage(
            tuple(k for k in steps if levels[k] == level and graph.nodes[k].op == "product"),
            tuple(k for k in steps if levels[k] == level and graph.nodes[k].op != "product"),
        )
        for level in range(max((levels[k] for k in steps), default=-1) + 1)
    ]
    return Schedule(
        graph,
        static=tuple(k for k in inner if not needs[k]),
        hoisted=tuple(k for k in inner if needs[k] == {"input"}),
        stages=tuple(stage for stage in stages if stage.products or stage.pointwise),
        uses=uses(graph),
    )


def uses(graph: Graph) -> tuple[int, ...]:
    """How often each node is an argument or an output."""
    count = Counter(arg for node in graph.nodes for arg in node.args) + Counter(graph.outputs)
    return tuple(count[k] for k in range(len(graph.nodes)))


def _levels(nodes: tuple[Node, ...], needs: list[frozenset[str]]) -> list[int]:
    """The stage of each node: a product of a state, or of what knows one, is one later than its vector."""
    levels: list[int] = []
    for node, need in zip(nodes, needs, strict=True):
        before = max((levels[arg] for arg in node.args), default=0)
        levels.append(before + (node.op == "product" and "state" in need))
    return levels


def reordered(graph: Graph) -> Graph:
    """The same equations with every sum in the order: frame only, parameters only, products by stage, the rest."""
    return _Reorder(graph).graph()


class _Reorder:
    """Rebuilds a graph node by node, a sum as a whole."""

    def __init__(self, graph: Graph) -> None:
        self.old = graph
        self.needs = dependencies(graph.nodes)
        self.levels = _levels(graph.nodes, self.needs)
        self.uses = uses(graph)
        self.new: list[Node] = []
        self.place: dict[int, int] = {}
        self.known: dict[tuple[object, ...], int] = {}

    def graph(self) -> Graph:
        for position, node in enumerate(self.old.nodes):
            self.place[position] = self._sum(position) if self._is_sum(position) else self._copy(node)
        outputs = tuple(self.place[k] for k in self.old.outputs)
        live = sorted(reached(tuple(self.new), outputs))
        place = {before: after for after, before in enumerate(live)}
        nodes = tuple(_moved(self.new[k], tuple(place[a] for a in self.new[k].args)) for k in live)
        result = Graph(nodes, self.old.states, tuple(place[k] for k in outputs))
        check(result)
        return result

    def _is_sum(self, position: int) -> bool:
        node = self.old.nodes[position]
        return node.op in ("add", "sub") and node.shape == ("H",) and "state" in self.needs[position]

    def _copy(self, node: Node) -> int:
        return self._write(_moved(node, tuple(self.place[a] for a in node.args)))

    def _write(self, node: Node) -> int:
        key = (node.op, node.args, node.value, None if node.args else node.name)
        if key not in self.known:
            self.known[key] = len(self.new)
            self.new.append(node)
        return self.known[key]

    def _terms(self, position: int, sign: int, root: bool) -> list[Term]:
        node = self.old.nodes[position]
        inside = node.op in ("add", "sub") and node.shape == ("H",) and (root or self.uses[position] == 1)
        if not inside:
            return [(sign, position)]
        left, right = node.args
        return self._terms(left, sign, False) + self._terms(right, -sign if node.op == "sub" else sign, False)

    def _rank(self, term: Term) -> tuple[int, int, int]:
        """Where a term stands in its sum; −1 among signs keeps subtracted products after the added ones."""
        sign, position = term
        need, node = self.needs[position], self.old.nodes[position]
        if "state" not in need:
            return (0 if need else 1, 0, -sign)
        if node.op == "product":
            return (2, self.levels[position], -sign) if sign > 0 else (3, self.levels[position], 0)
        return (4, 0, 0)

    def _sum(self, position: int) -> int:
        root = self.old.nodes[position]
        terms = sorted(self._terms(position, 1, True), key=self._rank)
        products = [t for t in terms if self._rank(t)[0] == 2]
        rest = [t for t in terms if self._rank(t)[0] > 2]
        before = [t for t in terms if self._rank(t)[0] < 2]
        products.sort(key=lambda t: (self.levels[t[1]], self.old.nodes[t[1]].args[1]))
        ordered = before + products + rest
        if ordered[0][0] < 0:
            ordered.sort(key=lambda t: -t[0])
        return self._fold(ordered, root)

    def _fold(self, terms: list[Term], root: Node) -> int:
        nodes, (sign, first) = self.new, terms[0]
        total = self.place[first]
        if sign < 0:
            total = self._write(Node("neg", (total,), nodes[total].shape, line=root.line))
        for number, (sign, term) in enumerate(terms[1:], start=2):
            args = (total, self.place[term])
            shape = max((nodes[a].shape for a in args), key=len)
            name = root.name if number == len(terms) else None
            total = self._write(Node("add" if sign > 0 else "sub", args, shape, name, line=root.line))
        return total


def _moved(node: Node, args: tuple[int, ...]) -> Node:
    return Node(node.op, args, node.shape, node.name, node.value, node.line)
