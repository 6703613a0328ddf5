"""Tracing: a cell's function is called once on symbols, and what it does to them is written down as nodes."""

from __future__ import annotations

import sys
from types import CodeType, FrameType
from typing import Any, NoReturn

from cello.cells.graph import POINTWISE
from cello.errors import CellError

BINARY = {"add": "+", "sub": "-", "mul": "*", "div": "/", "product": "@"}


class Record:
    """A node while it is traced: what ``Node`` holds but for shapes, which need the whole function."""

    __slots__ = ("args", "line", "name", "op", "value")

    def __init__(self, op: str, args: tuple[int, ...], value: float | None, line: int) -> None:
        self.op, self.args, self.value, self.line = op, args, value, line
        self.name: str | None = None


class Tracer:
    """Writes down what one call of a cell's function computes; equal values are written once."""

    def __init__(self, cell: str, code: CodeType) -> None:
        self.cell = cell
        self.code = code
        self.records: list[Record] = []
        self._known: dict[tuple[object, ...], int] = {}
        self._frame: FrameType | None = None

    def error(self, fact: str, remedy: str, line: int | None = None) -> CellError:
        """The message of every illegal cell: which cell, which line of its file, what is wrong, what to write."""
        line = self.line() if line is None else line
        file = self.code.co_filename.replace("\\", "/").rsplit("/", 1)[-1]
        return CellError(f"cell {self.cell!r} ({file}, line {line}): {fact}. {remedy}.")

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

    def say(self, position: int, depth: int = 2) -> str:
        """A value as a message shows it: its variable, or how it is computed."""
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
        return f"{record.op}({', '.join(parts)})"

    def write(self, op: str, args: tuple[int, ...] = (), value: float | None = None, name: str | None = None) -> Symbol:
        """The symbol of a new node, or of the one that already computes the same."""
        self.observe_names()
        key = (op, args, value, name)
        if key not in self._known:
            self._known[key] = len(self.records)
            self.records.append(Record(op, args, value, self.line()))
            self.records[-1].name = name
        return Symbol(self, self._known[key])

    def observe_names(self) -> dict[str, object]:
        """Give each value the first variable of the function that holds it; returns the function's variables."""
        if self._frame is None:
            return {}
        variables = dict(self._frame.f_locals)
        for name, value in variables.items():
            if isinstance(value, Symbol) and self.records[value.index].name is None:
                self.records[value.index].name = name
        return variables


