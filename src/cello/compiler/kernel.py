"""Plan a compiled kernel, for any language: its order, its inputs and what it saves.

A step is stages, each of sums and then of what follows from them unit by unit. A sum is all the products of matrices
with the frame, old states or values of earlier stages that are added up to one value, its bias included: one pass of
matrix multiplication. Products of the frame need no pass of their own, so nothing of them is ever written to memory.
What backward needs is kept only where it does not follow, unit by unit, from what is there anyway.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from cello.cells.definition import Cell
from cello.cells.graph import MULTIPLYING, POINTWISE, RESHAPING, Graph, dependencies
from cello.cells.sizes import ONE, share
from cello.compiler.activity import Active, active
from cello.compiler.blocks import with_blocks
from cello.compiler.expression import FURTHER
from cello.compiler.gradient import StepGradient, step_gradient
from cello.compiler.reorder import REPEATING
from cello.compiler.stages import Stage, Sum, lower, stages

DEAR = frozenset({"log", "softplus"})
"""Operations that are kept rather than computed again."""

MOST_STAGES, FEW_STAGES = 4, 2
"""Backward computes values again through four other stages at most; if it needed more, those of over two are kept.

Otherwise the work, and the text, of n steps of a differential equation would grow with n * n.
"""


@dataclass(frozen=True)
class Kernel:
    """A step of a cell and its derivative; everything is a position in ``graph``, whose sums are reordered.

    ``inputs`` are the frame and its parts, as the equations use them. ``invariant`` are the loop-invariant values it is
    given: parameters, and what follows from them. ``computed`` are the others that its loops read: vectors that it
    computes of the given ones itself, element by element.
    ``matrices`` multiply ``vectors``: the frame, old states and values of the step. ``kept`` are stored by forward.
    ``parts`` are the names and sizes into which the frame is divided. ``constant`` are those of the matrices (H, H)
    that are not learned and have one number in all places: a product with one is a sum over units. ``ones`` are
    those of heads (H, H/n) whose every number is 1: a product with one is a sum over the units of a head. ``active`` is
    what has a derivative; None: everything. ``centred`` are groups of matrices that are multiplied less the mean of all
    rows of their group: if one of them has a derivative, all have. ``blocks`` are the matrices (H, H/n) that multiply
    vectors (H,), head by head.
    """

    graph: Graph
    stages: tuple[Stage, ...]
    gradient: StepGradient
    invariant: tuple[int, ...]
    matrices: tuple[int, ...]
    vectors: tuple[int, ...]
    kept: tuple[int, ...]
    constant: frozenset[int] = frozenset()
    parts: tuple[tuple[str, str], ...] = ()
    active: Active | None = None
    ones: frozenset[int] = frozenset()
    centred: tuple[tuple[int, ...], ...] = ()
    blocks: frozenset[int] = frozenset()
    computed: tuple[int, ...] = ()

    @cached_property
    def sums(self) -> tuple[Sum, ...]:
        return tuple(each for stage in self.stages for each in stage.sums)

    @cached_property
    def inputs(self) -> tuple[int, ...]:
        return tuple(k for k, node in enumerate(self.graph.nodes) if node.op == "input")

    @cached_property
    def masks(self) -> tuple[int, ...]:
        return tuple(k for k, node in enumerate(self.graph.nodes) if node.op == "mask")

    def learns(self, k: int) -> bool:
        """Whether a node has a derivative."""
        return self.active is None or k in self.active.nodes

    @cached_property
    def group_of(self) -> dict[int, tuple[int, ...]]:
        """The group of each matrix that is centred."""
        return {matrix: group for group in self.centred for matrix in group}

    def carries(self, number: int) -> bool:
        """Whether a state has one, which each step hands to the one before."""
        return self.active is None or number in self.active.states

    def old(self, number: int) -> int | None:
        """The node of an old state, if the equations read it."""
        name = self.graph.states[number]
        return next((k for k, n in enumerate(self.graph.nodes) if n.op == "state" and n.name == name), None)


@lru_cache(maxsize=256)
def kernel(
    cell: Cell,
    active: Active | None = None,
    centred: tuple[tuple[str, ...], ...] = (),
    *,
    blocks: bool = False,
    computes: bool = False,
) -> Kernel:
    """The kernel of a cell, which differentiates what is ``active``; None: everything.

    ``centred`` are the names of matrices that it has to centre, by their groups; ``blocks`` says that it takes products
    with matrices of heads as such, ``computes`` that it computes loop-invariant vectors of others itself.
    """
    plan = lower(cell)
    graph, found, of_heads = plan.graph, plan.stages, frozenset[int]()
    if blocks:
        graph, of_heads = with_blocks(graph)
        found = stages(graph) if of_heads else found
    needs, nodes = dependencies(graph.nodes), graph.nodes
    gradient = step_gradient(graph, found, None if active is None else active.nodes)
    sums = [each for stage in found for each in stage.sums]
    steps = [k for stage in found for k in (*stage.pointwise, *stage.reductions)]
    read = {a for k in steps for a in nodes[k].args} | {k for each in sums for k in each.invariant}
    products = [product for each in sums for product in each.products]
    vectors = tuple(dict.fromkeys(vector for _, vector in products))
    constant = _constant(cell, graph)
    parameter = {node.name: k for k, node in enumerate(nodes) if node.op == "parameter"}
    learned = {m for m, _ in products if m not in constant and (active is None or m in active.nodes)}
    invariant = {k for k in read if not needs[k] and nodes[k].op not in ("constant", "size")}
    given, computed = _given(graph, invariant) if computes else (invariant, set[int]())
    return Kernel(
        graph=graph,
        stages=found,
        gradient=gradient,
        invariant=tuple(sorted(given)),
        matrices=tuple(dict.fromkeys(matrix for matrix, _ in products)),
        vectors=vectors,
        kept=_kept(graph, found, gradient, tuple(v for m, v in products if m in learned)),
        constant=constant,
        parts=cell.parts,
        active=active,
        ones=_ones(cell, graph),
        centred=tuple(tuple(parameter[name] for name in group) for group in centred),
        blocks=of_heads,
        computed=tuple(sorted(computed)),
    )


def _given(graph: Graph, invariant: set[int]) -> tuple[set[int], set[int]]:
    """Which loop-invariant values a kernel is given, and which it computes of these: vectors of others of their shape.

    Functions that few kernels have (``FURTHER``) are left to torch, as is what numbers that learn are part of.
    """
    nodes, easy = graph.nodes, set[int]()
    for k, node in enumerate(graph.nodes):
        args = [nodes[a] for a in node.args if nodes[a].op not in ("constant", "size")]
        if node.op in POINTWISE.keys() - FURTHER and len(node.shape) == 1 and all(a.shape == node.shape for a in args):
            easy.add(k)
    given, todo = invariant - easy, [*invariant & easy]
    seen = set[int]()
    while todo:
        k = todo.pop()
        if k in seen:
            continue
        seen.add(k)
        for a in nodes[k].args:
            if a in easy:
                todo.append(a)
            elif nodes[a].op not in ("constant", "size"):
                given.add(a)
    return given, invariant & easy


def activity(plan: Kernel, wanted: Sequence[bool]) -> Active | None:
    """What is active if only the ``wanted`` ones of the frame and of all that a kernel is given are asked for.

    None where no product falls out by it, but for the frame's: then ``plan``, which differentiates everything, will do,
    for a kernel is worth compiling for a product, but not for a few values of a unit.
    """
    given = [*plan.matrices, *plan.invariant, *plan.masks]
    leaves = {k for k, want in zip(given, wanted[1:], strict=False) if want} - {*plan.masks}
    leaves |= {matrix for group in plan.centred if not leaves.isdisjoint(group) for matrix in group}
    first = {n for n, want in enumerate(wanted[1 + len(given) :]) if want}
    found = active(plan.graph, leaves | ({*plan.inputs} if wanted[0] else set()), first)
    most = active(plan.graph, {*plan.matrices, *plan.invariant, *plan.inputs}, range(len(plan.graph.states)))
    sums = [each for stage in plan.stages for each in stage.sums]
    in_products = {each.node for each in sums} | {vector for each in sums for _, vector in each.products}
    return None if found.nodes >= (in_products & most.nodes) - {*plan.inputs} else found


def _constant(cell: Cell, graph: Graph) -> frozenset[int]:
    fixed = cell.fixed().items()
    same = {n for n, one in fixed if one.shape == ("H", "H") and not any(node.op == "index" for node in one.nodes)}
    return frozenset(k for k, node in enumerate(graph.nodes) if node.op == "parameter" and node.name in same)


def _ones(cell: Cell, graph: Graph) -> frozenset[int]:
    heads = {name: one.nodes for name, one in cell.fixed().items() if len(one.shape) == 2 and share(one.shape[1])}
    same = {n for n, nodes in heads.items() if len(nodes) == 1 and nodes[0].op == "constant" and nodes[0].value == 1}
    return frozenset(k for k, node in enumerate(graph.nodes) if node.op == "parameter" and node.name in same)


def _kept(graph: Graph, stages: tuple[Stage, ...], gradient: StepGradient, vectors: tuple[int, ...]) -> tuple[int, ...]:
    """The step's values that forward stores, because backward reads them and cannot compute them unit by unit."""
    stage_of = {k: n for n, stage in enumerate(stages) for k in _computed(stage)}
    whole = {k for stage in stages for k in (*stage.reductions, *(s.node for s in stage.sums))}
    read = {*_read(graph, gradient)}
    complete = {  # what is read in another place than its own
        arg
        for k, node in enumerate(gradient.nodes)
        if (node.op in REPEATING and (k in read or k >= len(graph.nodes)))
        or (node.op in MULTIPLYING and k >= len(graph.nodes))
        for arg in node.args
        if arg in stage_of
    }
    read |= complete | {k for k in vectors if k in stage_of}
    found, through = _stored(graph, stage_of, whole, read, complete, len(stages))
    return found if through <= MOST_STAGES else _stored(graph, stage_of, whole, read, complete, FEW_STAGES)[0]


