"""Define cells from their equations: the ``@cell`` decorator and the ``Cell`` record."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any, overload

from cello.cells.faults import (
    changed,
    fault_in_function,
    no_plain_function,
    warn_of_chains,
    warn_of_unchanged,
    warn_of_unused,
)
from cello.cells.graph import RESHAPING, Graph, Node, Shape
from cello.cells.interpret import interpret
from cello.cells.paper import Paper
from cello.cells.resolve import Traced, read_transposes, resolve
from cello.cells.signature import declared_by, signature_of
from cello.cells.sizes import multiple, size
from cello.cells.symbol import Argument, Symbol
from cello.cells.trace import RUNNING, Tracer
from cello.cells.values import FIRST, FIXED, STATE, Declared, Floats, fingerprint
from cello.errors import CellError


@dataclass(frozen=True, eq=False, kw_only=True)
class Cell:
    """A recurrent cell: its name, its paper, its states (the first is its output) and the graph of one step.

    ``arguments`` are the function's: the frame, the states, the parameter groups. ``declared`` is what the signature
    says of first values, bounds, fixed tensors and first states, ``parts`` the names and sizes into which it divides
    the frame, if it does. Calling a cell calls its function, on numbers or tensors, for one example and one step.

    A cell is pickled as data, its graph, and never as code: what comes back computes the same and has no ``function``.
    """

    name: str
    doc: str
    reference: str
    arguments: tuple[str, ...]
    graph: Graph
    function: Callable[..., Any] | None = field(default=None, repr=False)
    paper: Paper | None = None
    declared: tuple[Declared, ...] = ()
    parts: tuple[tuple[str, str], ...] = ()

    @property
    def states(self) -> tuple[str, ...]:
        """The names of the states, S of them; the first is the cell's output."""
        return self.graph.states

    @property
    def output(self) -> str:
        """The name of the state that the next layer sees."""
        return self.graph.states[0]

    @property
    def title(self) -> str:
        """The first line of the documentation."""
        return self.doc.split("\n", 1)[0]

    @property
    def gates(self) -> tuple[str, ...]:
        """The members of the parameter groups (the i of W.i), in the order of their first use."""
        members = (str(node.name).partition(".")[2] for node in self.graph.parameters())
        return tuple(dict.fromkeys(member for member in members if member))

    @property
    def products(self) -> tuple[Shape, ...]:
        """For each product of a matrix with a vector its sizes, ("H", "D") if the vector is the frame."""
        nodes = self.graph.nodes
        return tuple(nodes[node.args[0]].shape for node in nodes if node.op == "product")

    @property
    def state_shapes(self) -> tuple[Shape, ...]:
        """The shape of each state: sizes such as ("H",), ("H/2",) or, with heads, ("H", "H/4")."""
        return tuple(self.graph.nodes[output].shape for output in self.graph.outputs)

    def state_sizes(self, input_size: int, hidden: int) -> tuple[tuple[int, ...], ...]:
        """The shape of each state in numbers, for frames of D = ``input_size`` and H = ``hidden`` units."""
        return tuple(tuple(size(each, input_size, hidden) for each in shape) for shape in self.state_shapes)

    def output_size(self, input_size: int, hidden: int) -> int:
        """The elements of the output, the first state: H unless the cell says otherwise."""
        return prod(self.state_sizes(input_size, hidden)[0])

    def part(self, name: str, input_size: int) -> tuple[int, int]:
        """Where a part of the frame begins, and how many elements it has; the frame itself is (0, D)."""
        begin = 0
        for part, text in self.parts if "." in name else ():
            elements = size(text, input_size, 1)
            if part == name.partition(".")[2]:
                return begin, elements
            begin += elements
        return 0, input_size

    @property
    def multiple(self) -> int:
        """What H must be a multiple of: where the cell has heads, their number."""
        return multiple(node.shape for node in self.graph.nodes)

    def declaration(self, name: str) -> Declared | None:
        """What the signature says of a parameter, of a state, or of a state's learned first value (``h.first``)."""
        return next((one for one in self.declared if one.name == name), None)

    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with what is computed and with what is declared."""
        return fingerprint(self.graph, self.declared, self.parts)

    def parameter_nodes(self) -> tuple[Node, ...]:
        """What is learned: groups as in the function's signature, within a group in the order of first use.

        Learned first values of states come before the other parameters.
        """
        place = {group: k for k, group in enumerate(self.arguments)}
        fixed = self.fixed()
        learned = [node for node in self.graph.parameters() if node.name not in fixed]
        first = [Node("parameter", (), one.shape, one.name) for one in self.declared if one.name.endswith(FIRST)]
        return tuple(sorted([*first, *learned], key=lambda node: place[str(node.name).split(".")[0]]))

    def fixed(self) -> dict[str, Declared]:
        """The tensors that are not learned, by name."""
        return {one.name: one for one in self.declared if one.kind == FIXED}

    def fixed_values(self, input_size: int, hidden: int) -> dict[str, Floats]:
        """The tensors that are not learned for D = ``input_size`` and H = ``hidden``, in double precision."""
        return {name: one.array(input_size, hidden) for name, one in self.fixed().items()}

    def first_value(self, state: str, hidden: int, input_size: int = 1) -> Floats | None:
        """The value, of the state's shape, at which a state begins; None where that is zero, or learned."""
        found = self.declaration(state)
        return None if found is None or found.kind != STATE else found.array(input_size, hidden)

    def parameters(self, input_size: int, hidden: int) -> dict[str, tuple[int, ...]]:
        """The shape of every parameter for frames of D = ``input_size`` and H = ``hidden`` units.

        The order is that of the signature, within a group that of first use: W.i, W.f, ..., U.i, ..., b.i, ...
        """
        return {
            str(node.name): tuple(size(each, input_size, hidden) for each in node.shape)
            for node in self.parameter_nodes()
        }

    def parameter_count(self, input_size: int, hidden: int) -> int:
        """The number of parameters of the cell."""
        return sum(prod(shape) for shape in self.parameters(input_size, hidden).values())

    def __call__(self, *arguments: Any) -> Any:
        """The function itself: one example, one step, on numbers or tensors; groups are objects with the members.

        Where values have several sizes, its graph. A frame with parts is a tensor, or an object with the parts.
        """
        stored = self.function is not None and not inspect.isfunction(self.function)
        if stored or (self.function is not None and not any(node.op in RESHAPING for node in self.graph.nodes)):
            return self.function(*arguments)  # type: ignore[misc]
        given = dict(zip(self.arguments, arguments, strict=True))
        frame, width = self.arguments[0], len(arguments[0]) if hasattr(arguments[0], "shape") else 0
        parts = {f"{frame}.{part}": self.part(f"{frame}.{part}", width) for part, _ in self.parts}
        return interpret(self.graph, given, parts)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "function": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> Cell:
        """Itself, for nothing in it can change; what was compiled for it serves the copy of a module too."""
        return self

    def __copy__(self) -> Cell:
        return self


