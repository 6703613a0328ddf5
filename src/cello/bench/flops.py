"""Count the floating-point operations of a cell's matrix products."""

from __future__ import annotations

from math import prod

from cello.bench.settings import Size
from cello.cells.definition import Cell
from cello.cells.graph import MULTIPLYING, reached
from cello.cells.sizes import size as elements_of
from cello.cells.summed import summed


def flops(cell: Cell, size: Size, *, x_gradient: bool) -> int:
    """Operations of one forward and backward pass: those of the matrix products, 2 for each element of a matrix.

    A product costs 2·B·T for each element of its matrix forward. Backward, its matrix's gradient costs the same again,
    and so does its vector's; the frame's is counted only with ``x_gradient``, that of a matrix which is not learned
    never. Products of matrices of heads, with vectors and with each other, have two gradients each. Pointwise
    operations are not counted, nor sums over units as in layer norm, nor anything a kernel computes twice.

    >>> from cello.cells.load import load_cell
    >>> flops(load_cell("rnn"), Size(batch=1, frames=1, inputs=10, hidden=100), x_gradient=False)
    64000
    """
    cell = summed(cell)
    nodes, found, fixed = cell.graph.nodes, 0, cell.fixed()

    def elements(k: int) -> int:
        return prod(elements_of(each, size.inputs, size.hidden) for each in nodes[k].shape)

    for node in nodes:
        if node.op == "product":
            matrix, vector = node.args
            learned = any(nodes[k].op == "parameter" and nodes[k].name not in fixed for k in reached(nodes, [matrix]))
            frame = nodes[vector].op == "input"
            found += (1 + learned + (x_gradient or not frame)) * elements(matrix)
        elif node.op in ("row_sum", "column_sum"):
            found += 3 * elements(node.args[0])
        elif node.op in MULTIPLYING:
            found += 3 * elements(node.args[0]) * elements_of(node.shape[1], size.inputs, size.hidden)
    return 2 * size.batch * size.frames * found
