"""Reorder the sums of a step, so that what can be computed before the loop comes first, and compute nothing twice.

``v / broadcast(n)`` becomes ``v * broadcast(1 / n)``, one division a step instead of one for each element, and
``sigmoid(rows(v))`` becomes ``rows(sigmoid(v))``: what repeats elements does so as late as it can.
``W @ x + U @ h + b`` becomes ``((W @ x + b) + U @ h)``: what knows only the frame, then parameters, then each product
added to the running sum. The result is again a legal graph.
"""

from __future__ import annotations

from cello.cells.graph import POINTWISE, REDUCTIONS, RESHAPING, Graph, GraphBuilder, Node, dependencies, moved, uses

REPEATING = frozenset(RESHAPING) - REDUCTIONS
"""Operations that read a value in another place than that of their result."""
Signed = tuple[int, int]
"""A part of a sum: its sign, +1 or −1, and its node's position."""


def _levels(nodes: tuple[Node, ...], needs: list[frozenset[str]]) -> list[int]:
    """The stage of each node: a product or a sum of a state, or of what knows one, is one later than its argument."""
    levels: list[int] = []
    for node, need in zip(nodes, needs, strict=True):
        before = max((levels[arg] for arg in node.args), default=0)
        levels.append(before + (node.op in ("product", *REDUCTIONS) and "state" in need))
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
        self.builder = GraphBuilder()
        self.place: dict[int, int] = {}

    def graph(self) -> Graph:
        for position, node in enumerate(self.old.nodes):
            if node.op == "broadcast" and node.shape == self.old.nodes[node.args[0]].shape:
                self.place[position] = self.place[node.args[0]]
            elif (repeats := self._repeats(node)) is not None:
                self.place[position] = self._repeated(node, repeats)
            elif self._is_sum(position):
                self.place[position] = self._sum(position)
            elif node.op == "div" and self.old.nodes[node.args[1]].op == "broadcast":
                self.place[position] = self._times_reciprocal(node)
            else:
                self.place[position] = self.builder.add(moved(node, self.place))
        return self.builder.graph(self.old.states, [self.place[k] for k in self.old.outputs])

    def _repeats(self, node: Node) -> str | None:
        """The operation that repeats all that a pointwise one is of, if it is one."""
        args = [self.builder.nodes[self.place[arg]] for arg in node.args] if node.op in POINTWISE else []
        found = {arg.op for arg in args if arg.shape}
        return found.pop() if len(found) == 1 and found <= REPEATING else None

    def _repeated(self, node: Node, repeats: str) -> int:
        """A pointwise operation of what is repeated: repeated itself."""
        nodes, places = self.builder.nodes, [self.place[arg] for arg in node.args]
        inner = tuple(nodes[k].args[0] if nodes[k].shape else k for k in places)
        shape = max((nodes[k].shape for k in inner), key=len)
        value = self.builder.add(Node(node.op, inner, shape, line=node.line))
        return self.builder.add(Node(repeats, (value,), node.shape, node.name, line=node.line))

    def _times_reciprocal(self, node: Node) -> int:
        """A vector divided by one number a step: multiplied by 1 / that number."""
        vector, divisor = node.args
        number = self.place[self.old.nodes[divisor].args[0]]
        one = self.builder.write("constant", value=1.0)
        factor = self.builder.write("broadcast", self.builder.write("div", one, number), shape=node.shape)
        return self.builder.add(Node("mul", (self.place[vector], factor), node.shape, node.name, line=node.line))

    def _is_sum(self, position: int) -> bool:
        node = self.old.nodes[position]
        return node.op in ("add", "sub") and len(node.shape) == 1 and "state" in self.needs[position]

    def _terms(self, position: int, sign: int, root: bool) -> list[Signed]:
        node = self.old.nodes[position]
        inside = node.op in ("add", "sub") and len(node.shape) == 1 and (root or self.uses[position] == 1)
        if not inside:
            return [(sign, position)]
        left, right = node.args
        return self._terms(left, sign, False) + self._terms(right, -sign if node.op == "sub" else sign, False)

    def _rank(self, term: Signed) -> tuple[int, int, int]:
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

    def _fold(self, terms: list[Signed], root: Node) -> int:
        nodes, (sign, first) = self.builder.nodes, terms[0]
        total = self.place[first]
        if sign < 0:
            total = self.builder.add(Node("neg", (total,), nodes[total].shape, line=root.line))
        for number, (sign, term) in enumerate(terms[1:], start=2):
            args = (total, self.place[term])
            shape = max((nodes[a].shape for a in args), key=len)
            name = root.name if number == len(terms) else None
            total = self.builder.add(Node("add" if sign > 0 else "sub", args, shape, name, line=root.line))
        return total