@overload
def cell(function: Callable[..., Any] | None) -> Cell: ...


@overload
def cell(*, paper: Paper) -> Callable[[Callable[..., Any]], Cell]: ...


def cell(
    function: Callable[..., Any] | None = None, *, paper: Paper | None = None
) -> Cell | Callable[[Callable[..., Any]], Cell]:
    """Make a cell from the function that states its equations.

    The first argument is the frame x (D,); the values returned are the new states (H,), whose old values are the next
    arguments in the same order; the arguments after those are parameters, used bare (``W @ x``) or by member
    (``W.i @ x``). ``P @ v`` makes P a matrix, any other use a vector (H,), the annotation ``Scalar`` a single number.
    ``Learned(...)`` annotates first values and bounds, ``Fixed(...)`` what is not learned.
    The cell's name is the function's with - for _. Its paper, ``@cell(paper=Paper(...))``, is cited by reports.

    Raises:
        CellError: equations outside the language, with the cell, the line and what to write instead.

    >>> from cello.cells.functions import tanh
    >>> @cell
    ... def plain(x, h, W, U, b):
    ...     return tanh(W @ x + U @ h + b)
    >>> plain.parameters(input_size=39, hidden=64)
    {'W': (64, 39), 'U': (64, 64), 'b': (64,)}
    """
    if function is None and paper is not None:
        _check_paper(paper)
        return lambda written: _made(written, paper)
    if not inspect.isfunction(function):
        caller = sys._getframe(1)
        raise no_plain_function(function, caller.f_code.co_filename, caller.f_lineno)
    return _made(function, paper)


def _check_paper(paper: Paper) -> None:
    if not isinstance(paper, Paper):
        raise CellError(
            f"@cell(paper=...) takes a cello.Paper, but got {paper!r}; write Paper(authors=..., year=..., title=...)"
        )


def _made(function: Callable[..., Any], paper: Paper | None) -> Cell:
    name = function.__name__.replace("_", "-")
    doc = inspect.cleandoc(function.__doc__ or "")
    traced = _trace(function, name)
    graph = resolve(traced)
    again = _trace(function, name)
    if (fault := changed(traced, again)) is not None:
        raise fault
    declared = declared_by(traced.signature, graph, traced.tracer)
    said = {*traced.signature.sizes} | {one.name for one in declared if one.kind == FIXED}
    warn_of_chains(graph, said, traced.tracer)
    warn_of_unused(traced)
    warn_of_unchanged(traced)
    return Cell(
        name=name,
        doc=doc,
        reference=paper.text if paper else " ".join(doc.partition("Reference:")[2].split("\n\n")[0].split()),
        arguments=traced.arguments,
        graph=graph,
        declared=declared,
        function=function,
        paper=paper,
        parts=traced.signature.parts,
    )


def _trace(function: Callable[..., Any], cell: str) -> Traced:
    """One call of the function on symbols."""
    own = inspect.unwrap(function)
    tracer = Tracer(cell, own.__code__)
    signature = signature_of(function, tracer)
    tracer.parts = tuple(name for name, _ in signature.parts)
    arguments = signature.arguments
    for fact, holds in (
        ("a lambda has no name", own.__name__ == "<lambda>"),
        ("the function yields, which an equation cannot", inspect.isgeneratorfunction(own)),
        ("the function is async, which an equation cannot be", inspect.iscoroutinefunction(own)),
        ("the function is async, which an equation cannot be", inspect.isasyncgenfunction(own)),
    ):
        if holds:
            raise tracer.error(fact, "Write def NAME(x, h, ...), which returns the new states")
    frame = Symbol(tracer, tracer.write("input", name=arguments[0]))
    rest = [Argument(tracer, tracer.write("argument", name=name)) for name in arguments[1:]]
    token = RUNNING.set(tracer)
    try:
        returned = function(frame, *rest)
    except CellError:
        raise
    except (Exception, SystemExit) as error:
        raise fault_in_function(tracer, error) from error
    finally:
        RUNNING.reset(token)
    if tracer.refusal is not None:
        raise tracer.refusal
    variables = tracer.observe_names()
    values = tuple(returned) if isinstance(returned, tuple | list) else () if returned is None else (returned,)
    declared = {*signature.annotations, *signature.sizes}
    read_transposes(tracer, arguments[1 : 1 + len(values)], signature.sizes, declared)
    for name, value in zip(arguments[1:], values, strict=False):
        if isinstance(value, Symbol) and value._cello_tracer is tracer:
            tracer.call(value._cello_position, name)
    return Traced(tracer, signature, values, variables)
