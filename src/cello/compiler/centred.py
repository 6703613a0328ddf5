"""Find products that are taken less their mean over units, whose matrices can be centred once a call instead.

If m is the mean over all units of W₁ v to Wₙ v, ``Wᵢ @ v - m`` is ``(Wᵢ - M) @ v``, where each row of M is the mean of
all rows of W₁ to Wₙ. Layer normalisation begins so. A kernel centres the matrices before its first step and, as that
is symmetric, their derivatives after its last; no step computes a mean.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from math import isclose

from cello.cells.definition import Cell
from cello.cells.graph import GraphBuilder, Node, moved

Form = tuple[dict[int, float], bool]
"""A sum of products, or of their sums over units: the factor of each; and whether it is divided by the units."""


@lru_cache(maxsize=256)
def centred(cell: Cell) -> tuple[Cell, tuple[tuple[str, ...], ...]]:
    """The cell without such means, and the names of the matrices that are to be centred, each with all of its group."""
    nodes, found = cell.graph.nodes, _Means(cell).found
    if not found:
        return cell, ()
    builder, place = GraphBuilder(), dict[int, int]()
    differences = {difference for group in found for _, difference in group}
    for k, node in enumerate(nodes):
        if k in differences:
            place[k] = place[node.args[0]]
            if node.name is not None:
                builder.call(place[k], node.name)
        else:
            place[k] = builder.add(moved(node, place))
    graph = builder.graph(cell.graph.states, [place[k] for k in cell.graph.outputs])
    names = tuple(tuple(str(nodes[nodes[product].args[0]].name) for product, _ in group) for group in found)
    return replace(cell, graph=graph, function=None), names


class _Means:
    """The means of a cell: for each that can go its products, with what they are less it."""

    def __init__(self, cell: Cell) -> None:
        self.nodes = cell.graph.nodes
        self.readers: list[list[int]] = [[] for _ in self.nodes]
        for k, node in enumerate(self.nodes):
            for arg in node.args:
                self.readers[arg].append(k)
        for output in cell.graph.outputs:
            self.readers[output].append(-1)
        self.forms: dict[int, Form] = {}
        for k, node in enumerate(self.nodes):
            if (form := self._form(k, node)) is not None:
                self.forms[k] = form
        means = [k for k, node in enumerate(self.nodes) if node.op == "broadcast" and k in self.forms]
        self.found = [group for k in means if (group := self._group(k))]

    def _form(self, k: int, node: Node) -> Form | None:
        """A value as a sum of products, if it is one; a broadcast one, which is added to nothing, ends a mean."""
        if node.op == "product":
            matrix = self.nodes[node.args[0]]
            alone = matrix.op == "parameter" and len(self.readers[node.args[0]]) == 1
            return ({k: 1.0}, False) if alone else None
        args = [None if self.nodes[arg].op == "broadcast" else self.forms.get(arg) for arg in node.args]
        first = args[0] if args else None
        if node.op in ("total", "broadcast"):
            return first
        if node.op in ("mul", "div") and len(args) == 2:
            number = self.nodes[node.args[1]]
            if node.op == "mul" and first is None:
                first, number = args[1], self.nodes[node.args[0]]
            return None if first is None else self._scaled(first, node.op, number)
        if node.op == "add" and first is not None and args[1] is not None and first[1] == args[1][1]:
            terms = [*first[0].items(), *args[1][0].items()]
            return {product: sum(factor for own, factor in terms if own == product) for product, _ in terms}, first[1]
        return None

    def _scaled(self, form: Form, op: str, number: Node) -> Form | None:
        factors, divided = form
        if number.op == "constant" and number.value:
            by = number.value if op == "mul" else 1 / number.value
            return {product: factor * by for product, factor in factors.items()}, divided
        units = {self.nodes[product].shape for product in factors}
        if op == "div" and number.op == "size" and not divided and units == {(str(number.name),)}:
            return factors, True
        return None

    def _group(self, mean: int) -> list[tuple[int, int]]:
        """The products that are less this mean, if it is theirs and nothing else reads either."""
        factors, divided = self.forms[mean]
        products = sorted(factors)
        vectors = {self.nodes[k].args[1] for k in products}
        even = all(isclose(factor * len(products), 1.0) for factor in factors.values())
        if not divided or not even or len(vectors) != 1:
            return []
        inside = self._inside(mean, products)
        group = []
        for product in products:
            others = [k for k in self.readers[product] if k not in inside]
            if len(others) != 1 or self.nodes[others[0]].op != "sub" or self.nodes[others[0]].args != (product, mean):
                return []
            group.append((product, others[0]))
        alone = all(k in inside for each in inside - {mean} for k in self.readers[each])
        return group if alone and sorted(self.readers[mean]) == sorted(k for _, k in group) else []

    def _inside(self, mean: int, products: list[int]) -> set[int]:
        """What a mean is computed by, from the products on, itself included."""
        inside, todo = set[int](), [mean]
        while todo:
            k = todo.pop()
            if k in self.forms and k not in products and k not in inside:
                inside.add(k)
                todo += self.nodes[k].args
        return inside
