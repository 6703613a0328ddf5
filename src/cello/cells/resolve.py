"""Resolve a trace into a graph: states, parameters and their shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

from cello.cells.graph import LEAVES, Graph, GraphBuilder, Node, Shape, reached
from cello.cells.kinds import Kind, Kinds, no_product
from cello.cells.signature import Signature
from cello.cells.sizes import UNITS
from cello.cells.symbol import Argument, Symbol
from cello.cells.trace import Tracer, said
from cello.cells.unify import Unifier, count
from cello.cells.write import write_nodes

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
        *("t", "time", "time_gap", "times", "timestamp"),
    ]
)
MASKS = frozenset(["m", "mask", "missing", "observed"])
"""What people call inputs that a cell cannot take beside its frame, and those of them that are as wide as it."""


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
    _check_sized(traced, states)
    declared = frozenset({*traced.signature.annotations, *traced.signature.sizes})
    kinds = Kinds(
        traced.tracer,
        states,
        traced.scalars,
        traced.signature.sizes,
        declared,
        traced.signature.by_index("i"),
        traced.signature.by_index("j"),
    )
    parts = {f"{traced.arguments[0]}.{part}": size for part, size in traced.signature.parts}
    for state, output in zip(states, outputs, strict=True):
        _check_kind(kinds, state, output)
    shapes = Unifier(kinds, parts, outputs).shapes()
    for state, output in zip(states, outputs, strict=True):
        _check_output(kinds, state, output, shapes[output])
    builder = GraphBuilder()
    place = write_nodes(builder, kinds, shapes)
    outputs = tuple(place[output] for output in outputs)
    _check_used(traced, states, builder.nodes, outputs)
    return builder.graph(states, outputs)


def read_transposes(tracer: Tracer, states: tuple[str, ...], sizes: Mapping[str, Shape], declared: Set[str]) -> None:
    """Read ``V.T`` as the transpose of V where V is used by itself too; alone it is a parameter of the group V.

    A state with heads has a transpose too, and so has what is ``declared`` by an annotation and has no other member.
    """
    records = tracer.records
    used = {arg for record in records for arg in record.args}
    arguments = {record.name: k for k, record in enumerate(records) if record.op == "argument"}
    bare = {name: k for name, k in arguments.items() if k in used}
    members = Counter(str(record.name).partition(".")[0] for record in records if record.op == "parameter")
    for k, record in enumerate(records):
        group, _, member = str(record.name).partition(".")
        if record.op != "parameter" or member != "T":
            continue
        alone = group in declared and members[group] == 1
        if (len(sizes.get(group, ())) == 2 if group in states else alone) and group not in bare:
            bare[group] = arguments[group]
        if group in bare and (group not in states or len(sizes.get(group, ())) == 2):
            records[k] = Node("transpose", (bare[group],), record.shape, None, None, record.line)


def _states(traced: Traced) -> tuple[str, ...]:
    names, count = traced.arguments[1:], len(traced.returned)
    if count == 1 and isinstance(traced.returned[0], dict | set):
        raise traced.tracer.error(
            f"{said(traced.returned[0])} is returned",
            "Return the new states themselves, in the order of the arguments, as in return h, c",
            traced.tracer.last_line(),
        )
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
        listed = ", ".join(inputs)
        raise traced.tracer.error(
            f"{listed} {'is a second input' if len(inputs) == 1 else 'are further inputs'}: a cell takes one input, "
            f"{traced.arguments[0]}, and the arguments after it are its states and parameters",
            f"Append {listed} to the frames, as parts of {traced.arguments[0]}, such as {traced.arguments[0]}: "
            f"{_parts(inputs)}, or return a new value for what is a state",
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
    matrices -= {name for name, shape in traced.signature.sizes.items() if len(shape) == 2}
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
    return tuple(
        name for name in (*states, *acting) if name in INPUT_NAMES | MASKS and name not in given_anew and acting
    )


def _parts(inputs: tuple[str, ...]) -> str:
    """An annotation of a frame that holds these inputs besides its values: masks as wide as they, and numbers."""
    shown = [f'"{name}"' for name in ("value", *inputs) if name in {"value", *MASKS}]
    shown += [f"{name}=1" for name in inputs if name not in MASKS]
    return f"Parts({', '.join(shown)})"


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
            "Return the states one by one, as in return h, c"
            if isinstance(value, tuple | list)
            else f"Return a value of the equations as the new {state}",
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


def _check_sized(traced: Traced, states: tuple[str, ...]) -> None:
    """Every annotated size belongs to a state or to a parameter that the equations use."""
    used = {str(record.name) for record in traced.tracer.records if record.op in ("argument", "parameter")}
    for name in traced.signature.sizes:
        group, _, member = name.partition(".")
        if member and group in states:
            raise traced.tracer.error(
                f"{group} is a state, but its annotation has the member {member}",
                f'Write {group}: Size("H/2") or {group}: Heads(4) for the state itself',
                traced.tracer.code.co_firstlineno,
            )
        if member and name not in used:
            members = ", ".join(sorted(one for one in used if one.startswith(f"{group}."))) or "none"
            raise traced.tracer.error(
                f"the annotation of {group} names {name}, which the equations do not use; they use {members}",
                "Name members that the equations use",
                traced.tracer.code.co_firstlineno,
            )
    if len(traced.signature.sizes.get(states[0], ())) == 2:
        raise traced.tracer.error(
            f"{states[0]} is annotated Heads, but it is the output, which is a vector",
            "Return a vector first, such as what is read of the matrices, S @ q",
            traced.tracer.code.co_firstlineno,
        )


def _check_kind(kinds: Kinds, state: str, output: int) -> None:
    """A new state is a vector, or the matrices of heads, and changes."""
    wanted = Kind.HEADS if len(kinds.sizes.get(state, ())) == 2 else Kind.VECTOR
    op, found = kinds.ops[output], kinds[output]
    line = kinds.tracer.last_line() if op in LEAVES else kinds.records[output].line
    if op == "input" and "." not in str(kinds.records[output].name) and kinds.sizes.get(state, (UNITS,)) == (UNITS,):
        raise kinds.tracer.error(
            f"the new {state} is the frame, (D,), but a state is (H,) and changes",
            "Return a value that comes from W @ x or from a state",
            line,
        )
    if found is Kind.NUMBER or not kinds.moving[output]:
        what = "the same at every step" if not kinds.moving[output] and found is not Kind.NUMBER else found.value
        raise kinds.tracer.error(
            f"the new {state} is {what}, but a state is (H,) and changes",
            "Return a value that comes from W @ x or from a state",
            line,
        )
    if op == "transpose":
        raise kinds.tracer.error(*no_product(kinds.say(kinds.records[output].args[0])), line)
    if found is not wanted:
        fact, remedy = f"the new {state} is {found.value}, but {state} is {wanted.value}", f"Write {state}: Heads(4)"
        if wanted is Kind.HEADS:
            remedy = f"Return outer(v, k) or {state} itself, or remove Heads"
        elif state == kinds.states[0]:
            fact = f"the new {state} is {found.value}, but {state} is the output, which is a vector"
            remedy = "Return a vector first, such as what is read of the matrices of a state S: Heads(4), S @ q"
        raise kinds.tracer.error(fact, remedy, line)


def _check_output(kinds: Kinds, state: str, output: int, shape: Shape) -> None:
    """A new state has the size of the old one."""
    wanted = kinds.sizes.get(state, (UNITS,))
    if shape == wanted:
        return
    line = kinds.tracer.last_line() if kinds.ops[output] in LEAVES else kinds.records[output].line
    if len(wanted) == 2:
        raise kinds.tracer.error(
            f"the new {state} is ({', '.join(shape)}), but {state} is ({', '.join(wanted)})",
            "Give both the same number of heads",
            line,
        )
    text = shape[0] if shape[0].isdigit() else f'"{shape[0]}"'
    raise kinds.tracer.error(
        f"the new {state} has {count(shape[0])}, but {state} has {wanted[0]}",
        f"Bring it to the size of {state} by a matrix, such as P @ v, or write {state}: Size({text})",
        line,
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
    _check_parts(traced, {str(name) for name in used})
    if not used & set(states):
        raise traced.tracer.error(
            f"no returned value depends on {states[0]}, so the cell has no memory",
            f"Use {states[0]} in the equations, such as U @ {states[0]}",
            traced.tracer.code.co_firstlineno,
        )


def _check_parts(traced: Traced, used: set[str]) -> None:
    """Every part of the frame is used, but those whose names begin with _: elements that a corpus has besides."""
    frame = traced.arguments[0]
    if frame in used:
        return
    for part, _ in traced.signature.parts:
        if f"{frame}.{part}" not in used and not part.startswith("_"):
            raise traced.tracer.error(
                f"the part {frame}.{part} does not reach a returned value",
                f"Use {frame}.{part} in the equations, or call it _{part} if frames have it and the cell ignores it",
                traced.tracer.code.co_firstlineno,
            )
