"""Lower a cell to one step: what is computed before the loop, then stages of sums.

Every back end renders this: as kernels that go stage by stage, or as few operations on whole tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from cello.cells.definition import Cell
from cello.cells.graph import LEAVES, REDUCTIONS, Graph, Node, Shape, dependencies, uses
from cello.cells.sizes import ONE
from cello.compiler.reorder import reordered


@dataclass(frozen=True)
class Sum:
    """The node that is ``Σ matrix @ vector + Σ invariant``; ``products`` are pairs of matrix and vector.

    ``invariant`` are loop-invariant values such as biases; everything is a position in the graph.
    """

    node: int
    products: tuple[tuple[int, int], ...]
    invariant: tuple[int, ...]


@dataclass(frozen=True)
class Stage:
    """Sums and reductions of earlier stages' values, then what can be computed element by element, in order.

    ``pointwise`` also holds ``broadcast``, ``rows`` and ``columns``. A back end takes it in one loop for each shape, in
    the order of :meth:`loops`, so that what these read is complete; a derivative takes the loops in the opposite order.
    """

    sums: tuple[Sum, ...]
    pointwise: tuple[int, ...]
    reductions: tuple[int, ...] = ()

    def loops(self, nodes: Sequence[Node]) -> tuple[tuple[Shape, tuple[int, ...]], ...]:
        """The pointwise values by their shape: what is one number a step first, then vectors, then matrices."""
        shapes = dict.fromkeys(nodes[k].shape for k in self.pointwise)
        return tuple(
            (shape, tuple(k for k in self.pointwise if nodes[k].shape == shape))
            for shape in sorted(shapes, key=lambda shape: (len(shape), shape != (ONE,)))
        )


@dataclass(frozen=True)
class Step:
    """One step of a cell: its reordered graph and when each node is computed; everything is a position in the graph.

    ``static`` nodes know only parameters and numbers, ``hoisted`` ones know the frame but no state, ``stepwise`` ones
    know a state; leaves appear nowhere. ``stages`` are what a loop does that computes the frame's products too.
    ``uses`` counts how often a node is an argument or an output.
    """

    graph: Graph
    static: tuple[int, ...]
    hoisted: tuple[int, ...]
    stepwise: tuple[int, ...]
    stages: tuple[Stage, ...]
    uses: tuple[int, ...]


@lru_cache(maxsize=256)
def lower(cell: Cell) -> Step:
    """The step of a cell, as every back end takes it."""
    graph = reordered(cell.graph)
    needs = dependencies(graph.nodes)
    inner = [k for k, node in enumerate(graph.nodes) if node.args]
    return Step(
        graph,
        static=tuple(k for k in inner if not needs[k]),
        hoisted=tuple(k for k in inner if needs[k] == {"input"}),
        stepwise=tuple(k for k in inner if "state" in needs[k]),
        stages=stages(graph),
        uses=uses(graph),
    )


def stages(graph: Graph) -> tuple[Stage, ...]:
    """Everything as late as its first reader allows, so that little is carried from one stage to the next."""
    needs = dependencies(graph.nodes)
    sums = _sums(graph, needs)
    stage = _earliest(graph, needs, sums)
    latest: dict[int, int] = {}
    reductions = {k for k in stage if graph.nodes[k].op in REDUCTIONS}
    for k in sorted(stage, reverse=True):
        at = stage[k] = latest.get(k, stage[k])
        reads = [(vector, at - 1) for _, vector in sums[k].products] if k in sums else []
        if graph.nodes[k].op in REDUCTIONS:
            reads = [(arg, at - 1) for arg in graph.nodes[k].args]
        for arg, bound in reads or [(arg, at) for arg in graph.nodes[k].args]:
            latest[arg] = min(latest.get(arg, bound), bound)
    count = max(stage.values(), default=-1) + 1
    members: list[list[int]] = [[] for _ in range(count)]
    for k in sorted(stage):
        members[stage[k]].append(k)
    return tuple(
        Stage(
            tuple(sums[k] for k in mine if k in sums),
            tuple(k for k in mine if k not in sums and k not in reductions),
            tuple(k for k in mine if k in reductions),
        )
        for mine in members
    )


def _sums(graph: Graph, needs: list[frozenset[str]]) -> dict[int, Sum]:
    """The largest sums of products and of what is the same at every step, by their nodes."""
    count, found = uses(graph), dict[int, Sum]()
    for k, node in enumerate(graph.nodes):
        if node.op == "product":
            found[k] = Sum(k, (node.args,), ())  # type: ignore[arg-type]
        if node.op != "add" or not needs[k]:
            continue
        inside = [found[a] for a in node.args if a in found and count[a] == 1]
        invariant = tuple(a for a in node.args if not needs[a])
        if inside and len(inside) + len(invariant) == len(node.args):
            products = tuple(product for each in inside for product in each.products)
            found[k] = Sum(k, products, (*(f for each in inside for f in each.invariant), *invariant))
            for each in inside:
                del found[each.node]
    return found


def _earliest(graph: Graph, needs: list[frozenset[str]], sums: dict[int, Sum]) -> dict[int, int]:
    """The first stage in which each value of the step can be computed; parts of sums are not values."""
    level: dict[int, int] = {}
    parts = _parts(graph, sums)
    for k, node in enumerate(graph.nodes):
        if k in sums:
            level[k] = max((level.get(vector, -1) for _, vector in sums[k].products), default=-1) + 1
        elif node.op not in LEAVES and needs[k] and k not in parts:
            level[k] = max((level.get(arg, 0) for arg in node.args), default=0) + (node.op in REDUCTIONS)
    return level


def _parts(graph: Graph, sums: dict[int, Sum]) -> set[int]:
    """The nodes inside sums, their results not among them."""
    found: set[int] = set()
    for each in sums.values():
        todo = [each.node]
        while todo:
            node = graph.nodes[todo.pop()]
            if node.op == "product":
                continue
            inner = [a for a in node.args if a not in each.invariant]
            found.update(inner)
            todo += inner
    return found