class Symbol:
    """A value of the equations while they are traced; everything Python can do to it is recorded or refused."""

    __slots__ = ("index", "tracer")
    index: int
    tracer: Tracer

    def __init__(self, tracer: Tracer, index: int) -> None:
        object.__setattr__(self, "tracer", tracer)
        object.__setattr__(self, "index", index)

    def __repr__(self) -> str:
        self.tracer.observe_names()
        return self.tracer.say(self.index)

    def error(self, fact: str, remedy: str) -> CellError:
        return self.tracer.error(fact, remedy)

    def pointwise(self, op: str, *values: Any) -> Symbol:
        """The node ``op(values)``; numbers become constants."""
        if len(values) != POINTWISE[op]:
            raise self.error(f"{op} takes {POINTWISE[op]} values, not {len(values)}", "Give it as many as it takes")
        return self.tracer.write(op, tuple(self._operand(value).index for value in values))

    def _operand(self, value: Any) -> Symbol:
        if isinstance(value, Symbol):
            return value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(
                f"a {type(value).__name__} stands beside {self!r}, where only numbers and values of the cell can",
                "Write the number itself, or make it a parameter: an argument of the function",
            )
        return self.tracer.write("constant", value=float(value))

    def __add__(self, other: Any) -> Symbol:
        return self.pointwise("add", self, other)

    def __radd__(self, other: Any) -> Symbol:
        return self.pointwise("add", other, self)

    def __sub__(self, other: Any) -> Symbol:
        return self.pointwise("sub", self, other)

    def __rsub__(self, other: Any) -> Symbol:
        return self.pointwise("sub", other, self)

    def __mul__(self, other: Any) -> Symbol:
        return self.pointwise("mul", self, other)

    def __rmul__(self, other: Any) -> Symbol:
        return self.pointwise("mul", other, self)

    def __truediv__(self, other: Any) -> Symbol:
        return self.pointwise("div", self, other)

    def __rtruediv__(self, other: Any) -> Symbol:
        return self.pointwise("div", other, self)

    def __neg__(self) -> Symbol:
        return self.pointwise("neg", self)

    def __pos__(self) -> Symbol:
        return self

    def __abs__(self) -> Symbol:
        return self.pointwise("abs", self)

    def __pow__(self, power: Any) -> Symbol:
        if power not in (2, 3, 4) or isinstance(power, Symbol):
            raise self.error(f"{self!r} ** {power!r} is not in the language", "Write v * v, sqrt(v) or exp(p * log(v))")
        result = self
        for _ in range(int(power) - 1):
            result = result * self
        return result

    def __rpow__(self, base: Any) -> NoReturn:
        raise self.error(f"{base!r} ** {self!r} is not in the language", f"Write exp({self!r} * log({base!r}))")

    def __matmul__(self, other: Any) -> Symbol:
        if not isinstance(other, Symbol):
            raise self.error(
                f"a product of {self!r} with a {type(other).__name__}", "Write W @ v, a parameter and a vector"
            )
        return self.tracer.write("product", (self.index, other.index))

    def __rmatmul__(self, other: Any) -> NoReturn:
        raise self.error(
            f"a product of a {type(other).__name__} with {self!r}", "Write W @ v, a parameter and a vector"
        )

    def __gt__(self, other: Any) -> Comparison:
        return Comparison(self, self._operand(other), strict=True)

    def __lt__(self, other: Any) -> Comparison:
        return Comparison(self._operand(other), self, strict=True)

    def __ge__(self, other: Any) -> Comparison:
        return Comparison(self._operand(other), self, strict=False)

    def __le__(self, other: Any) -> Comparison:
        return Comparison(self, self._operand(other), strict=False)

    def __eq__(self, other: object) -> NoReturn:
        raise self.error(f"{self!r} is compared for equality", "Compare with > or < inside where(a > b, u, v)")

    def __ne__(self, other: object) -> NoReturn:
        self.__eq__(other)

    def __hash__(self) -> int:
        return id(self)

    def __bool__(self) -> NoReturn:
        raise self.error(
            f"`if`, `and`, `or`, `not`, min() and max() cannot be compiled on {self!r}, "
            f"because its value differs from unit to unit",
            f"Write where({self!r} > 0, a, b), minimum(a, b) or maximum(a, b) instead",
        )

    def _number(self, *_: Any) -> NoReturn:
        raise self.error(
            f"{self!r} is used as a Python number, but it has no value yet",
            "Call cello's functions (sigmoid, tanh, exp, ...), not those of math; loops need fixed numbers",
        )

    __float__ = __int__ = __index__ = __complex__ = __round__ = __floor__ = __ceil__ = __trunc__ = _number

    def _element(self, *_: Any) -> NoReturn:
        raise self.error(
            f"an element of {self!r} is read or set, but equations act on whole vectors and values never change",
            "Give a new variable a new value, and select with where(a > b, u, v)",
        )

    __getitem__ = __setitem__ = __delitem__ = __iter__ = __len__ = __contains__ = _element

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        raise self.error(f"{self!r} is called like a function", f"Write {self!r} * (...) for a multiplication")

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise self.error(f"{self!r}.{name} is set, but values never change", "Give a new variable a new value")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise self.error(
            f"{self!r}.{name} is asked for, but {self!r} is no parameter group",
            f"Write {name}(v) for a function; only arguments after the states have members, such as W.{name}",
        )

    def __array_ufunc__(self, ufunc: Any, *_: Any, **__: Any) -> NoReturn:
        raise self._foreign("numpy", ufunc.__name__)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> NoReturn:
        symbol = symbol_among((*args, *(kwargs or {}).values()))
        raise (_unseen if symbol is None else symbol._foreign)("torch", getattr(function, "__name__", repr(function)))

    def _foreign(self, library: str, function: str) -> CellError:
        own = function if function in POINTWISE and function not in BINARY else "sigmoid, tanh, relu, exp, where, ..."
        return self.error(
            f"{library}'s {function}() is called on {self!r}, which only the functions of the cell language can take",
            f"Use cello's own: {own}",
        )


def _unseen(library: str, function: str) -> CellError:
    return CellError(f"{library}'s {function}() is called on values of a cell. Use cello's own functions.")


class Argument(Symbol):
    """An argument after x, not yet known to be a state, a parameter or a group of parameters."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Symbol:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.tracer.write("parameter", name=f"{self.tracer.records[self.index].name}.{name}")


class Comparison:
    """a > b, or with ``strict=False`` not (a > b); only :func:`where` can use it."""

    __slots__ = ("_a", "_b", "_strict")

    def __init__(self, a: Symbol, b: Symbol, *, strict: bool) -> None:
        self._a, self._b, self._strict = a, b, strict

    def select(self, u: Any, v: Any) -> Symbol:
        """u where the comparison holds, v elsewhere."""
        return self._a.pointwise("where", self._a, self._b, *((u, v) if self._strict else (v, u)))

    def __bool__(self) -> NoReturn:
        raise self._a.error(
            f"`if`, `and`, `or`, `not`, min() and max() cannot be compiled on a comparison of {self._a!r} and "
            f"{self._b!r}, because its value differs from unit to unit",
            f"Write where({self._a!r} > {self._b!r}, u, v), minimum(a, b) or maximum(a, b) instead",
        )


def symbol_among(values: tuple[Any, ...]) -> Symbol | None:
    """The first traced value among these, if any."""
    return next((value for value in values if isinstance(value, Symbol)), None)