def _computed(stage: Stage) -> tuple[int, ...]:
    return (*stage.pointwise, *stage.reductions, *(each.node for each in stage.sums))


def _stored(
    graph: Graph, stage_of: Mapping[int, int], whole: set[int], read: set[int], complete: set[int], most: int
) -> tuple[tuple[int, ...], int]:
    """What of the values ``read`` is kept, and through how many stages, at most ``most``, others are computed again."""
    kept: list[int] = []
    there: list[bool] = []
    free: list[bool] = []  # whether backward has each value, or can compute it unit by unit
    through: list[int] = []  # how many other stages that goes back
    for k, node in enumerate(graph.nodes):
        stored = k in graph.outputs or k not in stage_of
        base = there if node.op in RESHAPING else free
        follows = k not in whole and node.op not in DEAR and all(base[a] for a in node.args)
        if not stored and not follows and k in read and k not in complete and k not in whole and node.op not in DEAR:
            numbers = _numbers(graph, [a for a in node.args if not base[a]], stage_of)
            for a, number in numbers:  # one of a step is kept rather than a vector
                kept += [] if there[number] else [number]
                there[number] = free[number] = free[a] = follows = True
        inside = [a for a in node.args if follows and not stored and not there[a]]
        back = max((through[a] + (stage_of[a] != stage_of[k]) for a in inside), default=0)
        if not stored and k in read and (k in complete or not follows or back > most):
            kept.append(k)
            stored = True
        there.append(stored)
        free.append(stored or follows)
        through.append(0 if stored else back)
    return tuple(sorted(kept)), max((through[k] for k in read), default=0)


