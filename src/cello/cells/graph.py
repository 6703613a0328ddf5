"""Define, build and check the graph of a cell: what one step computes from one frame.

A graph is a tuple of nodes in an order in which they can be computed; a node names its arguments by their positions.
Its legal form, which :func:`check` holds it to:

- a shape is () for a number, (L,) for a vector and (L, M) for a matrix, of sizes as :mod:`cello.cells.sizes` has them:
  D features of a frame, H units, "16", "H/2"; ("1",) is one number a step;
- leaves: ``input`` (the frame x (D,), or one of its parts x.gap), ``state`` ((L,), the matrices of heads (H, H/n), or a
  matrix (H, N)),
  ``parameter``, ``constant`` and ``size`` (numbers, ()), ``mask`` (of its state's shape, given for each frame and not
  learned: equations have none, :mod:`cello.cells.noise` adds them);
- ``product``: a matrix (L, M) that is the same at every step times a vector (M,) that changes, which gives (L,);
- ``apply``: a matrix (L, M) times a vector (M,), both made of parameters and numbers by pointwise operations, ``apply``
  and :data:`MATRIX`: the same at every step, and computed before the first one;
- pointwise: one of :data:`POINTWISE` with its number of arguments, each a number or of the result's shape.
  ``where(a, b, u, v)`` is u where a > b, v elsewhere;
- :data:`RESHAPING`: what leads from one shape to another. ``broadcast`` gives each of L elements the one number of
  ("1",); ``total`` and ``largest`` are the sum and the maximum of L elements, ("1",). With n heads of d = H/n units,
  matrices (H, H/n) are n blocks of d × d, one under the other: row u belongs to unit u, column j to the unit j of the
  same head. ``rows`` repeats a vector's element u along row u, ``columns`` its element (head, j) down column j of its
  head; ``row_sum`` and ``column_sum`` add up rows and columns, and give (H,). A matrix (H, N) of other columns is one
  block: ``columns`` repeats a vector (N,) in all its rows, and ``column_sum`` gives one. ``matrix`` makes a vector of
  H · M elements the matrix (H, M) whose rows they are one after the other, and ``flatten`` such a matrix that vector.
  ``multiply`` is A B of a matrix of heads (H, H/n) and one (H, M) of as many heads, or of one block, of whose rows each
  block of A takes its own; ``multiply_transposed`` is A Bᵀ of two (H, M), of which the blocks (H, H/n) of its shape are
  computed, and ``transposed_multiply`` Aᵀ B of the same as ``multiply``;
- a matrix of products is a parameter, or what pointwise operations and :data:`MATRIX` make of matrices of one shape,
  numbers and scalar parameters: it is the same at every step;
- every node is reached from a returned value; one returned value a state, each of the state's shape;
- no two nodes compute the same thing.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cello.cells.sizes import INPUTS, ONE, UNITS, elements_of, is_size, repeated, share
from cello.errors import CellError

Shape = tuple[str, ...]
"""Sizes: ("H", "D") is a matrix of hidden by input size, ("H",) a vector, () a single number."""

POINTWISE: dict[str, int] = {
    "add": 2,
    "sub": 2,
    "mul": 2,
    "div": 2,
    "neg": 1,
    "sigmoid": 1,
    "tanh": 1,
    "relu": 1,
    "softplus": 1,
    "exp": 1,
    "log": 1,
    "sqrt": 1,
    "abs": 1,
    "sin": 1,
    "cos": 1,
    "atan": 1,
    "erf": 1,
    "floor": 1,
    "round": 1,
    "sign": 1,
    "stop": 1,
    "mod": 2,
    "minimum": 2,
    "maximum": 2,
    "where": 4,
}
"""Every pointwise operation and the number of its arguments; each target has one row for each of them."""

MATRIX: dict[str, int] = {"transpose": 1, "inverse": 1, "expm": 1}
"""Every operation on whole matrices, square but for the transpose; nothing of them depends on frame or state."""

APPLY = "apply"
"""The product of a matrix and a vector that are both the same at every step."""

MULTIPLYING: dict[str, int] = {"multiply": 2, "multiply_transposed": 2, "transposed_multiply": 2}
"""Every product of two matrices, of which one changes at least: A B, A Bᵀ and Aᵀ B."""

RESHAPING: dict[str, int] = {
    "broadcast": 1,
    "total": 1,
    "largest": 1,
    "rows": 1,
    "columns": 1,
    "row_sum": 1,
    "column_sum": 1,
    "matrix": 1,
    "flatten": 1,
    **MULTIPLYING,
}
"""Every operation whose result has another shape than its arguments, products with vectors apart."""

REDUCTIONS = frozenset({"total", "largest", "row_sum", "column_sum", "flatten", *MULTIPLYING})
"""Those of them that need whole vectors or matrices before they give a value."""

LEAVES: dict[str, tuple[int, ...]] = {
    "input": (1,),
    "state": (1, 2),
    "mask": (1, 2),
    "parameter": (0, 1, 2),
    "constant": (0,),
    "size": (0,),
}
"""Every leaf and how many sizes its shape may have."""


@dataclass(frozen=True, slots=True)
class Node:
    """One value: ``args`` are earlier nodes' positions, ``name`` the equation's variable, ``line`` that of its file."""

    op: str
    args: tuple[int, ...]
    shape: Shape
    name: str | None = None
    value: float | None = None
    line: int = 0


@dataclass(frozen=True, slots=True)
class Graph:
    """One step of a cell: ``states`` and ``outputs`` are the positions of the old and of the new states, in order."""

    nodes: tuple[Node, ...]
    states: tuple[str, ...]
    outputs: tuple[int, ...]

    def parameters(self) -> tuple[Node, ...]:
        """The parameter leaves in the order of their first use."""
        return tuple(node for node in self.nodes if node.op == "parameter")

    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with what is computed, not with how the equations' variables are called."""
        nodes = [(n.op, n.args, n.shape, n.value, n.name if n.op in LEAVES else None) for n in self.nodes]
        return hashlib.sha256(repr((nodes, self.states, self.outputs)).encode()).hexdigest()[:16]


