"""Random legal cells, for every target that renders equations."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from cello.cells.definition import Cell
from cello.cells.definition import cell as make_cell
from cello.cells.functions import (
    cos,
    erf,
    exp,
    expm,
    floor,
    maximum,
    minimum,
    mod,
    relu,
    round,
    sigmoid,
    sign,
    sin,
    softplus,
    sqrt,
    stop,
    tanh,
    where,
)
from cello.cells.signature import Scalar

UNARY: list[Callable[[Any], Any]] = [
    sigmoid, tanh, relu, softplus, abs, lambda v: -v, lambda v: sqrt(1 + v * v), lambda v: 1 - v, lambda v: v - 0.5,
    sin, cos, erf,
]  # fmt: skip
BINARY: list[Callable[[Any, Any], Any]] = [
    lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: a / (1 + abs(b)), minimum, maximum,
    lambda a, b: where(a > b, a, 0.5), lambda a, b: where(a <= b, b, -a), lambda a, b: (1 - a) * b + a * tanh(b),
    lambda a, b: a + stop(b),
]  # fmt: skip

MATRICES: list[Callable[[Any, Any], Any]] = [
    lambda m, n: m - m.T, lambda m, n: m * n, lambda m, n: 0.3 * exp(-abs(m)), lambda m, n: expm(m - m.T),
    lambda m, n: -(m + n.T) / 2, lambda m, n: where(m > n, m, 0),
]  # fmt: skip


def random_cell(seed: int, size: int) -> Cell:
    """A legal cell whose function makes the same random choices on every call, on symbols and on tensors."""

    def drawn(x: Any, h: Any, c: Any, W: Any, U: Any, p: Any, s: Scalar) -> tuple[Any, Any]:
        choose = random.Random(seed)
        pool = [W.first @ x, U.first @ h, p.first * c, s * h]
        for number in range(size):
            a, b = choose.choice(pool), choose.choice(pool)
            kind = choose.randrange(7)
            if kind == 0:
                pool.append(getattr(W, f"a{number}") @ x + getattr(p, f"a{number}"))
            elif kind == 1:
                pool.append(getattr(U, f"a{number}") @ a + b)
            elif kind == 6:
                pool.append(choose.choice(MATRICES)(getattr(U, f"m{number}"), U.first) @ a)
            elif kind == 2:
                pool.append(choose.choice(UNARY)(a))
            else:
                pool.append(choose.choice(BINARY)(a, b))
        new = tanh(0.3 * pool[-1] + 0.1 * sum(pool[:-1], start=c))
        return new, sigmoid(pool[-1] - new)

    return make_cell(drawn)


@make_cell
def rare(x, h, v, W, U, b):  # type: ignore[no-untyped-def]
    """The functions that few cells use, those with steps too."""
    a = W.a @ x + U.a @ h + b.a
    wave = sin(3 * a) + cos(a - v) + erf(a)
    steps = floor(2.1 * a) + round(1.3 * v) - sign(a + b.sign)
    soft = sigmoid(4 * (v - 0.3))
    spike = soft + stop(where(v > 0.3, 1, 0) - soft)
    v = 0.5 * v + a + 0.1 * steps * mod(3 * a, 1.3) - 0.2 * spike
    h = tanh(0.3 * wave + 0.2 * spike + 0.1 * mod(v, -0.7))
    return h, v
