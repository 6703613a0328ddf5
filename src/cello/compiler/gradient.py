"""Differentiate one step: one row an operation, applied from the last stage to the first.

With loss L and dv for ∂L/∂v, a row says what y = op(a, b, ...) adds to da, db, ... given g = dy. It is written with the
language's own operations, so a derivative is again a graph: every target renders it as it renders the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cello.cells.graph import Graph, GraphBuilder, Node
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


@dataclass(frozen=True)
class StageGradient:
    """What a stage's derivative gives: pairs of a node and the position of what is added to its derivative.

    ``sums`` are the stage's own sums, whose derivatives go on through their matrices; ``others`` are leaves, values
    computed before the loop, and values of earlier stages.
    """

    sums: tuple[tuple[int, int], ...]
    others: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class StepGradient:
    """A step and its derivative: the first nodes are the step's; ``stages`` are in its order.

    Two further leaves are read: ``new``, whose value n says which new state's derivative it is, and ``later``, the
    derivative of node n (its value) as far as later stages have added to it.
    """

    nodes: tuple[Node, ...]
    stages: tuple[StageGradient, ...]


def step_gradient(graph: Graph, stages: Sequence[Stage]) -> StepGradient:
    """The derivative of one step."""
    return _Walk(graph, stages).walk()


class _Walk:
    def __init__(self, graph: Graph, stages: Sequence[Stage]) -> None:
        self.graph, self.stages = graph, stages
        self.builder = GraphBuilder(graph.nodes)
        self.stage_of = {
            k: n for n, stage in enumerate(stages) for k in (*(each.node for each in stage.sums), *stage.pointwise)
        }
        self.waiting: set[int] = set()

    def walk(self) -> StepGradient:
        found = [self._stage(number) for number in reversed(range(len(self.stages)))]
        return StepGradient(tuple(self.builder.nodes), tuple(reversed(found)))

    def _stage(self, number: int) -> StageGradient:
        stage, nodes = self.stages[number], self.graph.nodes
        found = self._from_outside(number)
        for k in sorted(stage.pointwise, reverse=True):
            if k not in found:
                continue
            args = nodes[k].args
            values = (found.pop(k), *(Term(self.builder, a) for a in (k, *args)))
            for arg, add in zip(args, GRADIENT[nodes[k].op](*values), strict=True):
                if add is not None and nodes[arg].op not in ("constant", "mask"):
                    found[arg] = found[arg] + add if arg in found else add
        sums = {each.node: found.pop(each.node) for each in stage.sums if each.node in found}
        for each in stage.sums:
            for bias in each.invariant if each.node in sums else ():
                if nodes[bias].op != "constant":
                    found[bias] = found[bias] + sums[each.node] if bias in found else sums[each.node]
        self.waiting.update(found.keys() & self.stage_of.keys())
        vectors = {vector for each in stage.sums if each.node in sums for _, vector in each.products}
        self.waiting.update(vectors & self.stage_of.keys())
        return StageGradient(
            tuple((k, term.at) for k, term in sorted(sums.items())),
            tuple((k, term.at) for k, term in sorted(found.items())),
        )

    def _from_outside(self, number: int) -> dict[int, Term]:
        """What comes from the next step, and from later stages of this one, to the nodes of a stage."""
        found: dict[int, Term] = {}
        last = len(self.stages) - 1
        for state, k in enumerate(self.graph.outputs):
            if self.stage_of.get(k, last) == number:
                seed = Term(self.builder, self.builder.write("new", value=state))
                found[k] = found[k] + seed if k in found else seed
        for k in sorted(self.waiting):
            if self.stage_of[k] == number:
                seed = Term(self.builder, self.builder.write("later", value=k))
                found[k] = found[k] + seed if k in found else seed
        return found
