"""Take what an operation of the equations is given: values of the same call, and finite numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from numbers import Real
from typing import Any, NoReturn

from cello.cells.methods import remedy
from cello.cells.trace import FUNCTION_NAMES, RUNNING, Value, said
from cello.errors import CellError


class Condition:
    """What where() selects by; ``_cello_sides`` are the values that it compares."""

    __slots__ = ("_cello_sides",)
    _cello_sides: tuple[Any, ...]

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError


class Uncalled:
    """A method of a value, which is not one itself."""

    __slots__ = ()


def refusal(symbol: Value, fact: str, remedy: str) -> CellError:
    """An error on the line that is being executed, of the cell that is being traced."""
    return (RUNNING.get() or symbol._cello_tracer).error(fact, remedy)


def position(symbol: Value) -> int:
    """The symbol's position, if it belongs to the call that is going on.

    Raises:
        CellError: a value that was kept from another call, whose positions mean something else here.
    """
    tracer = symbol._cello_tracer
    if tracer is not RUNNING.get():
        raise refusal(
            symbol,
            f"{symbol!r} is a value of another call, of cell {tracer.cell!r}",
            "Take every value from the arguments of the function, and keep none outside it",
        )
    return symbol._cello_position


TENSOR = "Declare it in the signature, A: Fixed(lambda i, j: ...) by its elements, or learn it, as an argument"
"""What to write instead of an array in the equations."""


def is_tensor(value: Any) -> bool:
    """Whether something is an array or a tensor of elements, not one number."""
    return hasattr(value, "dtype") and bool(getattr(value, "shape", ()))


def _instead_of(value: Any) -> str:
    if isinstance(value, complex):
        return "Write a complex value as two, as in re, im = c * re - s * im, c * im + s * re"
    own = "Write the number itself, or make it a parameter: an argument of the function"
    return TENSOR if is_tensor(value) else own


def operand(beside: Value, value: Any) -> int:
    """The position of a value or of a number, which becomes a constant; anything else is refused."""
    if isinstance(value, Value):
        return position(value)
    if isinstance(value, Condition):
        value._refuse()
    if isinstance(value, Uncalled):
        raise refusal(beside, f"{value!r} is used as a value, but it is a method", f"Write {value!r}()")
    if isinstance(value, list | tuple | dict | set):
        raise refusal(
            beside,
            f"{said(value)} is used where a value of the cell or a number is needed",
            "Write the values one by one: equations have no lists",
        )
    if isinstance(value, bool) or not isinstance(value, Real):
        raise refusal(
            beside,
            f"{said(value)} is combined with {beside!r}, which takes only numbers and values of the cell",
            _instead_of(value),
        )
    try:
        number = float(value) + 0.0  # −0.0 becomes 0.0, so that equal numbers are one constant
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise refusal(
            beside,
            f"the number combined with {beside!r} is {'nan' if math.isnan(number) else 'infinite or too large'}",
            "Write a finite number, below 1.8e308",
        )
    position(beside)
    return beside._cello_tracer.write("constant", value=number)


def foreign(value: Value, library: str, function: Any) -> CellError:
    """The error message for a function of another library that is called on a value."""
    name = getattr(function, "__name__", str(function))
    own = remedy(name, repr(value), FUNCTION_NAMES) or f"Use cello's own: {FUNCTION_NAMES}"
    fact = f"{library}'s {name}() is called on {value!r}, which only the functions of the cell language can take"
    return refusal(value, fact, own)


def symbols_in(values: Any) -> Iterator[Any]:
    """The traced values among these, also those inside of lists and comparisons."""
    for value in values:
        if isinstance(value, Value):
            yield value
        elif isinstance(value, Condition):
            yield from value._cello_sides
        elif isinstance(value, list | tuple | set | dict):
            yield from symbols_in(value.values() if isinstance(value, dict) else value)
