"""Resolve a trace into a graph: states, parameters and their shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cello.cells.graph import LEAVES, MATRIX, POINTWISE, Graph, GraphBuilder, Node, Shape, reached
from cello.cells.signature import Signature
from cello.cells.symbol import METHODS, Argument, Symbol
from cello.cells.trace import Tracer, said

PLAIN = {
    ("H", "D"): "a matrix for the frame, (H, D)",
    ("H", "H"): "a matrix for the hidden vector, (H, H)",
    ("H",): "a vector, (H,)",
    (): "a single number",
}

INPUT_NAMES = frozenset(
    [
        "dt",
        "d_t",
        "delta",
        "deltas",
        "delta_t",
        "elapsed",
        "gap",
        "gaps",
        "interval",
        "m",
        "mask",
        "missing",
        "observed",
    ]
) | {"t", "time", "time_gap", "times", "timestamp"}
"""What people call inputs that a cell cannot take beside its frame."""


@dataclass(frozen=True)
class Traced:
    """One traced call of a cell function: arguments, returned values and variables at the end."""

    tracer: Tracer
    signature: Signature
    returned: tuple[Any, ...]
    variables: dict[str, object]

    @property
    def arguments(self) -> tuple[str, ...]:
        return self.signature.arguments

    @property
    def scalars(self) -> frozenset[str]:
        return self.signature.scalars


def resolve(traced: Traced) -> Graph:
    """Resolve a trace into the cell's graph.

    Raises:
        CellError: the equations are outside the language; the cell, the line and what to write instead.
    """
    states = _states(traced)
    _check_variables(traced, states)
    outputs = tuple(_returned(traced, states, k) for k in range(len(states)))
    _check_groups(traced, states, outputs)
    shapes = _Shapes(traced, states)
    nodes = shapes.nodes()
    for state, output in zip(states, outputs, strict=True):
        _check_output(traced, state, nodes[output], shapes.moving[output])
    _check_used(traced, states, nodes, outputs)
    return GraphBuilder(nodes).graph(states, outputs)


def read_transposes(tracer: Tracer, states: tuple[str, ...]) -> None:
    """Read ``V.T`` as the transpose of V where V is used by itself too; alone it is a parameter of the group V."""
    records = tracer.records
    used = {arg for record in records for arg in record.args}
    bare = {record.name: k for k, record in enumerate(records) if record.op == "argument" and k in used}
    for k, record in enumerate(records):
        group, _, member = str(record.name).partition(".")
        if record.op == "parameter" and member == "T" and group in bare and group not in states:
            records[k] = Node("transpose", (bare[group],), record.shape, None, None, record.line)


def _states(traced: Traced) -> tuple[str, ...]:
    names, count = traced.arguments[1:], len(traced.returned)
    if count == 0:
        raise traced.tracer.error(
            "nothing is returned", "End the function with the new states, such as return h", traced.tracer.last_line()
        )
    if count > len(names):
        raise traced.tracer.error(
            f"{count} values are returned, but only {len(names)} arguments follow {traced.arguments[0]}",
            "Return one value for each state; the states are the arguments after the frame, in the same order",
            traced.tracer.last_line(),
        )
    if inputs := _second_inputs(traced, names[:count]):
        said = ", ".join(inputs)
        raise traced.tracer.error(
            f"{said} {'is a second input' if len(inputs) == 1 else 'are further inputs'}: a cell takes one input, "
            f"{traced.arguments[0]}, and the arguments after it are its states and parameters",
            f"Append {said} to the frames, as more elements of {traced.arguments[0]}, or return a new value for what "
            f"is a state",
            traced.tracer.code.co_firstlineno,
        )
    _check_further_outputs(traced, names[:count])
    for name in (traced.arguments[0], *names[:count]):
        if name in traced.scalars:
            kind = "the frame" if name == traced.arguments[0] else "a state"
            raise traced.tracer.error(
                f"{name} is {kind}, but annotated Scalar", "Only parameters can be scalars; remove the annotation"
            )
    return names[:count]


def _check_further_outputs(traced: Traced, states: tuple[str, ...]) -> None:
    """No argument that is used as a matrix or a group counts as a state, because an output has no argument."""
    tracer = traced.tracer
    matrices = {tracer.records[record.args[0]].name for record in tracer.records if record.op == "product"}
    groups = {str(record.name).split(".")[0] for record in tracer.records if record.op == "parameter"}
    variables = traced.variables.items()
    values = {v._cello_position: n for n, v in variables if isinstance(v, Symbol) and not isinstance(v, Argument)}
    found = [values.get(v._cello_position) if isinstance(v, Symbol) else None for v in traced.returned]
    taken = next((name for name in states if name in matrices | groups and name not in values.values()), None)
    if taken is None or states.index(taken) == 0 or {*found} <= {*traced.arguments}:
        return
    wanted: list[str] = []
    fresh = (name for name in ("y", *(f"y_{k}" for k in range(2, len(found) + 2))) if name not in traced.arguments)
    for name in found:
        wanted.append(
            name if name and name not in wanted else next(one for one in fresh if one not in (*wanted, *found))
        )
    rest = [name for name in traced.arguments[1:] if name not in wanted]
    raise tracer.error(
        f"{len(found)} values are returned, so {taken} counts as a state, but it is used as "
        f"{'a group of parameters' if taken in groups else 'a matrix'}",
        f"Every returned value has an argument, an output that is not fed back too: "
        f"def {tracer.code.co_name}({', '.join([traced.arguments[0], *wanted, *rest])})",
        tracer.last_line(),
    )


def _second_inputs(traced: Traced, states: tuple[str, ...]) -> tuple[str, ...]:
    """The arguments that were meant as inputs beside the frame, such as a time gap or a mask; none in a legal cell.

    They show where what is returned are the states after them, by name; or where an argument that counts as a
    parameter is treated as a state, and is h or stands after one that is called as such inputs are.
    """
    names, count, tracer = traced.arguments[1:], len(states), traced.tracer
    variables = traced.variables.items()
    given_anew = {name for name, v in variables if isinstance(v, Symbol) and not isinstance(v, Argument)}
    found = [_name_of(traced, value) for value in traced.returned]
    for shift in range(1, len(names) - count + 1):
        if found == [*names[shift : shift + count]] and not given_anew & {*names[:shift]} and "h" not in names[:shift]:
            return names[:shift]
    vectors = {tracer.records[record.args[1]].name for record in tracer.records if record.op == "product"}
    acting = [name for name in names[count:] if name in given_anew or name in vectors]
    before = names[: names.index("h")] if "h" in acting else ()
    if before and not given_anew & {*before}:
        return before
    return tuple(name for name in (*states, *acting) if name in INPUT_NAMES and name not in given_anew and acting)


def _name_of(traced: Traced, value: Any) -> str | None:
    if not isinstance(value, Symbol) or value._cello_tracer is not traced.tracer:
        return None
    return traced.tracer.records[value._cello_position].name


def _returned(traced: Traced, states: tuple[str, ...], number: int) -> int:
    """The position of a new state."""
    value, state, tracer = traced.returned[number], states[number], traced.tracer
    if not isinstance(value, Symbol):
        shown = f"{value!r}, " if isinstance(value, int | float | str) else ""
        raise tracer.error(
            f"the new {state} is {shown}{said(value)}",
            f"Return a value of the equations as the new {state}",
            tracer.last_line(),
        )
    if value._cello_tracer is not tracer:
        raise tracer.error(
            f"the new {state} is a value of another call, of cell {value._cello_tracer.cell!r}",
            "Take every value from the arguments of the function, and keep none outside it",
            tracer.last_line(),
        )
    position = value._cello_position
    record, own = tracer.records[position], traced.variables.get(state)
    held = isinstance(own, Symbol) and own._cello_position == position
    if record.op not in ("argument", "input") and record.name in states and record.name != state and not held:
        raise tracer.error(
            f"{record.name} is returned where the new {state} is expected",
            f"Return the states in the order of the arguments: return {', '.join(states)}",
            record.line,
        )
    return position


def _check_groups(traced: Traced, states: tuple[str, ...], outputs: tuple[int, ...]) -> None:
    """No parameter is both a value and a group of them: W @ x beside W.T @ h is more likely a slip than a wish."""
    records = traced.tracer.records
    groups = {str(record.name).split(".")[0]: record for record in records if record.op == "parameter"}
    uses = [(arg, record.line) for record in records for arg in record.args]
    uses += [(output, traced.tracer.last_line()) for output in outputs]
    for arg, line in uses:
        name = str(records[arg].name)
        if records[arg].op == "argument" and name in groups and name not in states:
            member = groups[name]
            raise traced.tracer.error(
                f"parameter {name} is used both by itself and as a group, with {member.name} (line {member.line})",
                f"Give each use its member, such as {name}.a and {name}.b",
                line,
            )


def _check_variables(traced: Traced, states: tuple[str, ...]) -> None:
    for name in traced.arguments[1 + len(states) :]:
        value = traced.variables.get(name)
        if isinstance(value, Symbol) and not isinstance(value, Argument):
            line = traced.tracer.records[value._cello_position].line
            raise traced.tracer.error(
                f"{name} is given a new value but not returned, so {name} counts as a parameter",
                f"Return {', '.join([*states, name])} if {name} is a state, or use another name for the value",
                line,
            )


def _check_output(traced: Traced, state: str, node: Node, moves: bool) -> None:
    if node.shape != ("H",) or not moves:
        kinds = {("D",): "the frame, (D,)", (): "a single number"}
        raise traced.tracer.error(
            f"the new {state} is {kinds.get(node.shape, 'the same at every step')}, but a state is (H,) and changes",
            "Return a value that comes from W @ x or from a state",
            traced.tracer.last_line() if node.op in LEAVES else node.line,
        )


def _check_used(traced: Traced, states: tuple[str, ...], nodes: list[Node], outputs: tuple[int, ...]) -> None:
    live = reached(tuple(nodes), outputs)
    used = {nodes[position].name for position in live if nodes[position].op in ("input", "state", "parameter")}
    for node in nodes:
        if node.op == "parameter" and node.name not in used and "." in str(node.name):
            raise traced.tracer.error(
                f"{node.name} does not reach a returned value", "Use what is computed from it, or remove it", node.line
            )
    groups = {str(name).split(".")[0] for name in used}
    for name in traced.arguments:
        if name not in groups and name != states[0]:
            kind = "the frame" if name == traced.arguments[0] else "a state" if name in states else "a parameter"
            raise traced.tracer.error(
                f"{name}, {kind}, does not reach a returned value",
                f"Use {name} in the equations, or remove it from the arguments",
                traced.tracer.code.co_firstlineno,
            )
    if not used & set(states):
        raise traced.tracer.error(
            f"no returned value depends on {states[0]}, so the cell has no memory",
            f"Use {states[0]} in the equations, such as U @ {states[0]}",
            traced.tracer.code.co_firstlineno,
        )


class _Shapes:
    """Infers what each record is and its shape; a parameter's shape is what its first use needs."""

    def __init__(self, traced: Traced, states: tuple[str, ...]) -> None:
        self.tracer = traced.tracer
        self.states = states
        self.scalars = traced.scalars
        self.kinds = [self._kind(record) for record in self.tracer.records]
        self.shapes: list[Shape | None] = [None] * len(self.kinds)
        self.moving: list[bool] = []
        self.first_use: dict[int, int] = {}
        self.wanted = self._matrices()

    def _matrices(self) -> dict[int, Shape]:
        """The values that products take as matrices, down to the parameters they are made of, and their shapes."""
        records, found = self.tracer.records, dict[int, Shape]()
        static = [kind not in ("input", "state") for kind in self.kinds]
        for position, record in enumerate(records):
            static[position] = static[position] and all(static[arg] for arg in record.args)
        for record in records:
            if record.op != "product" or not static[record.args[0]] or static[record.args[1]]:
                continue
            todo = [(record.args[0], ("H", "D" if self.kinds[record.args[1]] == "input" else "H"))]
            while todo:
                at, shape = todo.pop()
                if found.setdefault(at, shape) == shape and self.kinds[at] in (*POINTWISE, *MATRIX):
                    todo += [(arg, shape) for arg in records[at].args]
        return found

    def nodes(self) -> list[Node]:
        for position, record in enumerate(self.tracer.records):
            self.moving.append(
                self.kinds[position] in ("input", "state") or any(self.moving[arg] for arg in record.args)
            )
            self.shapes[position] = self._shape(record, position)
        return [
            Node(kind, record.args, shape if shape is not None else ("H",), record.name, record.value, record.line)
            for kind, record, shape in zip(self.kinds, self.tracer.records, self.shapes, strict=True)
        ]

    def _kind(self, record: Node) -> str:
        if record.op == "argument":
            return "state" if record.name in self.states else "parameter"
        if record.op == "parameter":
            group, member = str(record.name).split(".")
            if group in self.states and (member == "T" or member in METHODS):
                vector = f"Write u * v for a product unit by unit, W @ {group} with a parameter W"
                raise self.tracer.error(
                    f"{group}.{member} is asked for, but {group} is a state, which is a vector, (H,)",
                    vector if member == "T" else METHODS[member].format(v=group),
                    record.line,
                )
            if group in self.states:
                raise self.tracer.error(
                    f"{group}.{member} is asked for, but {group} is a state, because {len(self.states)} values are "
                    f"returned and the states are the first {len(self.states)} arguments after the frame",
                    "Return one value for each state, and put the states before the parameters",
                    record.line,
                )
        return record.op

    def _shape(self, record: Node, position: int) -> Shape | None:
        kind = self.kinds[position]
        if kind == "parameter":
            return () if str(record.name).split(".")[0] in self.scalars else None
        if kind in ("input", "state", "constant"):
            return {"input": ("D",), "state": ("H",), "constant": ()}[kind]
        if kind == "product":
            return self._product(record)
        matrix = self.wanted.get(position)
        if kind in MATRIX or (matrix is not None and not self._is_number(position)):
            return self._matrix(record, matrix)
        return self._pointwise(record)

    def _is_number(self, position: int) -> bool:
        """Whether a value is made of numbers and scalar parameters alone."""
        kind = self.kinds[position]
        if kind in ("constant", "parameter"):
            return kind == "constant" or self.shapes[position] == ()
        return all(map(self._is_number, self.tracer.records[position].args))

    def _matrix(self, record: Node, shape: Shape | None) -> Shape:
        """The shape of a matrix that is computed from others before the first step."""
        said = [self._say(arg) for arg in record.args]
        if any(self.moving[arg] for arg in record.args):
            raise self.tracer.error(
                f"the {record.op} of {said[0]} is taken, but {said[0]} changes from step to step: it is a vector",
                f"Write u * v for a product unit by unit, W @ {said[0]} with a parameter W",
                record.line,
            )
        if shape is None or (record.op in MATRIX and shape != ("H", "H")):
            where = "but no vector is multiplied by it" if shape is None else "which would be (H, D), not square"
            raise self.tracer.error(
                f"the {record.op} of {said[0]} is taken, {where}",
                "Multiply a hidden vector with it, as in V.T @ h, with a square matrix V",
                record.line,
            )
        for arg in record.args:
            if self.kinds[arg] == "parameter" and self.shapes[arg] != ():
                self._use(arg, shape, record.line)
            elif self.shapes[arg] not in ((), shape):
                raise self.tracer.error(
                    f"{self._say(arg)} is {PLAIN[self.shapes[arg] or ('H',)]}, in a matrix {PLAIN[shape]}",
                    "Combine matrices with matrices of the same shape, numbers and Scalar parameters",
                    record.line,
                )
        return shape

    def _say(self, position: int) -> str:
        return self.tracer.say(position)

    def _product(self, record: Node) -> Shape:
        left, right = record.args
        a, b = self._say(left), self._say(right)
        if self.moving[left]:
            if self.kinds[right] == "parameter":
                raise self.tracer.error(
                    f"{a} @ {b}: the vector is to the left of the matrix", f"Write {b} @ {a}", record.line
                )
            raise self.tracer.error(
                f"{a} @ {b}: neither factor is a parameter",
                f"Write {a} * {b} for the product unit by unit, or W @ {b} with a parameter W",
                record.line,
            )
        if not self.moving[right]:
            if self.tracer.records[right].op == "argument":
                raise self.tracer.error(
                    f"{a} @ {b}: {b} counts as a parameter, because it is not returned",
                    f"Return {', '.join([*self.states, b])} if {b} is a state; for a product of matrices write "
                    f"{a} @ ({b} @ v)",
                    record.line,
                )
            raise self.tracer.error(
                f"{a} @ {b}: neither depends on the frame or on a state",
                "Multiply a parameter with a vector that changes from step to step; for a product of matrices write "
                "W @ (U @ v)",
                record.line,
            )
        for one in (right, left):
            if self.shapes[one] == () and (one == right or self.kinds[left] != "parameter"):
                raise self.tracer.error(
                    f"{a} @ {b}: {self._say(one)} is a single number", f"Write {a} * {b}", record.line
                )
        self._use(left, ("H", *(self.shapes[right] or ("H",))), record.line)
        return ("H",)

    def _pointwise(self, record: Node) -> Shape:
        shapes = []
        for arg in record.args:
            if self.kinds[arg] == "parameter" and self.shapes[arg] != ():
                self._use(arg, ("H",), record.line)
            if self.shapes[arg] == ("D",):
                frame = self._say(arg)
                raise self.tracer.error(
                    f"{record.op} is taken of the frame {frame}, which is (D,), where values are (H,)",
                    f"Bring it to the hidden width by a parameter first: W @ {frame}",
                    record.line,
                )
            if len(self.shapes[arg] or ()) == 2:
                raise self.tracer.error(
                    f"{record.op} is taken of the matrix {self._say(arg)}, beside a vector or for one",
                    f"Multiply a vector with it: {self._say(arg)} @ v",
                    record.line,
                )
            shapes.append(self.shapes[arg] or ())
        return max(shapes, key=len)

    def _use(self, position: int, shape: Shape, line: int) -> None:
        """Give a parameter the shape this use needs, or say that an earlier use needed another."""
        known = self.shapes[position]
        if known is None:
            self.shapes[position] = shape
            self.first_use[position] = line
        elif known != shape:
            name = self._say(position)
            first, group = self.first_use.get(position), name.split(".")[0]
            before, remedy = f"line {first} uses it as", f"Use two parameters, such as {group}.a and {group}.b"
            if first is None:
                before, remedy = "it is declared as", f"Write {name} * v for a single number, or remove Scalar"
            raise self.tracer.error(
                f"parameter {name} is used here as {PLAIN[shape]}, but {before} {PLAIN[known]}", remedy, line
            )
