"""Differentiate one step: one row an operation, applied from the last stage to the first.

With loss L and dv for ∂L/∂v, a row says what y = op(a, b, ...) adds to da, db, ... given g = dy. It is written with the
language's own operations, so a derivative is again a graph: every target renders it as it renders the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

from cello.cells.graph import MULTIPLYING, Graph, GraphBuilder, Node, Shape
from cello.compiler.stages import Stage


@dataclass(frozen=True)
class Term:
    """A node while derivatives are written; arithmetic on it writes further nodes."""

    builder: GraphBuilder
    at: int

    def _write(self, op: str, *values: Term | float) -> Term:
        return Term(self.builder, self.builder.write(op, *map(self._position, values)))

    def _position(self, value: Term | float) -> int:
        return value.at if isinstance(value, Term) else self.builder.write("constant", value=value)

    def __add__(self, other: Term | float) -> Term:
        return self._write("add", self, other)

    def __mul__(self, other: Term | float) -> Term:
        return self._write("mul", self, other)

    def __truediv__(self, other: Term | float) -> Term:
        return self._write("div", self, other)

    def __rsub__(self, other: float) -> Term:
        return self._write("sub", other, self)

    def __neg__(self) -> Term:
        value = self.builder.nodes[self.at].value
        if value is not None and self.constant:
            return Term(self.builder, self._position(-value))
        return self._write("neg", self)

    def sigmoid(self) -> Term:
        return self._write("sigmoid", self)

    def exp(self) -> Term:
        return self._write("exp", self)

    def sin(self) -> Term:
        return self._write("sin", self)

    def cos(self) -> Term:
        return self._write("cos", self)

    def floor(self) -> Term:
        return self._write("floor", self)

    def reshaped(self, op: str, shape: Shape, *others: Term) -> Term:
        """An operation that changes shapes, of this and of others, which gives the shape told."""
        return Term(self.builder, self.builder.write(op, self.at, *(each.at for each in others), shape=shape))

    @property
    def shape(self) -> Shape:
        return self.builder.nodes[self.at].shape

    def over(self, bound: Term | float, then: Term | float, otherwise: Term | float) -> Term:
        """``then`` where this is greater than the bound, ``otherwise`` elsewhere."""
        return self._write("where", self, bound, then, otherwise)

    @property
    def constant(self) -> bool:
        """Whether this is a number of the equations."""
        return self.builder.nodes[self.at].op == "constant"


def _larger(g: Term, a: Term, b: Term) -> Term:
    """What max(a, b) adds to da: where both are equal half of g, or all of it if b is a number, as torch does."""
    return a.over(b, g, b.over(a, 0.0, g if b.constant else g * 0.5))


GRADIENT: dict[str, Callable[..., tuple[Term | None, ...]]] = {
    "add": lambda g, y, a, b: (g, g),
    "sub": lambda g, y, a, b: (g, -g),
    "mul": lambda g, y, a, b: (g * b, g * a),
    "div": lambda g, y, a, b: (g / b, -(g / b) * y),
    "neg": lambda g, y, a: (-g,),
    "sigmoid": lambda g, y, a: (g * (y * (1.0 - y)),),
    "tanh": lambda g, y, a: (g * (1.0 - y * y),),
    "relu": lambda g, y, a: (y.over(0.0, g, y),),  # y is 0 there, or NaN
    "softplus": lambda g, y, a: (g * a.sigmoid(),),
    "exp": lambda g, y, a: (g * y,),
    "log": lambda g, y, a: (g / a,),
    "sqrt": lambda g, y, a: (g * 0.5 / y,),
    "abs": lambda g, y, a: (a.over(0.0, g, (-a).over(0.0, -g, 0.0)),),
    "sin": lambda g, y, a: (g * a.cos(),),
    "cos": lambda g, y, a: (-(g * a.sin()),),
    "atan": lambda g, y, a: (g / (a * a + 1.0),),
    "erf": lambda g, y, a: (g * ((-(a * a)).exp() * (2.0 / math.sqrt(math.pi))),),
    "floor": lambda g, y, a: (None,),
    "round": lambda g, y, a: (None,),
    "sign": lambda g, y, a: (None,),
    "stop": lambda g, y, a: (None,),
    "mod": lambda g, y, a, b: (g, -(g * (a / b).floor())),
    "minimum": lambda g, y, a, b: (_larger(g, -a, -b), _larger(g, -b, -a)),
    "maximum": lambda g, y, a, b: (_larger(g, a, b), _larger(g, b, a)),
    "where": lambda g, y, a, b, u, v: (None, None, a.over(b, g, 0.0), a.over(b, 0.0, g)),
}
"""For each pointwise operation what it adds to its arguments' derivatives; None: nothing."""


