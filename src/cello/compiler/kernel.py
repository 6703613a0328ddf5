"""What a compiled kernel of a cell reads, keeps for the backward pass and gives; the same for every language.

The kernel gets every product of the frame from outside, as one value a frame; it runs the recurrence forward and
backward. What backward needs and is expensive is kept; what a few additions and multiplications give is recomputed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from cello.cells.definition import Cell
from cello.cells.graph import Node
from cello.compiler.gradient import StepGradient, step_gradient
from cello.compiler.program import program
from cello.compiler.schedule import Schedule, schedule

CHEAP = frozenset({"add", "sub", "mul", "neg", "relu", "abs", "minimum", "maximum", "where"})
"""Operations that are recomputed rather than kept."""


@dataclass(frozen=True)
class Kernel:
    """Positions of the schedule's nodes by their part in the kernel.

    ``columns`` (maps of the frame that one product gives) and ``frames`` (other values of the frame) differ from step
    to step; ``fixed`` are vectors and numbers that do not; ``matrices`` multiply the ``vectors`` of stages. ``kept``
    are stored by forward. ``carried`` are read in a later stage than their own.
    """

    plan: Schedule
    gradient: StepGradient
    columns: tuple[int, ...]
    frames: tuple[int, ...]
    fixed: tuple[int, ...]
    matrices: tuple[int, ...]
    vectors: tuple[int, ...]
    kept: tuple[int, ...]
    carried: tuple[int, ...]

    @property
    def nodes(self) -> tuple[Node, ...]:
        return self.plan.graph.nodes

    def state(self, number: int) -> int | None:
        """The node of an old state, if the equations read it."""
        name = self.plan.graph.states[number]
        return next((k for k, n in enumerate(self.nodes) if n.op == "state" and n.name == name), None)


@lru_cache(maxsize=256)
def kernel(cell: Cell) -> Kernel:
    """The kernel of a cell."""
    plan = schedule(cell)
    nodes, gradient = plan.graph.nodes, step_gradient(plan)
    steps = [k for stage in plan.stages for k in (*stage.products, *stage.pointwise)]
    products = [k for stage in plan.stages for k in stage.products]
    read = {a for k in steps if k not in products for a in nodes[k].args} | {*plan.graph.outputs}
    hoisted = sorted(read & {*plan.hoisted})
    affine = {column.node for column in program(cell).columns}
    static = {k for k, node in enumerate(nodes) if node.op == "parameter"} | {*plan.static}
    vectors = tuple(dict.fromkeys(nodes[k].args[1] for k in products))
    return Kernel(
        plan=plan,
        gradient=gradient,
        columns=tuple(k for k in hoisted if k in affine),
        frames=tuple(k for k in hoisted if k not in affine),
        fixed=tuple(sorted(read & static)),
        matrices=tuple(dict.fromkeys(nodes[k].args[0] for k in products)),
        vectors=vectors,
        kept=_kept(plan, gradient, vectors),
        carried=_carried(plan),
    )


def roots(gradient: StepGradient) -> tuple[int, ...]:
    """Everything a backward step gives."""
    return tuple(at for stage in gradient.stages for _, at in (*stage.products, *stage.others))


def _kept(plan: Schedule, gradient: StepGradient, vectors: tuple[int, ...]) -> tuple[int, ...]:
    """The step's nodes that forward stores: those backward reads, are not there anyway, and are expensive."""
    steps = {k for stage in plan.stages for k in (*stage.products, *stage.pointwise)} - {*plan.graph.outputs}
    own, read = len(plan.graph.nodes), {k for k in vectors if k in steps}
    seen: set[int] = set()
    todo = list(roots(gradient))
    while todo:
        k = todo.pop()
        if k in seen:
            continue
        seen.add(k)
        if k < own:
            read.add(k)
        else:
            todo.extend(gradient.nodes[k].args)
    read &= steps
    kept = {k for k in read if gradient.nodes[k].op not in CHEAP}

    def free(k: int) -> bool:
        node = gradient.nodes[k]
        return k not in steps or k in kept or (node.op in CHEAP and all(free(a) for a in node.args))

    for k in sorted(read):
        if not free(k):
            kept.add(k)
    return tuple(sorted(kept))


def _carried(plan: Schedule) -> tuple[int, ...]:
    stage_of = {k: n for n, stage in enumerate(plan.stages) for k in (*stage.products, *stage.pointwise)}
    nodes = plan.graph.nodes
    later = {a for k, n in stage_of.items() for a in nodes[k].args if stage_of.get(a, n) < n}
    products = {k for stage in plan.stages for k in stage.products}
    return tuple(sorted(later - products - {*plan.graph.outputs}))