def dependencies(nodes: tuple[Node, ...]) -> list[frozenset[str]]:
    """For each node, which of "input" and "state" it depends on; neither: it is the same at every step.

    A mask counts as input, since it is given frame by frame.
    """
    kinds = {"input": frozenset(["input"]), "mask": frozenset(["input"]), "state": frozenset(["state"])}
    known: list[frozenset[str]] = []
    for node in nodes:
        own = kinds.get(node.op, frozenset())
        known.append(own.union(*(known[arg] for arg in node.args)))
    return known


def uses(graph: Graph) -> tuple[int, ...]:
    """How often each node is an argument or an output."""
    count = Counter(arg for node in graph.nodes for arg in node.args) + Counter(graph.outputs)
    return tuple(count[k] for k in range(len(graph.nodes)))


def reached(nodes: Sequence[Node], outputs: Sequence[int]) -> set[int]:
    """The positions from which some output is computed, the outputs included."""
    found: set[int] = set()
    todo = list(outputs)
    while todo:
        position = todo.pop()
        if position not in found:
            found.add(position)
            todo.extend(nodes[position].args)
    return found


def moved(node: Node, place: Mapping[int, int]) -> Node:
    """A node as it stands in another graph, in which ``place`` tells where its arguments are."""
    args = tuple([place[arg] for arg in node.args])
    return Node(node.op, args, node.shape, node.name, node.value, node.line)


def same_value(node: Node) -> tuple[object, ...]:
    """What two nodes share if and only if they compute the same: the name of a variable is no part of it."""
    shape = node.shape if node.op in RESHAPING else None
    return (node.op, node.args, node.value, None if node.args else node.name, shape)


def shape_of(op: str, shapes: Sequence[Shape]) -> Shape:
    """The shape of a value from those of its arguments; those of broadcasts, rows, columns, matrices must be given."""
    if op in ("product", APPLY):
        return shapes[0][:1]
    if op in ("total", "largest"):
        return (ONE,)
    if op in ("row_sum", "column_sum"):
        return shapes[0][:1] if op == "row_sum" else (repeated(shapes[0][1]),)
    if op == "flatten":
        return (elements_of(shapes[0][1]),)
    if op == "transpose":
        return shapes[0][::-1]
    if op in ("multiply", "transposed_multiply"):
        return shapes[1]
    return max(shapes, key=len, default=())