def _numbers(graph: Graph, missing: Sequence[int], stage_of: Mapping[int, int]) -> list[tuple[int, int]]:
    """The missing values and the numbers of a step that they repeat, if that is what all of them are."""
    nodes = graph.nodes
    found = [(a, nodes[a].args[0]) for a in missing if nodes[a].op == "broadcast"]
    whole = len(found) == len(missing) and all(number in stage_of for _, number in found)
    return found if whole and all(nodes[number].shape == (ONE,) for _, number in found) else []


def read_by_backward(plan: Kernel, saved: Container[int]) -> set[int]:
    """The nodes of the step that backward reads, and those that it computes again of what is ``saved``."""
    found, todo = set[int](), [*_read(plan.graph, plan.gradient)]
    while todo:
        k = todo.pop()
        if k not in found:
            found.add(k)
            todo += [] if k in saved else plan.graph.nodes[k].args
    return found


def _read(graph: Graph, gradient: StepGradient) -> Iterator[int]:
    """The nodes of the step itself that its derivative reads."""
    seen: set[int] = set()
    todo = [at for stage in gradient.stages for _, at in (*stage.sums, *stage.reductions, *stage.others)]
    while todo:
        k = todo.pop()
        if k in seen:
            continue
        seen.add(k)
        if k < len(graph.nodes):
            yield k
        else:
            todo.extend(gradient.nodes[k].args)
