"""Convert a cell to pure data and back, for stores and workers without its Python file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from cello.cells.definition import Cell
from cello.cells.graph import APPLY, LEAVES, MATRIX, POINTWISE, RESHAPING, Graph, Node, Shape, check
from cello.cells.paper import Paper
from cello.cells.sizes import is_size
from cello.cells.trace import LONGEST_CHAIN, MOST_OPERATIONS
from cello.cells.values import (
    FIRST,
    FIXED,
    LARGEST_SEED,
    LEARNED,
    STATE,
    VALUE_LEAVES,
    VALUE_OPERATIONS,
    Declared,
    faults_of,
    fingerprint,
)
from cello.errors import CellError

LONGEST_NAME = 1000
LONGEST_TEXT = 100_000
"""The most letters of a name and of a cell's documentation: far above any that people write."""


class StoredCell(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cell without its Python function, enough to train, count and render it."""

    name: str
    doc: str = ""
    reference: str = ""
    paper: Paper | None = None
    arguments: tuple[str, ...]
    graph: Graph
    declared: tuple[Declared, ...] = ()
    parts: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, cell: Cell) -> StoredCell:
        """Convert a cell to data."""
        nodes = tuple(node if _may_keep(node) else replace(node, name=None) for node in cell.graph.nodes)
        return cls(
            name=cell.name,
            doc=cell.doc[:LONGEST_TEXT],
            reference=cell.reference[:LONGEST_TEXT],
            paper=cell.paper,
            arguments=cell.arguments,
            graph=replace(cell.graph, nodes=nodes),
            declared=cell.declared,
            parts=cell.parts,
        )

    def fingerprint(self) -> str:
        """The cell's."""
        return fingerprint(self.graph, self.declared, self.parts)

    def cell(self) -> Cell:
        """Convert data to a cell after checking its names, its graph and its size.

        Raises:
            CellError: what is wrong with it; it was damaged, or written by hand.
        """
        fault = next(self._faults(), None)
        if fault is not None:
            raise CellError(f"stored cell {self.name[:40]!r} is damaged: {fault}. Load the cell from its file again.")
        check(self.graph)
        return Cell(
            name=self.name,
            doc=self.doc,
            reference=self.reference,
            arguments=self.arguments,
            graph=self.graph,
            function=_Absent(self.name),
            paper=self.paper,
            declared=self.declared,
            parts=self.parts,
        )

    def _faults(self) -> Iterator[str]:
        graph = self.graph
        if not _is_name(self.name.replace("-", "_")):
            yield "its name is not one of a function"
        if max(len(self.doc), len(self.reference), len(self.paper.text) if self.paper else 0) > LONGEST_TEXT:
            yield f"its documentation has more than {LONGEST_TEXT:,} letters"
        if not 0 < len(graph.nodes) <= MOST_OPERATIONS:
            yield f"it has {len(graph.nodes):,} operations, not 1 to {MOST_OPERATIONS:,}"
        if len(set(self.arguments)) < len(self.arguments) or not all(map(_is_name, self.arguments)):
            yield "its arguments are not different names"
        if not graph.states or self.arguments[1 : 1 + len(graph.states)] != graph.states:
            yield f"its states {graph.states} are not the arguments after the frame"
        if fault := _fault_of_parts(self.parts):
            yield fault
        yield from _faults_of_nodes(self)
        yield from _faults_of_declared(self)


def _fault_of_parts(parts: tuple[tuple[str, str], ...]) -> str:
    names = [name for name, _ in parts]
    if len(parts) > MOST_OPERATIONS or len({*names}) < len(names) or not all(map(_is_name, names)):
        return "the parts of its frame are not different names"
    wrong = next((size for _, size in parts if not is_size(size) or "H" in size), None)
    return "" if wrong is None else f"a part of its frame has the size {wrong[:40]!r}"


class _Absent:
    """Stands in for the function of a cell loaded from data."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *arguments: Any) -> Any:
        raise CellError(
            f"cell {self.name!r} came from a store, with its equations but without its Python function. "
            f"Load it from its file to call it."
        )


def _is_name(name: str) -> bool:
    return len(name) <= LONGEST_NAME and name.isidentifier()


def _is_member(name: str) -> bool:
    return name.count(".") < 2 and all(map(_is_name, name.split(".")))


def _may_keep(node: Node) -> bool:
    """Whether the node's name means something, or is a variable that readers of the equations know it by."""
    return node.op in LEAVES or node.name is None or _is_name(node.name)


def _faults_of_nodes(cell: StoredCell) -> Iterator[str]:
    """What :func:`check` takes for granted, because tracing writes nothing else."""
    depths: list[int] = []
    groups: dict[str, bool] = {}
    for position, node in enumerate(cell.graph.nodes):
        where = f"node {position}, {node.op[:40]}"
        arity = _arity(node)
        if arity is None:
            yield f"{where}: no equation has such an operation"
            return
        if any(not 0 <= arg < position for arg in node.args) or len(node.args) != arity:
            yield f"{where}: its arguments are not {arity} earlier nodes"
            return
        depths.append(1 + max(depths[arg] for arg in node.args) if node.args else 0)
        if depths[-1] > LONGEST_CHAIN:
            yield f"{where}: more than {LONGEST_CHAIN:,} operations follow on one another"
        if (node.op == "constant") != (node.value is not None):
            yield f"{where}: only a constant has a value, and each has one"
        if node.value is not None and not abs(node.value) < float("inf"):
            yield f"{where}: its value is not a finite number"
        if not _legal_name(cell, node):
            yield f"{where}: {str(node.name)[:40]!r} is not a name that it may have"
        if node.op == "parameter":
            group, _, member = str(node.name).partition(".")
            if groups.setdefault(group, bool(member)) != bool(member):
                yield f"{where}: {group} is both a parameter and a group of them"


def _faults_of_declared(cell: StoredCell) -> Iterator[str]:
    shapes = {str(node.name): node.shape for node in cell.graph.nodes if node.op == "parameter"}
    if len({one.name for one in cell.declared}) < len(cell.declared) or len(cell.declared) > MOST_OPERATIONS:
        yield "something is declared twice"
        return
    for one in cell.declared:
        where = f"the declared {one.name[:40]!r}"
        if one.shape != _declared_shape(cell, one, shapes):
            yield f"{where}: it is no {one.kind[:40]} value of these equations"
            return
        if one.seed is not None and (one.kind == LEARNED or not 0 <= one.seed <= LARGEST_SEED):
            yield f"{where}: its seed is {one.seed}"
            return
        if len(one.nodes) > MOST_OPERATIONS or (not one.nodes and not one.bounded):
            yield f"{where}: it has {len(one.nodes):,} operations"
            return
        for position, node in enumerate(one.nodes):
            arity = 0 if node.op in VALUE_LEAVES else VALUE_OPERATIONS.get(node.op)
            if arity is None or len(node.args) != arity or any(not 0 <= arg < position for arg in node.args):
                yield f"{where}: node {position} is no operation of a declared value"
                return
            if not _legal_value(node):
                yield f"{where}: node {position} has a name or a number that it may not have"
                return
        for fault in faults_of(one):
            yield f"{where}: it {fault}"


def _declared_shape(cell: StoredCell, one: Declared, shapes: Mapping[str, Shape]) -> Shape | None:
    """The shape that a declared value has to have; None where the cell has nothing of its name and kind."""
    state = one.name.removesuffix(FIRST) if one.kind == LEARNED else one.name
    if one.kind in (LEARNED, FIXED) and one.name in shapes:
        return shapes[one.name]
    is_first = one.kind == STATE or (one.kind == LEARNED and one.name.endswith(FIRST) and not one.bounded)
    places = dict(zip(cell.graph.states, cell.graph.outputs, strict=False))
    at = places.get(state, -1) if is_first else -1
    return cell.graph.nodes[at].shape if 0 <= at < len(cell.graph.nodes) else None


def _legal_value(node: Node) -> bool:
    names = {"size": ("D", "H"), "index": ("i", "j")}.get(node.op, (None,))
    numbered = node.op in ("constant", "uniform", "normal")
    return node.name in names and (node.value is not None) == numbered and abs(node.value or 0.0) < float("inf")


def _arity(node: Node) -> int | None:
    if node.op in LEAVES:
        return None if node.op == "mask" else 0  # only noise has masks
    return 2 if node.op in ("product", APPLY) else {**POINTWISE, **MATRIX, **RESHAPING}.get(node.op)


def _legal_input(cell: StoredCell, node: Node) -> bool:
    """Whether it is the frame, of D elements, or one of its parts."""
    frame = cell.arguments[0]
    known = {frame: "D", **{f"{frame}.{part}": size for part, size in cell.parts}}
    return node.name in known and node.shape == (known[node.name],)


def _legal_name(cell: StoredCell, node: Node) -> bool:
    if node.op == "size":
        return node.name is not None and is_size(node.name)
    if node.op == "input":
        return _legal_input(cell, node)
    if node.op == "state":
        return node.name in cell.graph.states
    if node.op == "parameter":
        name = str(node.name)
        return _is_member(name) and name.split(".", maxsplit=1)[0] in cell.arguments[1 + len(cell.graph.states) :]
    return node.name is None or _is_name(node.name)