def one_size(graph: Graph) -> bool:
    """Whether every value of a step is a vector of H units, and the frame is only multiplied by matrices (H, D)."""
    needs = dependencies(graph.nodes)
    read = {arg for node in graph.nodes if node.op != "product" for arg in node.args} | {*graph.outputs}
    return not any(
        node.op in (APPLY, "size", *RESHAPING)
        or not {*node.shape} <= {INPUTS, UNITS}
        or (node.shape == (INPUTS,) and (node.op != "input" or k in read))
        or (len(node.shape) == 2 and (node.shape[0] != UNITS or bool(needs[k])))
        for k, node in enumerate(graph.nodes)
    )


class GraphBuilder:
    """Builds a graph node by node: what computes the same is one node, and what no output needs is left out.

    The nodes it begins with, ``before``, can be arguments of others; what is added later is not looked up among them.
    """

    def __init__(self, before: Sequence[Node] = ()) -> None:
        self.nodes = list(before)
        self._known: dict[tuple[object, ...], int] = {}

    def add(self, node: Node) -> int:
        """The position of a node, or of the one added earlier that computes the same."""
        position = self._known.setdefault(same_value(node), len(self.nodes))
        if position == len(self.nodes):
            self.nodes.append(node)
        return position

    def find(
        self, op: str, args: tuple[int, ...], value: float | None, name: str | None, shape: Shape = ()
    ) -> int | None:
        """The position of the node that computes this, if there is one."""
        return self._known.get(same_value(Node(op, args, shape, name, value)))

    def write(
        self, op: str, *args: int, name: str | None = None, value: float | None = None, shape: Shape | None = None
    ) -> int:
        """The position of a value; its shape follows from its arguments, that of a leaf is a number's if not given."""
        if shape is None:
            shape = shape_of(op, [self.nodes[arg].shape for arg in args])
        return self.add(Node(op, args, shape, name, value))

    def call(self, position: int, name: str) -> None:
        """Name a value after the variable that holds it."""
        node = self.nodes[position]
        self.nodes[position] = Node(node.op, node.args, node.shape, name, node.value, node.line)

    def graph(self, states: tuple[str, ...], outputs: Sequence[int]) -> Graph:
        """The legal graph of what the outputs need, its nodes numbered anew in the same order.

        Raises:
            CellError: it is not legal.
        """
        live = sorted(reached(self.nodes, outputs))
        place = {before: after for after, before in enumerate(live)}
        nodes = [moved(self.nodes[k], place) for k in live]
        graph = Graph(tuple(nodes), states, tuple(place[output] for output in outputs))
        check(graph)
        return graph


def check(graph: Graph) -> None:
    """Check that a graph has the legal form above.

    Raises:
        CellError: the first node that breaks it, with its position and the rule.
    """
    for position, node in enumerate(graph.nodes):
        if any(not 0 <= arg < position for arg in node.args):
            raise CellError(
                f"illegal graph: node {position}, {node.op} {node.args}: an argument is not an earlier node"
            )
    needs, elementary = dependencies(graph.nodes), _elementary(graph.nodes)
    seen: set[tuple[object, ...]] = set()
    for position, node in enumerate(graph.nodes):
        fault = _fault(graph.nodes, position, needs, elementary)
        key = same_value(node)
        if fault is None and key in seen:
            fault = "computes the same as an earlier node"
        seen.add(key)
        if fault is not None:
            raise CellError(f"illegal graph: node {position}, {node.op} {node.args} {node.name or ''}: {fault}")
    if not graph.outputs or any(not 0 <= k < len(graph.nodes) for k in graph.outputs):
        raise CellError(f"illegal graph: outputs {graph.outputs} are not among its {len(graph.nodes)} nodes")
    if unreached := set(range(len(graph.nodes))) - reached(graph.nodes, graph.outputs):
        raise CellError(f"illegal graph: nodes {sorted(unreached)} reach no returned value")
    shapes = {node.name: node.shape for node in graph.nodes if node.op == "state"}
    fit = [
        bool(needs[k])
        and bool(graph.nodes[k].shape)
        and shapes.get(state, graph.nodes[k].shape) == graph.nodes[k].shape
        for state, k in zip(graph.states, graph.outputs, strict=False)
    ]
    fit[:1] = [fit[0] and len(graph.nodes[graph.outputs[0]].shape) == 1] if fit else []
    if fit != [True] * len(graph.states) or len(graph.outputs) != len(graph.states):
        raise CellError(
            f"illegal graph: states {graph.states} need one value of their shape each that depends on x or a state"
        )


