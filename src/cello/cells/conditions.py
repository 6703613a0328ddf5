"""Compare traced values, and join comparisons with ``&``, ``|`` and ``~``: what where() selects by."""

from __future__ import annotations

from typing import Any, NoReturn

from cello.cells.operands import Condition, foreign, refusal, symbols_in

NO_BRANCH = "`if`, `while`, `and`, `or`, `not`, a < b < c, min() and max() cannot be compiled on"


class Selector(Condition):
    """A condition, which only where() can use; everything else that Python can do to it is refused."""

    __slots__ = ()

    def __repr__(self) -> str:
        raise NotImplementedError

    def select(self, u: Any, v: Any) -> Any:
        """u where the condition holds, v elsewhere."""
        raise NotImplementedError

    def __and__(self, other: Any) -> Joined:
        return Joined("&", self, self._cello_beside(other, "&"))

    def __or__(self, other: Any) -> Joined:
        return Joined("|", self, self._cello_beside(other, "|"))

    def __invert__(self) -> Joined:
        return Joined("~", self)

    def _cello_beside(self, other: Any, sign: str) -> Selector:
        if isinstance(other, Selector):
            return other
        raise refusal(
            self._cello_sides[0],
            f"{self!r} {sign} {other!r}: the right side is no comparison",
            f"Write comparisons in parentheses, ({self!r}) {sign} (a > b)",
        )

    def __bool__(self) -> NoReturn:
        raise refusal(
            self._cello_sides[0],
            f"{NO_BRANCH} the comparison {self!r}, because its value differs from unit to unit",
            f"Write where({self!r}, u, v), minimum(a, b) or maximum(a, b) instead; (a > b) & (c > d), | and ~ for "
            f"several conditions",
        )

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise refusal(
            self._cello_sides[0],
            f"the comparison {self!r} is used as a value, but only where() takes one",
            f"Write where({self!r}, 1, 0) for a number",
        )

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(f"a comparison has no {name}")
        self._refuse()

    def __hash__(self) -> int:
        return id(self)

    def __array_function__(self, function: Any, *_: Any, **__: Any) -> NoReturn:
        raise foreign(self._cello_sides[0], "numpy", function)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> NoReturn:
        raise foreign(next(symbols_in((args, kwargs))), "torch", function)

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _refuse
    __matmul__ = __rmatmul__ = __pow__ = __rpow__ = __mod__ = __rmod__ = __floordiv__ = __rfloordiv__ = _refuse
    __neg__ = __pos__ = __abs__ = __rand__ = __ror__ = __xor__ = __rxor__ = _refuse
    __gt__ = __lt__ = __ge__ = __le__ = __float__ = __int__ = __index__ = __complex__ = __round__ = _refuse
    __getitem__ = __iter__ = __len__ = __contains__ = __call__ = _refuse
    __array__ = __array_ufunc__ = _refuse

    def __eq__(self, _: object) -> NoReturn:
        self._refuse()

    def __ne__(self, _: object) -> NoReturn:
        self._refuse()


class Comparison(Selector):
    """a > b, a >= b, a == b or a != b."""

    __slots__ = ("_cello_sign",)

    def __init__(self, a: Any, sign: str, b: Any) -> None:
        symbol = next(symbols_in((a, b)))
        self._cello_sides = tuple(symbol._cello_operand(side) for side in (a, b))
        self._cello_sign = sign
        if sign in ("==", "!=") and len({side._cello_position for side in self._cello_sides}) == 1:
            raise refusal(
                symbol,
                f"{symbol!r} is compared with itself",
                "A value differs from itself only where it is NaN, which nothing learns from: give frames 0 there, and "
                'a mask as a part, x: Parts("value", "mask")',
            )

    def select(self, u: Any, v: Any) -> Any:
        """u where the comparison holds, v elsewhere."""
        a, b = self._cello_sides
        if self._cello_sign == ">":
            return a._cello_pointwise("where", a, b, u, v)
        if self._cello_sign == ">=":
            return a._cello_pointwise("where", b, a, v, u)
        same, other = (u, v) if self._cello_sign == "==" else (v, u)
        return a._cello_pointwise("where", a, b, other, a._cello_pointwise("where", b, a, other, same))

    def __repr__(self) -> str:
        a, b = self._cello_sides
        return f"{a!r} {self._cello_sign} {b!r}"


class Joined(Selector):
    """Both of two conditions, either of them, or not one."""

    __slots__ = ("_cello_parts", "_cello_sign")

    def __init__(self, sign: str, *parts: Selector) -> None:
        self._cello_sign, self._cello_parts = sign, parts
        self._cello_sides = tuple(side for part in parts for side in part._cello_sides)

    def select(self, u: Any, v: Any) -> Any:
        """u where the condition holds, v elsewhere."""
        first, *others = self._cello_parts
        if self._cello_sign == "~":
            return first.select(v, u)
        rest = others[0].select(u, v)
        return first.select(rest, v) if self._cello_sign == "&" else first.select(u, rest)

    def __repr__(self) -> str:
        if self._cello_sign == "~":
            return f"~({self._cello_parts[0]!r})"
        return f" {self._cello_sign} ".join(f"({part!r})" for part in self._cello_parts)
