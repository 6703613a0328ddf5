"""Find products with block-diagonal matrices, of heads that are the same at every step, and write them as products.

With ``U: Heads(4)``, ``U @ h`` is the sum over each row of ``U * columns(h)``. As a product it joins the sum that it is
added to, and its derivatives are products too. Its matrix (H, H/n) times a vector (H,) is no product of the language's
own, so only kernels that ask for it are given such a graph.

Where heads share a vec or a panel of rows, each is multiplied by the others' zeros too: an infinite element of one
makes NaN of all.
"""

from __future__ import annotations

from cello.cells.graph import Graph, Node, dependencies, moved, reached, uses
from cello.cells.sizes import UNITS, repeated, share


def with_blocks(graph: Graph) -> tuple[Graph, frozenset[int]]:
    """The graph with such products, and their matrices; a matrix that is read otherwise too stays as it is."""
    nodes, needs, count = graph.nodes, dependencies(graph.nodes), uses(graph)
    products: dict[int, tuple[int, int]] = {}
    for k, node in enumerate(nodes):
        inner = nodes[node.args[0]] if node.op == "row_sum" else None
        for matrix, columns in (inner.args, inner.args[::-1]) if inner is not None and inner.op == "mul" else ():
            shape, repeats = nodes[matrix].shape, nodes[columns]
            heads = len(shape) == 2 and share(shape[1]) > 1 and repeated(shape[1]) == UNITS
            alone = not needs[matrix] and count[node.args[0]] == 1
            if heads and alone and repeats.op == "columns" and needs[columns]:
                products[k] = matrix, repeats.args[0]
    inside = {nodes[k].args[0] for k in products}
    others = {arg for k, node in enumerate(nodes) if needs[k] and k not in inside for arg in node.args}
    products = {k: each for k, each in products.items() if each[0] not in others}
    if not products:
        return graph, frozenset()
    written = [
        Node("product", products[k], node.shape, node.name, line=node.line) if k in products else node
        for k, node in enumerate(nodes)
    ]
    place = {before: after for after, before in enumerate(sorted(reached(written, graph.outputs)))}
    found = tuple(moved(written[k], place) for k in place)
    matrices = frozenset(place[matrix] for matrix, _ in products.values())
    return Graph(found, graph.states, tuple(place[k] for k in graph.outputs)), matrices
