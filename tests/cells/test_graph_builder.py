"""One builder makes every graph: equal values are one node, unneeded ones are gone, nothing illegal comes out."""

from __future__ import annotations

import pytest

from cello.cells.graph import GraphBuilder, Node
from cello.errors import CellError


def test_what_computes_the_same_is_one_node_whatever_its_variable_is_called() -> None:
    builder = GraphBuilder()
    h = builder.write("state", name="h", shape=("H",))
    assert builder.write("tanh", h) == builder.write("tanh", h) == builder.add(Node("tanh", (h,), ("H",), "again"))
    assert builder.write("state", name="h") == h
    assert builder.write("state", name="c") != h
    assert builder.write("constant", value=1.0) != builder.write("constant", value=2.0)


def test_what_no_output_needs_is_left_out_and_the_order_stays() -> None:
    builder = GraphBuilder()
    h = builder.write("state", name="h", shape=("H",))
    builder.write("exp", h)
    new = builder.write("tanh", h)
    builder.call(new, "g")
    graph = builder.graph(("h",), [new])
    assert [(node.op, node.args, node.name) for node in graph.nodes] == [("state", (), "h"), ("tanh", (0,), "g")]
    assert graph.outputs == (1,)


def test_nodes_it_begins_with_are_arguments_but_are_not_found_again() -> None:
    step = [Node("state", (), ("H",), "h"), Node("tanh", (0,), ("H",))]
    builder = GraphBuilder(step)
    assert builder.write("tanh", 0) == 2  # a derivative that reads the step's own would have it stored
    assert builder.nodes[:2] == step


def test_an_illegal_graph_does_not_come_out() -> None:
    builder = GraphBuilder()
    one = builder.write("constant", value=1.0)
    with pytest.raises(
        CellError, match=r"states \('h',\) need one value of their shape each that depends on x or a state"
    ):
        builder.graph(("h",), [one])