def _elementary(nodes: tuple[Node, ...]) -> list[bool]:
    """For each node, whether it is made of parameters and numbers alone, and no operation knows sizes or reshapes."""
    found: list[bool] = []
    for node in nodes:
        known = node.op in ("parameter", "constant") if node.op in LEAVES else node.op not in ("product", *RESHAPING)
        found.append(known and all(found[arg] for arg in node.args))
    return found


def _fault(nodes: tuple[Node, ...], position: int, needs: list[frozenset[str]], elementary: list[bool]) -> str | None:
    node = nodes[position]
    shapes = [nodes[arg].shape for arg in node.args]
    if not all(map(is_size, node.shape)):
        return f"the shape {node.shape}"
    if node.op in LEAVES:
        legal = len(node.shape) in LEAVES[node.op] and not node.args
        heads = node.op not in ("state", "mask") or len(node.shape) < 2 or _is_heads(node.shape)
        return None if legal and heads else f"a leaf of shape {node.shape}"
    if node.op == "product":
        matrix, vector = node.args
        legal = not needs[matrix] and bool(needs[vector]) and shapes[0] == (*node.shape, *shapes[1])
        return None if legal and len(node.shape) == 1 else f"a product of {shapes}"
    if node.op == APPLY:
        fits = len(shapes) == 2 and len(node.shape) == len(shapes[1]) == 1 and shapes[0] == (*node.shape, *shapes[1])
        return None if fits and elementary[position] else f"a product of {shapes}"
    if node.op in MATRIX:
        square = len(node.shape) == 2 and (node.shape[0] == node.shape[1] or node.op == "transpose")
        wanted = node.shape[::-1] if node.op == "transpose" else node.shape
        legal = not needs[position] and shapes == [wanted] and square
        return None if legal else f"a matrix operation on {shapes} that gives {node.shape}"
    if node.op in MULTIPLYING:
        legal = len(shapes) == 2 and bool(needs[position]) and _multiplies(node.op, shapes, node.shape)
        return None if legal else f"{node.op} of {shapes} that gives {node.shape}"
    if node.op in RESHAPING:
        legal = len(shapes) == 1 and _reshapes(node.op, shapes[0], node.shape)
        return None if legal else f"{node.op} of {shapes} that gives {node.shape}"
    if node.op not in POINTWISE:
        return f"unknown operation; known: {', '.join(POINTWISE)}"
    if len(shapes) != POINTWISE[node.op]:
        return f"{len(shapes)} arguments instead of {POINTWISE[node.op]}"
    if any(shape not in ((), node.shape) for shape in shapes) or node.shape not in ((), *shapes):
        return f"a pointwise operation on {shapes} that gives {node.shape}"
    if len(node.shape) == 2 and needs[position] and not _is_heads(node.shape):
        return f"a pointwise operation on {shapes} that gives {node.shape}"
    return None


def _is_heads(shape: Shape) -> bool:
    """Whether a matrix changes from step to step legally: (H, H/n) or (H, N)."""
    return len(shape) == 2 and shape[0] == UNITS and shape[1] != ONE


def _multiplies(op: str, shapes: Sequence[Shape], after: Shape) -> bool:
    blocks, *wide = (after, *shapes) if op == "multiply_transposed" else (shapes[0], shapes[1], after)
    alike = wide[0] == wide[1] and all(map(_is_heads, (blocks, wide[0])))
    return alike and share(blocks[1]) > 0 and share(wide[0][1]) in (0, share(blocks[1]))


def _reshapes(op: str, before: Shape, after: Shape) -> bool:
    if op == "broadcast":
        return before == (ONE,) and len(after) == 1
    if op in ("total", "largest"):
        return len(before) == 1 and after == (ONE,)
    if op in ("rows", "columns"):
        return _is_heads(after) and before == (UNITS if op == "rows" else repeated(after[1]),)
    if op == "matrix":
        return _is_heads(after) and before == (elements_of(after[1]),)
    if op == "flatten":
        return _is_heads(before) and after == (elements_of(before[1]),)
    return _is_heads(before) and after == (UNITS if op == "row_sum" else repeated(before[1]),)