def _largest(g: Term, y: Term, a: Term) -> Term:
    """What the maximum adds to each element: g wherever it is reached, and nothing elsewhere."""
    return y.reshaped("broadcast", a.shape).over(a, 0.0, g.reshaped("broadcast", a.shape))


RESHAPING_GRADIENT: dict[str, Callable[[Term, Term, Term], Term]] = {
    "broadcast": lambda g, y, a: g.reshaped("total", a.shape),
    "total": lambda g, y, a: g.reshaped("broadcast", a.shape),
    "largest": _largest,
    "rows": lambda g, y, a: g.reshaped("row_sum", a.shape),
    "columns": lambda g, y, a: g.reshaped("column_sum", a.shape),
    "row_sum": lambda g, y, a: g.reshaped("rows", a.shape),
    "column_sum": lambda g, y, a: g.reshaped("columns", a.shape),
    "matrix": lambda g, y, a: g.reshaped("flatten", a.shape),
    "flatten": lambda g, y, a: g.reshaped("matrix", a.shape),
}
"""For each operation that changes a shape what it adds to its argument's derivative."""


MULTIPLYING_GRADIENT: dict[str, Callable[[Term, Term, Term], tuple[Term, Term]]] = {
    "multiply": lambda g, a, b: (
        g.reshaped("multiply_transposed", a.shape, b),
        a.reshaped("transposed_multiply", b.shape, g),
    ),
    "multiply_transposed": lambda g, a, b: (
        g.reshaped("multiply", a.shape, b),
        g.reshaped("transposed_multiply", b.shape, a),
    ),
    "transposed_multiply": lambda g, a, b: (
        b.reshaped("multiply_transposed", a.shape, g),
        a.reshaped("multiply", b.shape, g),
    ),
}
"""For each product of two matrices what it adds to their derivatives."""

Found = dict[tuple[int, Shape], Term]
"""What is added to the derivatives of nodes, by the node and the shape of what is added."""


@dataclass(frozen=True)
class StageGradient:
    """What a stage's derivative gives: pairs of a node and the position of what is added to its derivative.

    ``sums`` are the stage's own sums, whose derivatives go on through their matrices, and ``reductions`` its own
    reductions: these are whole derivatives, what later stages added to them included, and an earlier stage reads those
    of reductions as ``later``. ``others`` are leaves, values computed before the loop, and values of earlier stages, to
    which something is added. A number that is the same at every step is there once for each shape
    in which something is added to its derivative.
    """

    sums: tuple[tuple[int, int], ...]
    others: tuple[tuple[int, int], ...]
    reductions: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class StepGradient:
    """A step and its derivative: the first nodes are the step's; ``stages`` are in its order.

    Two further leaves are read: ``new``, whose value n says which new state's derivative it is, and ``later``, the
    derivative of node n (its value) as far as later stages have added to it. Where a derivative leads from one shape to
    another within a stage, the loops over its shapes are taken in the order opposite to the step's.
    """

    nodes: tuple[Node, ...]
    stages: tuple[StageGradient, ...]


def step_gradient(graph: Graph, stages: Sequence[Stage], active: Container[int] | None = None) -> StepGradient:
    """The derivative of one step, led to the ``active`` nodes alone; None: to all."""
    return _Walk(graph, stages, active).walk()


def invariant_gradient(
    nodes: Sequence[Node], computed: Sequence[int], given: Container[int], active: Container[int] | None = None
) -> tuple[tuple[Node, ...], tuple[tuple[int, int], ...]]:
    """What the derivatives of loop-invariant values add to those of what they are ``computed`` of, unit by unit.

    The first nodes are the step's; a leaf ``later`` is the derivative of node n (its value) in all steps. The pairs are
    a ``given`` node and the position of what is added to its derivative, which leads to the ``active`` ones alone.
    """
    builder = GraphBuilder(nodes)

    def leads_to(k: int) -> bool:
        return nodes[k].op not in ("constant", "size") and (active is None or k in active)

    found = {
        k: Term(builder, builder.write("later", value=k, shape=nodes[k].shape)) for k in filter(leads_to, computed)
    }
    for k in range(max(computed, default=-1), -1, -1):
        if k not in found or k in given:
            continue
        values = (found.pop(k), *(Term(builder, at) for at in (k, *nodes[k].args)))
        for arg, add in zip(nodes[k].args, GRADIENT[nodes[k].op](*values), strict=True):
            if add is not None and leads_to(arg):
                found[arg] = found[arg] + add if arg in found else add
    return tuple(builder.nodes), tuple((k, term.at) for k, term in sorted(found.items()))


