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
MOST_TERMS = 64
"""Terms of a sum inside another that is taken by itself too: taking all would be quadratic in a chain of additions."""
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
        self.inside = self._inside()
        self.builder = GraphBuilder()
        self.place: dict[int, int] = {}

    def graph(self) -> Graph:
        for position, node in enumerate(self.old.nodes):
            if node.op == "broadcast" and node.shape == self.old.nodes[node.args[0]].shape:
                self.place[position] = self.place[node.args[0]]
            elif (repeats := self._repeats(node)) is not None:
                self.place[position] = self._repeated(node, repeats)
            elif self._is_sum(position):
                if position not in self.inside:
                    self.place[position] = self._sum(position)
            elif node.op == "div" and self.builder.nodes[self.place[node.args[1]]].op == "broadcast":
                self.place[position] = self._times_reciprocal(node)
            else:
                self.place[position] = self.builder.add(moved(node, self.place))
        return self.builder.graph(self.old.states, [self.place[k] for k in self.old.outputs])

    def _repeats(self, node: Node) -> str | None:
        """The operation that repeats all that a pointwise one is of, if it is one."""
        if node.op not in POINTWISE or not self.inside.isdisjoint(node.args):
            return None
        args = [self.builder.nodes[self.place[arg]] for arg in node.args]
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
        number = self.builder.nodes[self.place[divisor]].args[0]
        one = self.builder.write("constant", value=1.0)
        factor = self.builder.write("broadcast", self.builder.write("div", one, number), shape=node.shape)
        return self.builder.add(Node("mul", (self.place[vector], factor), node.shape, node.name, line=node.line))

    def _inside(self) -> set[int]:
        """The long sums that are terms of another sum only: they are not taken by themselves, only as parts of that."""
        nodes, found, count = self.old.nodes, set[int](), dict[int, int]()
        for k in filter(self._is_sum, range(len(nodes))):
            own = [arg for arg in nodes[k].args if arg in count and self.uses[arg] == 1]
            count[k] = len(nodes[k].args) + sum(count[arg] - 1 for arg in own)
            found |= {arg for arg in own if count[arg] > MOST_TERMS}
        return found

    def _is_sum(self, position: int) -> bool:
        node = self.old.nodes[position]
        return node.op in ("add", "sub") and len(node.shape) == 1 and "state" in self.needs[position]

    def _terms(self, position: int) -> list[Signed]:
        """The terms of a sum and of the sums inside it, from left to right."""
        found, todo = list[Signed](), [(1, position)]
        while todo:
            sign, k = todo.pop()
            node = self.old.nodes[k]
            inside = node.op in ("add", "sub") and len(node.shape) == 1 and (k == position or self.uses[k] == 1)
            if inside:
                left, right = node.args
                todo += [(-sign if node.op == "sub" else sign, right), (sign, left)]
            else:
                found.append((sign, k))
        return found

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
        terms = sorted(self._terms(position), key=self._rank)
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
