"""Record operations on traced values; refuse others with a remedy."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any, NoReturn

from cello.cells.conditions import NO_BRANCH, Comparison
from cello.cells.graph import Node
from cello.cells.items import instead_of_item
from cello.cells.methods import METHODS, NUMPY_OPERATORS, OPERATORS, REDUCTIONS
from cello.cells.operands import TENSOR, Uncalled, foreign, is_tensor, operand, position, refusal, symbols_in
from cello.cells.trace import FUNCTION_NAMES, Value, said
from cello.errors import CellError

WHOLE_POWERS = (-4, -3, -2, -1, 1, 2, 3, 4, 5, 6, 7, 8)
"""Powers that are multiplications."""


def pointwise(op: str, *values: Any) -> Symbol:
    """The symbol of ``op(values)``, at least one of them traced; numbers become constants."""
    symbol = next(symbols_in(values))
    args = tuple(operand(symbol, value) for value in values)
    if op == "div" and isinstance(values[1], Real) and values[1] == 0:
        raise refusal(symbol, f"{symbol!r} is divided by 0", "Divide by a number that is not 0")
    return Symbol(symbol._cello_tracer, symbol._cello_tracer.write(op, args))


_INSTEAD_OF_OPERATORS = {
    "%": "Write mod({v}, b)",
    "//": "Write floor(a / b)",
    "^": "Write {v} ** n for a power",
    **dict.fromkeys(("&", "|", "~"), "They join comparisons, in parentheses: where((a > b) & (c > d), u, v)"),
}


def _no_operator(sign: str) -> Callable[..., NoReturn]:
    def refuse(self: Symbol, *_: Any) -> NoReturn:
        raise refusal(
            self,
            f"the operator {sign} is used on {self!r}",
            _INSTEAD_OF_OPERATORS.get(
                sign, f"The operators are + - * / @ and **, the functions {FUNCTION_NAMES}"
            ).format(v=repr(self)),
        )

    return refuse


def _number(self: Symbol, *_: Any) -> NoReturn:
    raise refusal(
        self,
        f"{self!r} is used as a Python number, but it has no value yet",
        "Call cello's functions (sigmoid, tanh, exp, ...), not those of math; loops need fixed numbers",
    )


def _changed_element(self: Symbol, *_: Any) -> NoReturn:
    raise refusal(
        self,
        f"an element of {self!r} is set, but equations act on whole vectors and values never change",
        "Give a new variable a new value, and select with where(a > b, u, v)",
    )


def _element(self: Symbol, key: Any) -> NoReturn:
    raise refusal(self, *instead_of_item(repr(self), self._cello_tracer.records[self._cello_position].op, key))


def _list(self: Symbol, *_: Any) -> NoReturn:
    raise refusal(
        self,
        f"{self!r} is read like a list, but equations act on whole vectors",
        f"Compute with the vector itself: {self!r}.sum(), {self!r}.max(), where(a > b, u, v); several states are "
        f"several arguments, as in def f(x, h, c, W)"
        + f'; members of a group are getattr({self!r}, name), for name in "ifo"'
        * (self._cello_tracer.records[self._cello_position].op == "argument"),
    )


def _length(self: Symbol) -> NoReturn:
    wanted = "Compute with the vector itself; what depends on a size is declared, as in s: Fixed(lambda H: 1 / sqrt(H))"
    raise refusal(self, f"the length of {self!r} is asked for, which is known later", wanted)


class Symbol(Value):
    """A value of the equations while they are traced.

    Its methods are Python's own (operators and protocols) and nothing else: any other name is a member, ``W.i``.
    """

    __slots__ = ()

    def _cello_operand(self, value: Any) -> Symbol:
        """A value or a number, as a value of the same call."""
        return Symbol(self._cello_tracer, operand(self, value))

    @staticmethod
    def _cello_pointwise(op: str, *values: Any) -> Symbol:
        return pointwise(op, *values)

    def __repr__(self) -> str:
        self._cello_tracer.observe_names()
        return self._cello_tracer.say(self._cello_position)

    def __format__(self, spec: str) -> str:
        if spec:
            raise refusal(self, f"{self!r} is formatted by {spec!r}, but it has no value yet", "Print it without")
        return repr(self)

    def __add__(self, other: Any) -> Symbol:
        return pointwise("add", self, other)

    def __radd__(self, other: Any) -> Symbol:
        return pointwise("add", other, self)

    def __sub__(self, other: Any) -> Symbol:
        return pointwise("sub", self, other)

    def __rsub__(self, other: Any) -> Symbol:
        return pointwise("sub", other, self)

    def __mul__(self, other: Any) -> Symbol:
        return pointwise("mul", self, other)

    def __rmul__(self, other: Any) -> Symbol:
        return pointwise("mul", other, self)

    def __truediv__(self, other: Any) -> Symbol:
        return pointwise("div", self, other)

    def __rtruediv__(self, other: Any) -> Symbol:
        return pointwise("div", other, self)

    def __neg__(self) -> Symbol:
        return pointwise("neg", self)

    def __pos__(self) -> Symbol:
        return self

    def __abs__(self) -> Symbol:
        return pointwise("abs", self)

    def __round__(self, digits: Any = None) -> Symbol:
        return pointwise("round", self) if digits is None else _number(self)

    def __pow__(self, power: Any, modulo: Any = None) -> Symbol:
        if modulo is not None:
            raise refusal(self, f"pow({self!r}, ...) takes a third argument", "Write mod(v ** n, b)")
        if isinstance(power, Real) and not isinstance(power, bool) and power in (0.5, *WHOLE_POWERS):
            return pointwise("sqrt", self) if power == 0.5 else _whole_power(self, int(float(power)))
        return _any_power(self, power)

    def __rpow__(self, base: Any) -> Symbol:
        if isinstance(base, Real) and not isinstance(base, bool) and float(base) > 0:
            return pointwise("exp", self * math.log(float(base)))
        raise refusal(self, f"{base!r} ** {self!r} is not in the language", "Raise a positive number to a power")

    def __matmul__(self, other: Any) -> Symbol:
        if not isinstance(other, Symbol):
            raise refusal(self, f"a product of {self!r} with {said(other)}", _instead_of_product(repr(self), other))
        return Symbol(self._cello_tracer, self._cello_tracer.write("product", (position(self), position(other))))

    def __rmatmul__(self, other: Any) -> NoReturn:
        raise refusal(self, f"a product of {said(other)} with {self!r}", _instead_of_product(repr(self), other))

    __mod__ = __rmod__ = _no_operator("%")
    __floordiv__ = __rfloordiv__ = _no_operator("//")
    __divmod__ = __rdivmod__ = _no_operator("divmod()")
    __and__ = __rand__ = _no_operator("&")
    __or__ = __ror__ = _no_operator("|")
    __xor__ = __rxor__ = _no_operator("^")
    __lshift__ = __rlshift__ = _no_operator("<<")
    __rshift__ = __rrshift__ = _no_operator(">>")
    __invert__ = _no_operator("~")

    def __gt__(self, other: Any) -> Comparison:
        return Comparison(self, ">", other)

    def __lt__(self, other: Any) -> Comparison:
        return Comparison(other, ">", self)

    def __ge__(self, other: Any) -> Comparison:
        return Comparison(self, ">=", other)

    def __le__(self, other: Any) -> Comparison:
        return Comparison(other, ">=", self)

    def __eq__(self, other: object) -> Comparison:  # type: ignore[override]
        return Comparison(self, "==", other)

    def __ne__(self, other: object) -> Comparison:  # type: ignore[override]
        return Comparison(self, "!=", other)

    def __hash__(self) -> int:
        return id(self)

    def __bool__(self) -> NoReturn:
        raise refusal(
            self,
            f"{NO_BRANCH} {self!r}, because its value differs from unit to unit",
            f"Write where({self!r} > 0, a, b), minimum(a, b) or maximum(a, b) instead",
        )

    __float__ = __int__ = __index__ = __complex__ = __floor__ = __ceil__ = __trunc__ = _number
    __getitem__ = _element
    __setitem__ = __delitem__ = _changed_element
    __iter__ = __contains__ = __reversed__ = _list
    __len__ = _length

    def __call__(self, *arguments: Any, **named: Any) -> Symbol:
        record = self._cello_tracer.records[self._cello_position]
        group, member = (*str(record.name).split("."), "")[:2]
        if (record.op == "parameter" and member in REDUCTIONS) or record.op in REDUCTIONS.values():
            return _reduction_of_argument(self, group, member, arguments or named)
        if record.op == "parameter" and (member in METHODS or member in FUNCTION_NAMES.split(", ")):
            wanted = METHODS.get(member, f"Write {member}({{v}}) for the function").format(v=group)
            raise refusal(self, f"{self!r} is called, but {group} is an argument, which has no methods", wanted)
        raise refusal(self, f"{self!r} is called like a function", _instead_of_call(self, group, member, arguments))

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise refusal(self, f"{self!r}.{name} is set, but values never change", "Give a new variable a new value")

    def __delattr__(self, name: str) -> NoReturn:
        raise refusal(self, f"{self!r}.{name} is deleted, but values never change", "Leave the line away")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"values of a cell have no {name}")
        record = self._cello_tracer.records[self._cello_position]
        if record.op == "input" and "." not in str(record.name):
            return _part(self, name)
        if name == "T":
            return Symbol(self._cello_tracer, self._cello_tracer.write("transpose", (position(self),)))
        if name in REDUCTIONS:
            return Method(self, name)
        bare = name.removesuffix("_")
        if name in METHODS or bare in METHODS:
            wanted = METHODS[name if name in METHODS else bare].format(v=repr(self))
            raise refusal(self, f"{self!r}.{name} is asked for, but {self!r} is a value of the equations", wanted)
        if bare in OPERATORS:
            fact = f"{self!r}.{name} is asked for, but {self!r} is a value of the equations"
            raise refusal(self, fact, f"Write the operators {OPERATORS[bare]}")
        own = f"Write {bare}({self!r}) for the function" if bare in FUNCTION_NAMES.split(", ") else "Write equations"
        raise refusal(
            self,
            f"{self!r}.{name} does not exist, because {self!r} is not a parameter group",
            f"{own}; only arguments after the states have members, such as W.{name}",
        )

    def __copy__(self) -> Symbol:
        return self

    def __deepcopy__(self, _: Any) -> Symbol:
        return self

    def __reduce_ex__(self, _: Any) -> NoReturn:
        raise refusal(self, f"{self!r} is pickled, but it has no value yet", "Leave the line away")

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise foreign(self, "numpy", "array")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        name, left = NUMPY_OPERATORS.get(ufunc.__name__), inputs[0]
        if name is not None and method == "__call__" and inputs[1] is self and not isinstance(left, Symbol):
            return getattr(self, name)(left.item() if getattr(left, "shape", None) == () else left)
        raise foreign(self, "numpy", ufunc)

    def __array_function__(self, function: Any, *_: Any, **__: Any) -> NoReturn:
        raise foreign(self, "numpy", function)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> NoReturn:
        symbol = next(symbols_in((args, kwargs)))
        for arg in args:
            if type(arg).__name__ == "Tensor":
                operand(symbol, arg)
        raise foreign(symbol, "torch", function)


def _instead_of_call(called: Symbol, group: str, member: str, arguments: tuple[Any, ...]) -> str:
    """What to write instead of ``W(x)``, a layer, of ``U.triu()``, a method, or of ``a(b + c)``."""
    if len(arguments) == 1 and isinstance(arguments[0], Symbol):
        v = arguments[0]
        return f"Write {called!r} @ {v!r} for a matrix, {called!r} * {v!r} unit by unit"
    methods = f"; values have the methods {', '.join(REDUCTIONS)} alone" if member else ""
    return f"Write {called!r} * (...) for a multiplication{methods}"


def _part(frame: Symbol, name: str) -> Any:
    """A part of the frame, or the sum, the mean or the maximum of all of it."""
    tracer, parts = frame._cello_tracer, frame._cello_tracer.parts
    if name in parts:
        position(frame)
        return Symbol(tracer, tracer.write("input", name=f"{frame!r}.{name}"))
    if name in REDUCTIONS:
        return Method(frame, name)
    if parts:
        shown = ", ".join(f"{frame!r}.{part}" for part in parts)
        raise refusal(frame, f"{frame!r} has no part {name}; it has {shown}", "Name it in the annotation Parts(...)")
    if name in METHODS or name in FUNCTION_NAMES.split(", ") or name == "T":
        wanted = METHODS.get(name, f"Write {name}({{v}}) for the function" if name != "T" else "Write W @ {v}")
        raise refusal(
            frame, f"{frame!r}.{name} is asked for, but {frame!r} is a value of the equations", wanted.format(v=frame)
        )
    raise refusal(
        frame,
        f"{frame!r}.{name} does not exist, because {frame!r}, the frame, has no parts",
        f"Name all of them in the order in which the frame holds them, such as {frame!r}: {_parts_with(name)}",
    )


def _parts_with(name: str) -> str:
    """An annotation of a frame that has a part of this name; those of one element are known by theirs."""
    if name in ("gap", "dt", "delta", "time", "interval"):
        return f'Parts("value", {name}=1)'
    return f'Parts("{name}")' if name != "mask" else 'Parts("value", "mask")'


class Method(Uncalled):
    """``v.sum``, ``v.mean`` or ``v.max``, which are called without arguments."""

    __slots__ = ("_cello_name", "_cello_value")

    def __init__(self, value: Symbol, name: str) -> None:
        self._cello_value, self._cello_name = value, name

    def __repr__(self) -> str:
        return f"{self._cello_value!r}.{self._cello_name}"

    def __call__(self, *arguments: Any, **named: Any) -> Symbol:
        value, tracer = self._cello_value, self._cello_value._cello_tracer
        if arguments or named:
            raise _no_dimensions(value, self._cello_name, repr(value))
        return Symbol(tracer, tracer.write(REDUCTIONS[self._cello_name], (position(value),)))


def _reduction_of_argument(symbol: Symbol, group: str, member: str, given: Any) -> Symbol:
    """``h.sum()`` of an argument: what was written down as the member sum of a group is the sum of h."""
    tracer, at = symbol._cello_tracer, position(symbol)
    record = tracer.records[at]
    if given:
        name = member or next(name for name, op in REDUCTIONS.items() if op == record.op)
        shown = group if record.op == "parameter" else tracer.say(record.args[0])
        raise _no_dimensions(symbol, name, shown)
    if record.op == "parameter":
        arg = next(k for k, one in enumerate(tracer.records) if one.op == "argument" and one.name == group)
        tracer.records[at] = Node(REDUCTIONS[member], (arg,), (), None, None, record.line)
    return symbol


def _no_dimensions(value: Symbol, name: str, shown: str) -> CellError:
    return refusal(
        value,
        f"{name}() is given arguments, but a value has one dimension",
        f"Write {shown}.{name}(), over all elements",
    )


def _whole_power(value: Symbol, power: int) -> Symbol:
    """v ** 3 as v * v * v, v ** -2 as 1 / (v * v)."""
    result = value
    for _ in range(abs(power) - 1):
        result = result * value
    return result if power > 0 else 1 / result


def _any_power(base: Symbol, power: Any) -> Symbol:
    """v ** n as exp(n log v): NaN of a negative v, and without a derivative where v is 0."""
    if isinstance(power, Real) and power == 0:
        raise refusal(base, f"{base!r} ** 0 is 1", "Write the number 1")
    above = pointwise("exp", power * pointwise("log", pointwise("where", base, 0, base, 1)))
    edge = pointwise("exp", power * pointwise("log", base))
    return pointwise("where", base, 0, above, pointwise("stop", edge))


def _instead_of_product(name: str, other: Any) -> str:
    """What to write instead of the product of a value and something that is none."""
    if isinstance(other, list | tuple):
        return "Write W.x @ x + W.h @ h, a matrix for each value, in place of W @ [x, h]"
    if isinstance(other, Real):
        return f"Write {other!r} * {name}, for a number"
    return TENSOR if is_tensor(other) else "Write W @ v, a parameter and a vector"


class Argument(Symbol):
    """An argument after x, not yet known to be a state, a parameter or a group of parameters."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Symbol:
        if name.startswith("__"):
            raise AttributeError(f"values of a cell have no {name}")
        tracer = self._cello_tracer
        group = tracer.records[self._cello_position].name
        if not name.isidentifier() or name.startswith("_"):
            raise refusal(
                self, f"{name!r} is not a valid name for a member of {group}", f"Start it with a letter: {group}.i"
            )
        position(self)
        return Symbol(tracer, tracer.write("parameter", name=f"{group}.{name}"))
