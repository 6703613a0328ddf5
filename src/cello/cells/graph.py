"""Define, build and check the graph of a cell: what one step computes from one frame.

A graph is a tuple of nodes in an order in which they can be computed; a node names its arguments by their positions.
Its legal form, which :func:`check` holds it to:

- leaves: ``input`` (the frame x, one, shape (D,)), ``state`` (shape (H,)), ``parameter`` (``(H, D)``, ``(H, H)``,
  ``(H,)`` or a scalar ``()``), ``constant`` (a number, ``()``), ``mask`` (shape (H,), given for each frame and not
  learned: equations have none, :mod:`cello.cells.noise` adds them);
- ``product``: a matrix times a vector that depends on the frame or on a state: (H, D) by (D,), or (H, H) by (H,). The
  frame is used nowhere else, so every pointwise value of a step is (H,) or a scalar;
- pointwise: one of :data:`POINTWISE` with its number of arguments, each (H,) or a scalar. ``where(a, b, u, v)`` is u
  where a > b, v elsewhere;
- a matrix is a parameter, or what pointwise operations and :data:`MATRIX` make of matrices of one shape, numbers and
  scalar parameters: it is the same at every step;
- every node is reached from a returned value; one returned value a state, each (H,);
- no two nodes compute the same thing.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cello.errors import CellError

Shape = tuple[str, ...]
"""Shape letters: ("H", "D") is a matrix of hidden by input size, ("H",) a vector, () a single number."""

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
"""Every operation on square matrices as a whole, of which nothing depends on the frame or on a state."""

LEAVES: dict[str, tuple[Shape, ...]] = {
    "input": (("D",),),
    "state": (("H",),),
    "mask": (("H",),),
    "parameter": (("H", "D"), ("H", "H"), ("H",), ()),
    "constant": ((),),
}
"""Every leaf and the shapes it may have."""


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
    return (node.op, node.args, node.value, None if node.args else node.name)


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

    def find(self, op: str, args: tuple[int, ...], value: float | None, name: str | None) -> int | None:
        """The position of the node that computes this, if there is one."""
        return self._known.get((op, args, value, None if args else name))

    def write(self, op: str, *args: int, name: str | None = None, value: float | None = None) -> int:
        """The position of a vector (H,) or, if it is a constant, of a number."""
        return self.add(Node(op, args, () if op == "constant" else ("H",), name, value))

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
    needs = dependencies(graph.nodes)
    seen: set[tuple[object, ...]] = set()
    for position, node in enumerate(graph.nodes):
        fault = _fault(graph.nodes, position, needs)
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
    fit = [graph.nodes[k].shape == ("H",) and bool(needs[k]) for k in graph.outputs]
    if fit != [True] * len(graph.states):
        raise CellError(f"illegal graph: states {graph.states} need one value (H,) each that depends on x or a state")


def _fault(nodes: tuple[Node, ...], position: int, needs: list[frozenset[str]]) -> str | None:
    node = nodes[position]
    shapes = [nodes[arg].shape for arg in node.args]
    if node.op in LEAVES:
        return None if node.shape in LEAVES[node.op] and not node.args else f"a leaf of shape {node.shape}"
    if node.op == "product":
        left, right = (nodes[arg] for arg in node.args)
        legal = not needs[node.args[0]] and left.shape == ("H", *right.shape) and len(left.shape) == 2
        return None if legal and needs[node.args[1]] and node.shape == ("H",) else f"a product of {shapes}"
    if node.op in MATRIX:
        legal = not needs[position] and shapes == [("H", "H")] and node.shape == ("H", "H")
        return None if legal else f"a matrix operation on {shapes} that gives {node.shape}"
    if node.op not in POINTWISE:
        return f"unknown operation; known: {', '.join(POINTWISE)}"
    if len(shapes) != POINTWISE[node.op]:
        return f"{len(shapes)} arguments instead of {POINTWISE[node.op]}"
    if any(shape not in ((), node.shape) for shape in shapes) or node.shape not in ((), *shapes):
        return f"a pointwise operation on {shapes} that gives {node.shape}"
    if node.shape not in (max(shapes, key=len), ("H",)) or (len(node.shape) == 2 and needs[position]):
        return f"a pointwise operation on {shapes} that gives {node.shape}"
    return None
