"""Error messages for cell functions that raise, are not plain functions, or change between calls."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Collection
from typing import Any

from cello.cells.functions import FUNCTIONS
from cello.cells.graph import Graph, reached, uses
from cello.cells.methods import METHODS
from cello.cells.resolve import Traced
from cello.cells.symbol import Symbol
from cello.cells.trace import Tracer, file_name, said
from cello.errors import CellError

LANGUAGE = f"A cell uses + - * / @, numbers and the functions {', '.join(FUNCTIONS)}"


def no_plain_function(value: Any, file: str, line: int) -> CellError:
    """The error message for ``@cell`` on something that is not a function."""
    place = f"({file_name(file)}, line {line})"
    if value is None:
        return CellError(f"cell {place}: @cell() is called without a function. Write @cell, without parentheses.")
    kind = "a class" if isinstance(value, type) else said(value)
    name = getattr(value, "__name__", getattr(value, "name", type(value).__name__))
    return CellError(
        f"cell {name!r} {place}: @cell decorates {kind}, which is not a function. "
        f"Write it once, directly above def NAME(x, h, ...)."
    )


def fault_in_function(tracer: Tracer, error: BaseException) -> CellError:
    """The error message for an exception raised by the cell function while it is traced."""
    line, step = tracer.code.co_firstlineno, error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename == tracer.code.co_filename:
            line = step.tb_lineno
        step = step.tb_next
    text = str(error).split("\n", 1)[0].rstrip(".")
    if isinstance(error, UnboundLocalError):
        return tracer.error(f"a value is used before it exists ({text})", "Compute it on an earlier line", line)
    if isinstance(error, NameError):
        return _unknown_name(tracer, error, text, line)
    if isinstance(error, AttributeError) and (missing := re.match(r"module '[\w.]+' has no attribute '(\w+)'", text)):
        return tracer.error(text, _instead_of(missing[1]) or LANGUAGE, line)
    if isinstance(error, RecursionError):
        return tracer.error(
            "the function calls itself without end", "Write a loop over fixed numbers, such as for k in range(3)", line
        )
    if isinstance(error, TypeError) and (wanted := _call(text)):
        return tracer.error(f"a function is called with other arguments than it has: {text}", wanted, line)
    return tracer.error(f"the function raised {type(error).__name__}" + (f": {text}" if text else ""), LANGUAGE, line)


def _call(text: str) -> str | None:
    """How a function of the language is called, if a TypeError tells that it was called otherwise."""
    match = re.match(r"(\w+)\(\) (takes|missing|got)\b", text)
    function = FUNCTIONS.get(match[1]) if match else None
    if function is None:
        return None
    written = f"Write {function.__name__}({', '.join(inspect.signature(function).parameters)})"
    return f"{written}, which is over all elements" if function.__name__ == "softmax" else written


def _unknown_name(tracer: Tracer, error: NameError, text: str, line: int) -> CellError:
    quoted = re.search("'([^']+)'", text)
    name = error.name or (quoted[1] if quoted else text)
    wanted = f"States and parameters are arguments of the function. {LANGUAGE}"
    if name in FUNCTIONS:
        wanted = f"Import it: from cello.cells.functions import {name}"
    elif name in ("D", "H"):
        wanted = f"Declare what depends on a size, as in s: Fixed(lambda {name}: 1 / sqrt({name}))"
    elif own := _instead_of(name):
        wanted = own
    elif name == tracer.code.co_name:
        wanted = "A cell does not call itself: its past is in its states, and what calls it again is the scan"
    return tracer.error(f"unknown name {name!r}", wanted, line)


def _instead_of(name: str) -> str | None:
    """What to write instead of a function that the language does not have."""
    if name == "mean":
        return "Write v.mean(), the mean of the elements of a vector v"
    return METHODS[name].format(v="v") if name in METHODS else None


def warn_of_chains(graph: Graph, said: Collection[str], tracer: Tracer) -> None:
    """Warn of two learned matrices in a row, U @ (W @ x), which were perhaps meant to be of low rank.

    ``said`` are those of which the signature says a size, or that they are fixed.
    """
    nodes, count = graph.nodes, uses(graph)
    for node in nodes:
        inner = nodes[node.args[1]] if node.op == "product" else node
        if inner is node or inner.op != "product" or count[node.args[1]] > 1:
            continue
        matrices = [nodes[one.args[0]] for one in (node, inner)]
        if any(
            matrix.op != "parameter" or {matrix.name, str(matrix.name).split(".")[0]} & {*said} for matrix in matrices
        ):
            continue
        group, _, member = str(matrices[1].name).partition(".")
        size = f"{group}: Members({member}=Size(16))" if member else f"{group}: Size(16)"
        left, right = (f"{matrix.name} ({', '.join(matrix.shape)})" for matrix in matrices)
        file = tracer.code.co_filename
        place = f"cell {tracer.cell!r} ({file_name(file)}, line {node.line})"
        warnings.warn_explicit(
            f"{place}: {left} multiplies what {right} gives, so both "
            f"do no more than one matrix. Write one, or give what is between them a size of its own: {size}.",
            UserWarning,
            file,
            node.line,
        )


def warn_of_unused(traced: Traced) -> None:
    """Warn of a variable whose value reaches nothing that is returned, such as a gate that the update leaves out.

    Not of one that a loop leaves over, which some turn uses, nor of one whose name begins with _.
    """
    records, tracer = traced.tracer.records, traced.tracer
    live = reached(tuple(records), [at for at in _positions(traced) if at is not None])
    lines = {records[k].line for k in live}
    read = {arg for record in records for arg in record.args}
    file = tracer.code.co_filename
    for k, record in enumerate(records):
        name = record.name or "_"
        if k not in live | read and record.args and record.line not in lines and not name.startswith("_"):
            warnings.warn_explicit(
                f"cell {tracer.cell!r} ({file_name(file)}, line {record.line}): {name} is computed, but reaches no "
                f"returned value. Use {name} in the equations, or remove it.",
                UserWarning,
                file,
                record.line,
            )


def warn_of_unchanged(traced: Traced) -> None:
    """Warn of a state that is returned as it came, and so stays at its first value."""
    tracer = traced.tracer
    file, line = tracer.code.co_filename, tracer.last_line()
    for state, position in zip(traced.arguments[1:], _positions(traced), strict=False):
        record = tracer.records[position or 0]
        if position is not None and record.op == "argument" and record.name == state:
            warnings.warn_explicit(
                f"cell {tracer.cell!r} ({file_name(file)}, line {line}): {state} is returned as it came, so it stays "
                f"at its first value. Return its new value, or make it a parameter.",
                UserWarning,
                file,
                line,
            )


def changed(first: Traced, second: Traced) -> CellError | None:
    """The error message if two calls of the function give different equations; None if they are equal."""
    before, after = ([(r.op, r.args, r.value) for r in traced.tracer.records] for traced in (first, second))
    lines = [record.line for record in second.tracer.records]
    for number, (old, new) in enumerate(zip(before, after, strict=False)):
        if old != new:
            return _fickle(second, f"{second.tracer.say(number)}, not {first.tracer.say(number)}", lines[number])
    if len(before) != len(after):
        longer = max(first, second, key=lambda traced: len(traced.tracer.records)).tracer
        extra = min(len(before), len(after))
        return _fickle(second, f"{longer.say(extra)} in only one of them", longer.records[extra].line)
    if _positions(first) != _positions(second):
        return _fickle(second, "another value is returned", second.tracer.last_line())
    return None


def _positions(traced: Traced) -> list[int | None]:
    return [value._cello_position if isinstance(value, Symbol) else None for value in traced.returned]


def _fickle(traced: Traced, what: str, line: int) -> CellError:
    return traced.tracer.error(
        f"two calls of the function are not the same equations: {what}",
        "Use no random numbers and nothing outside the function that changes; what changes from step to step is a "
        "state, what is learned a parameter",
        line,
    )
