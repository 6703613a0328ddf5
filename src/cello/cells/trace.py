"""Trace a cell function: call it on symbols and record the operations as nodes."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from types import CodeType, FrameType
from typing import Any

from cello.cells.graph import POINTWISE, GraphBuilder, Node, Shape
from cello.errors import CellError

BINARY = {"add": "+", "sub": "-", "mul": "*", "div": "/", "product": "@"}
AFTER = {"transpose": "T", "total": "sum()", "mean": "mean()", "largest": "max()"}
"""How a message shows an operation that stands after its argument."""

FUNCTION_NAMES = ", ".join(op for op in POINTWISE if op not in BINARY and op != "neg")
"""The functions of the language, for the messages that list them."""

MOST_OPERATIONS = 10_000
"""More operations than any step can need: a loop in the function that does not end is refused, not waited for."""

LONGEST_CHAIN = 3000
"""Operations that may follow on one another: 300 unfolded steps of a differential equation, or 90 Runge-Kutta ones."""


class Value:
    """A value of one call of a cell's function: its record's position in its tracer.

    The long names leave W.tracer and W.position to the cells, whose parameters may be called so.
    """

    __slots__ = ("_cello_position", "_cello_tracer")
    _cello_position: int
    _cello_tracer: Tracer

    def __init__(self, tracer: Tracer, position: int) -> None:
        object.__setattr__(self, "_cello_tracer", tracer)
        object.__setattr__(self, "_cello_position", position)


class Tracer:
    """Writes down what one call of a cell's function computes; equal values are written once.

    ``records`` are nodes without their shapes, which only the whole function tells.
    """

    def __init__(self, cell: str, code: CodeType) -> None:
        self.cell = cell
        self.code = code
        self.parts: tuple[str, ...] = ()  # of the frame, if it has any
        self.builder = GraphBuilder()
        self.declares = False  # a value of the signature, in which random numbers are drawn
        self.refusal: CellError | None = None
        self._depths: list[int] = []  # how many operations follow on one another up to each
        self._frame: FrameType | None = None
        self._operations = 0

    @property
    def records(self) -> list[Node]:
        """What has been written down so far."""
        return self.builder.nodes

    def error(self, fact: str, remedy: str, line: int | None = None) -> CellError:
        """The message of every illegal cell: which cell, which line of its file, what is wrong, what to write.

        The first one is kept as ``refusal``, for the function may swallow it in an ``except`` of its own.
        """
        line = self.line() if line is None else line
        file = file_name(self.code.co_filename)
        error = CellError(f"cell {self.cell!r} ({file}, line {line}): {fact}. {remedy}.")
        self.refusal = self.refusal or error
        return error

    def line(self) -> int:
        """The line of the cell's file that is being executed."""
        frame: FrameType | None = sys._getframe(1)
        nearest: int | None = None
        while frame is not None:
            if nearest is None and frame.f_code.co_filename == self.code.co_filename:
                nearest = frame.f_lineno
            if frame.f_code is self.code:
                self._frame = frame
                return nearest or frame.f_lineno
            frame = frame.f_back
        return self.code.co_firstlineno

    def last_line(self) -> int:
        """The line on which the function returned, or its last one if it computed nothing."""
        if self._frame is not None:
            return self._frame.f_lineno
        return max(line for *_, line in self.code.co_lines() if line is not None)

    def say(self, position: int, depth: int = 2) -> str:
        """How a message shows a value: its variable, or how it is computed."""
        record = self.records[position]
        if record.name is not None:
            return record.name
        if record.op == "constant":
            return f"{record.value:g}"
        if depth == 0:
            return "(...)"
        parts = [self.say(arg, depth - 1) for arg in record.args]
        if record.op in BINARY:
            return f"({parts[0]} {BINARY[record.op]} {parts[1]})"
        if record.op in AFTER:
            return f"{parts[0]}.{AFTER[record.op]}"
        if record.op == "neg":
            return f"(-{parts[0]})"
        return f"{record.op}({', '.join(parts)})"

    def write(
        self,
        op: str,
        args: tuple[int, ...] = (),
        value: float | None = None,
        name: str | None = None,
        shape: Shape = (),
    ) -> int:
        """The position of a new record, or of the one that already computes the same; some say their ``shape``."""
        self.observe_names()
        self._operations += 1
        if self._operations > MOST_OPERATIONS:
            raise self.error(
                f"a step has more than {MOST_OPERATIONS:,} operations", "See whether a loop in the function ends"
            )
        position = self.builder.find(op, args, value, name, shape)
        if position is not None:
            return position
        line = self.line()
        depth = 1 + max(self._depths[arg] for arg in args) if args else 0
        if depth > LONGEST_CHAIN:
            raise self.error(
                f"more than {LONGEST_CHAIN:,} operations follow on one another",
                "See whether a loop in the function ends, or compute in fewer steps",
                line,
            )
        self._depths.append(depth)
        return self.builder.add(Node(op, args, shape, name, value, line))

    def observe_names(self) -> dict[str, object]:
        """Give each value the first variable of the function that holds it; returns the function's variables."""
        if self._frame is None:
            return {}
        nodes, variables = self.builder.nodes, self._frame.f_locals
        for name, value in variables.items():
            if isinstance(value, Value) and value._cello_tracer is self and nodes[value._cello_position].name is None:
                self.builder.call(value._cello_position, name)
        return dict(variables)

    def call(self, position: int, name: str) -> None:
        """Name a value after a variable that holds it, unless it has a name."""
        if self.records[position].name is None:
            self.builder.call(position, name)


RUNNING: ContextVar[Tracer | None] = ContextVar("RUNNING", default=None)
"""The tracer of the call that is going on: no value of another call may enter it."""


def file_name(path: str) -> str:
    """A file as messages show it, without its folders."""
    return path.replace("\\", "/").rsplit("/", 1)[-1]


def said(value: Any) -> str:
    """How a message names the kind of a Python value."""
    return "None" if value is None else f"a {type(value).__name__}"
