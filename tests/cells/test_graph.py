"""The legal form holds: each way of breaking it is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cello.cells.graph import Graph, Node, check
from cello.cells.load import load_cell
from cello.errors import CellError

GRAPH = load_cell("rnn").graph


def changed(position: int, **fields: object) -> Graph:
    nodes = list(GRAPH.nodes)
    nodes[position] = replace(nodes[position], **fields)  # type: ignore[arg-type]
    return replace(GRAPH, nodes=tuple(nodes))


def place(op: str) -> int:
    return next(k for k, node in enumerate(GRAPH.nodes) if node.op == op)


@pytest.mark.parametrize(
    ("graph", "fact"),
    [
        (changed(place("tanh"), op="swish"), "unknown operation; known: add, sub"),
        (changed(place("tanh"), args=(0, 1)), "2 arguments instead of 1"),
        (changed(place("tanh"), args=(0,)), r"a pointwise operation on \[\('D',\)\]"),
        (changed(place("tanh"), args=(99,)), "an argument is not an earlier node"),
        (changed(place("product"), args=(1, 2)), "a product of"),
        (changed(place("state"), shape=("D",)), r"a product of \[\('H', 'H'\), \('D',\)\]"),
        (replace(GRAPH, outputs=()), r"outputs \(\) are not among its"),
        (replace(GRAPH, outputs=(0,)), "reach no returned value"),
        (replace(GRAPH, outputs=(*GRAPH.outputs, 0)), "need one value of their shape each"),
        (replace(GRAPH, nodes=(*GRAPH.nodes, Node("neg", (1,), ("H",)))), "reach no returned value"),
        (replace(GRAPH, nodes=(*GRAPH.nodes, replace(GRAPH.nodes[-1], name=None))), "the same as an earlier node"),
    ],
    ids=range(11),
)
def test_an_illegal_graph_is_named(graph: Graph, fact: str) -> None:
    with pytest.raises(CellError, match=fact):
        check(graph)
