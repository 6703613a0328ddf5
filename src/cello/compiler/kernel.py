"""What a compiled kernel of a cell computes in a step, in which order, and what it keeps; the same for every language.

A step is stages, each of sums and then of what follows from them unit by unit. A sum is all the products of matrices
with the frame, old states or values of earlier stages that are added up to one value, its bias included: one pass of
matrix multiplication. Products of the frame need no pass of their own, so nothing of them is ever written to memory.
What backward needs is kept only where it does not follow, unit by unit, from what is there anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from cello.cells.definition import Cell
from cello.cells.graph import LEAVES, Graph, Node, dependencies
from cello.compiler.gradient import StepGradient, step_gradient
from cello.compiler.schedule import reordered, uses

DEAR = frozenset({"log", "softplus"})
"""Operations that are kept rather than computed again."""


@dataclass(frozen=True)
class Sum:
    """The node that is ``Σ matrix @ vector + Σ fixed``; ``products`` are pairs of matrix and vector, all positions."""

    node: int
    products: tuple[tuple[int, int], ...]
    fixed: tuple[int, ...]


@dataclass(frozen=True)
class Stage:
    """Sums, then what can be computed from them unit by unit, in order."""

    sums: tuple[Sum, ...]
    pointwise: tuple[int, ...]


@dataclass(frozen=True)
class Kernel:
    """A step of a cell and its derivative; everything is a position in ``graph``, whose sums are reordered.

    ``fixed`` are the values it is given that are the same at every step: parameters, and what follows from them.
    ``matrices`` multiply ``vectors``: the frame, old states and values of the step. ``kept`` are stored by forward.
    """

    graph: Graph
    stages: tuple[Stage, ...]
    gradient: StepGradient
    fixed: tuple[int, ...]
    matrices: tuple[int, ...]
    vectors: tuple[int, ...]
    kept: tuple[int, ...]

    @property
    def sums(self) -> tuple[Sum, ...]:
        return tuple(each for stage in self.stages for each in stage.sums)

    @property
    def masks(self) -> tuple[int, ...]:
        return tuple(k for k, node in enumerate(self.graph.nodes) if node.op == "mask")

    def old(self, number: int) -> int | None:
        """The node of an old state, if the equations read it."""
        name = self.graph.states[number]
        return next((k for k, n in enumerate(self.graph.nodes) if n.op == "state" and n.name == name), None)


@lru_cache(maxsize=256)
def kernel(cell: Cell) -> Kernel:
    """The kernel of a cell."""
    graph = reordered(cell.graph)
    needs, nodes = dependencies(graph.nodes), graph.nodes
    sums = _sums(graph, needs)
    stages = _stages(graph, needs, sums)
    gradient = step_gradient(graph, [(tuple(s.node for s in stage.sums), stage.pointwise) for stage in stages])
    steps = [k for stage in stages for k in stage.pointwise]
    read = {a for k in steps for a in nodes[k].args} | {k for each in sums.values() for k in each.fixed}
    products = [product for stage in stages for each in stage.sums for product in each.products]
    vectors = tuple(dict.fromkeys(vector for _, vector in products))
    return Kernel(
        graph=graph,
        stages=stages,
        gradient=_with_bias(gradient, stages, nodes),
        fixed=tuple(sorted(k for k in read if not needs[k] and nodes[k].op != "constant")),
        matrices=tuple(dict.fromkeys(matrix for matrix, _ in products)),
        vectors=vectors,
        kept=_kept(graph, stages, gradient, vectors),
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
        fixed = tuple(a for a in node.args if not needs[a])
        if inside and len(inside) + len(fixed) == len(node.args):
            products = tuple(product for each in inside for product in each.products)
            found[k] = Sum(k, products, (*(f for each in inside for f in each.fixed), *fixed))
            for each in inside:
                del found[each.node]
    return found


def _stages(graph: Graph, needs: list[frozenset[str]], sums: dict[int, Sum]) -> tuple[Stage, ...]:
    """Everything as late as its first reader allows, so that little is carried from one stage to the next."""
    stage = _earliest(graph, needs, sums)
    latest: dict[int, int] = {}
    for k in sorted(stage, reverse=True):
        at = stage[k] = min(latest.get(k, stage[k]), len(graph.nodes))
        reads = [(vector, at - 1) for _, vector in sums[k].products] if k in sums else []
        for arg, bound in reads or [(arg, at) for arg in graph.nodes[k].args]:
            latest[arg] = min(latest.get(arg, bound), bound)
    return tuple(
        Stage(
            tuple(sums[k] for k in sorted(stage) if stage[k] == number and k in sums),
            tuple(k for k in sorted(stage) if stage[k] == number and k not in sums),
        )
        for number in range(max(stage.values()) + 1)
    )


def _earliest(graph: Graph, needs: list[frozenset[str]], sums: dict[int, Sum]) -> dict[int, int]:
    """The first stage in which each value of the step can be computed; parts of sums are not values."""
    level: dict[int, int] = {}
    parts = _parts(graph, sums)
    for k, node in enumerate(graph.nodes):
        if k in sums:
            level[k] = max((level.get(vector, -1) for _, vector in sums[k].products), default=-1) + 1
        elif node.op not in LEAVES and needs[k] and k not in parts:
            level[k] = max((level.get(arg, 0) for arg in node.args), default=0)
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
            inner = [a for a in node.args if a not in each.fixed]
            found.update(inner)
            todo += inner
    return found


def _with_bias(gradient: StepGradient, stages: tuple[Stage, ...], nodes: tuple[Node, ...]) -> StepGradient:
    """The derivative with that of each sum handed on to its biases."""
    return gradient.with_others(
        [
            [
                (bias, at)
                for each in stage.sums
                for node, at in given.sums
                if node == each.node
                for bias in each.fixed
                if nodes[bias].op != "constant"
            ]
            for stage, given in zip(stages, gradient.stages, strict=True)
        ]
    )


def _kept(graph: Graph, stages: tuple[Stage, ...], gradient: StepGradient, vectors: tuple[int, ...]) -> tuple[int, ...]:
    """The step's values that forward stores, because backward reads them and cannot compute them unit by unit."""
    inside = {k for stage in stages for k in (*stage.pointwise, *(s.node for s in stage.sums))}
    sums = {s.node for stage in stages for s in stage.sums}
    read = {*_read(graph, gradient)} | {k for k in vectors if k in inside}
    kept: list[int] = []
    free: list[bool] = []  # whether backward has each value, or can compute it unit by unit
    for k, node in enumerate(graph.nodes):
        there = k in graph.outputs or k not in inside
        follows = k not in sums and node.op not in DEAR and all(free[a] for a in node.args)
        if not there and not follows and k in read:
            kept.append(k)
            there = True
        free.append(there or follows)
    return tuple(kept)


def _read(graph: Graph, gradient: StepGradient) -> Iterator[int]:
    """The nodes of the step itself that its derivative reads."""
    seen: set[int] = set()
    todo = [at for stage in gradient.stages for _, at in (*stage.sums, *stage.others)]
    while todo:
        k = todo.pop()
        if k in seen:
            continue
        seen.add(k)
        if k < len(graph.nodes):
            yield k
        else:
            todo.extend(gradient.nodes[k].args)