class _Walk:
    def __init__(self, graph: Graph, stages: Sequence[Stage], active: Container[int] | None) -> None:
        self.graph, self.stages, self.active = graph, stages, active
        self.builder = GraphBuilder(graph.nodes)
        self.stage_of = {
            k: n
            for n, stage in enumerate(stages)
            for k in (*(each.node for each in stage.sums), *stage.pointwise, *stage.reductions)
        }
        self.waiting: set[int] = set()
        self.reduced: set[int] = set()

    def walk(self) -> StepGradient:
        found = [self._stage(number) for number in reversed(range(len(self.stages)))]
        return StepGradient(tuple(self.builder.nodes), tuple(reversed(found)))

    def _stage(self, number: int) -> StageGradient:
        stage = self.stages[number]
        found = self._from_outside(number)
        for k in sorted(stage.pointwise, reverse=True):
            self._through(k, found)
        sums, reductions = (
            {k: found.pop((k, self.graph.nodes[k].shape)) for k in own if (k, self.graph.nodes[k].shape) in found}
            for own in ([each.node for each in stage.sums], stage.reductions)
        )
        for each in stage.sums:
            for bias in each.invariant if each.node in sums else ():
                self._add(found, bias, sums[each.node])
        self.waiting.update({k for k, _ in found} & self.stage_of.keys())
        vectors = {vector for each in stage.sums if each.node in sums for _, vector in each.products}
        self.waiting.update(vectors & self.stage_of.keys())
        self.reduced |= reductions.keys()
        return StageGradient(
            tuple((k, term.at) for k, term in sorted(sums.items())),
            tuple((k, term.at) for (k, _), term in sorted(found.items(), key=lambda item: item[0])),
            tuple((k, term.at) for k, term in sorted(reductions.items())),
        )

    def _through(self, k: int, found: Found) -> None:
        """Lead a pointwise value's derivative on to its arguments."""
        node = self.graph.nodes[k]
        if (k, node.shape) not in found:
            return
        values = (found.pop((k, node.shape)), *(Term(self.builder, at) for at in (k, *node.args)))
        if node.op in RESHAPING_GRADIENT:
            self._add(found, node.args[0], RESHAPING_GRADIENT[node.op](*values))
            return
        for arg, add in zip(node.args, GRADIENT[node.op](*values), strict=True):
            if add is not None:
                self._add(found, arg, add)

    def _leads_to(self, k: int) -> bool:
        return self.active is None or k in self.active

    def _add(self, found: Found, arg: int, add: Term) -> None:
        if self.graph.nodes[arg].op not in ("constant", "size", "mask") and self._leads_to(arg):
            key = (arg, add.shape)
            found[key] = found[key] + add if key in found else add

    def _from_outside(self, number: int) -> Found:
        """What comes from the next step, and from later stages of this one, to the nodes of a stage."""
        found: Found = {}
        last, nodes = len(self.stages) - 1, self.graph.nodes
        for state, k in enumerate(self.graph.outputs):
            if self.stage_of.get(k, last) == number and self._leads_to(k):
                self._add(found, k, self._leaf("new", state, k))
        for k in sorted(self.waiting):
            if self.stage_of[k] == number and self._leads_to(k):
                self._add(found, k, self._leaf("later", k, k))
        for k in sorted(self.reduced):
            for place, arg in enumerate(nodes[k].args):
                inside = self.stage_of.get(arg, -1) == number or (number == 0 and arg not in self.stage_of)
                if inside and self._leads_to(arg):
                    self._add(found, arg, self._of_whole(k, place))
        return found

    def _of_whole(self, k: int, place: int) -> Term:
        """What a reduction or a product of matrices adds to the derivative of an argument."""
        node, g = self.graph.nodes[k], self._leaf("later", k, k)
        args = [Term(self.builder, arg) for arg in node.args]
        if node.op in MULTIPLYING:
            return MULTIPLYING_GRADIENT[node.op](g, *args)[place]
        return RESHAPING_GRADIENT[node.op](g, Term(self.builder, k), *args)

    def _leaf(self, op: str, value: int, like: int) -> Term:
        return Term(self.builder, self.builder.write(op, value=value, shape=self.graph.nodes[like].shape))
