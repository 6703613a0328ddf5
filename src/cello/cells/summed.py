"""Write products with fixed matrices of one number as sums over units, which take a fraction of the operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from cello.cells.definition import Cell
from cello.cells.graph import LEAVES, POINTWISE, GraphBuilder, Node, moved
from cello.cells.sizes import ONE


@lru_cache(maxsize=256)
def summed(cell: Cell) -> Cell:
    """The cell whose products ``J @ v``, with J the same fixed number in all places, are that number times v's sum.

    With ``J: Fixed(lambda H: 1 / H)`` they become ``v.sum() / H``. A cell that has none is left as it is.
    """
    numbers = {one.name: one.nodes for one in cell.declared if one.name in cell.fixed() and _is_number(one.nodes)}
    nodes, builder, place = cell.graph.nodes, GraphBuilder(), dict[int, int]()
    if not any(node.op == "product" and nodes[node.args[0]].name in numbers for node in nodes):
        return cell
    for k, node in enumerate(nodes):
        matrix = nodes[node.args[0]] if node.op == "product" else None
        if matrix is not None and matrix.op == "parameter" and matrix.name in numbers:
            total = builder.add(Node("total", (place[node.args[1]],), (ONE,), line=node.line))
            given = numbers[matrix.name]
            share = _times(builder, total, given, len(given) - 1)
            if node.name is not None and builder.nodes[share].name is None:
                builder.call(share, node.name)
            place[k] = builder.add(Node("broadcast", (share,), node.shape, line=node.line))
        else:
            place[k] = builder.add(moved(node, place))
    graph = builder.graph(cell.graph.states, [place[k] for k in cell.graph.outputs])
    left = {str(node.name) for node in graph.nodes if node.op in LEAVES}
    gone = {name for name in numbers if name not in left}
    return replace(
        cell,
        graph=graph,
        arguments=tuple(name for name in cell.arguments if name not in gone),
        declared=tuple(one for one in cell.declared if one.name not in gone),
        function=None,
    )


def _is_number(nodes: Sequence[Node]) -> bool:
    return all(node.op in ("constant", "size", *POINTWISE) for node in nodes)


def _times(builder: GraphBuilder, value: int, nodes: Sequence[Node], at: int) -> int:
    """A value times the number that a declared node gives, in as few operations as there are."""
    node = nodes[at]
    if node.op == "constant" and node.value == 1:
        return value
    if node.op in ("mul", "div"):
        first = _times(builder, value, nodes, node.args[0])
        if node.op == "mul":
            return _times(builder, first, nodes, node.args[1])
        return builder.write("div", first, _number(builder, nodes, node.args[1]))
    return builder.write("mul", value, _number(builder, nodes, at))


def _number(builder: GraphBuilder, nodes: Sequence[Node], at: int) -> int:
    node = nodes[at]
    args = tuple(_number(builder, nodes, arg) for arg in node.args)
    return builder.add(Node(node.op, args, (), node.name if node.op == "size" else None, node.value))
