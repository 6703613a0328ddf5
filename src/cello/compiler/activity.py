"""Activity analysis: through which values of a step derivatives have to be led.

A value is active if it leads to something whose derivative is asked for: a learned matrix or other loop-invariant
value, the frame, a first state. A state is active where its first one is, or what becomes of it at a step: this step's
derivative of it is what the step before begins with. What is not active has no derivative that anybody learns from.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

from cello.cells.graph import POINTWISE, Graph, GraphBuilder, Node
from cello.compiler.gradient import GRADIENT, Term


@dataclass(frozen=True)
class Active:
    """The active nodes of a graph, leaves among them, and the numbers of the active states."""

    nodes: frozenset[int]
    states: frozenset[int]


def active(graph: Graph, leaves: Collection[int], first: Collection[int]) -> Active:
    """What is active if these leaves, or values that are the same at every step, and these first states are asked for.

    States come last: each that is found to be active may make others so.
    """
    states = {*first}
    while True:
        names = {graph.states[n] for n in states}
        nodes = {*leaves}
        for k, node in enumerate(graph.nodes):
            if (node.op == "state" and node.name in names) or not nodes.isdisjoint(_differentiated(node)):
                nodes.add(k)
        more = {n for n, k in enumerate(graph.outputs) if k in nodes} | states
        if more == states:
            return Active(frozenset(nodes), frozenset(states))
        states = more


def _differentiated(node: Node) -> tuple[int, ...]:
    """The arguments to which a node's derivative is led on."""
    if node.op not in POINTWISE:
        return node.args
    return tuple(arg for arg, leads in zip(node.args, _leads(node.op), strict=True) if leads)


@cache
def _leads(op: str) -> tuple[bool, ...]:
    builder = GraphBuilder(())
    terms = [Term(builder, builder.write("new", value=n)) for n in range(2 + POINTWISE[op])]
    return tuple(added is not None for added in GRADIENT[op](*terms))
