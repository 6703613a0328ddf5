"""Random legal cells, for every target that renders equations."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from cello.cells.annotations import Heads, Parts, Size
from cello.cells.definition import Cell
from cello.cells.definition import cell as make_cell
from cello.cells.functions import (
    atan,
    columns,
    cos,
    erf,
    exp,
    expm,
    floor,
    maximum,
    minimum,
    mod,
    outer,
    relu,
    round,
    rows,
    sigmoid,
    sign,
    sin,
    softmax,
    softplus,
    sqrt,
    stop,
    tanh,
    where,
)
from cello.cells.signature import Scalar

UNARY: list[Callable[[Any], Any]] = [
    sigmoid, tanh, relu, softplus, abs, lambda v: -v, lambda v: sqrt(1 + v * v), lambda v: 1 - v, lambda v: v - 0.5,
    sin, cos, atan, erf,
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


OVER_UNITS: list[Callable[[Any], Any]] = [
    lambda v: v.mean(), lambda v: v.max(), lambda v: 0.3 * tanh(v).sum(), lambda v: (v * v).mean(),
]  # fmt: skip
OF_MATRICES: list[Callable[[Any, Any], Any]] = [
    lambda m, n: 0.5 * m + n, lambda m, n: tanh(m) * n, lambda m, n: m - sigmoid(n), lambda m, n: maximum(m, 0.1 * n),
    lambda m, n: where(m > 0.2, n, 0.1),
]  # fmt: skip


def random_sized_cell(seed: int, size: int) -> Cell:
    """A legal cell of values of several sizes: half of H, 5, D, one number a step, two heads, and a frame of parts.

    D must be odd and above 2, H a multiple of 2. Its function makes the same random choices on every call.
    """
    parts, small = random.Random(seed).random() < 0.5, seed % 3 == 0
    rows_of = {"m": Size("H/2"), "f": Size(5), "d": Size("D"), "g": Size(1)}

    def drawn(x, h, c, k, S, W, Wm, Wf, Wd, Wg, M, p, s):  # type: ignore[no-untyped-def] # noqa: PLR0913, PLR0917
        choose, matrices = random.Random(seed), {"h": W, "m": Wm, "f": Wf, "d": Wd, "g": Wg}
        pools: dict[str, list[Any]] = {
            "h": [W.h @ x, c, p.c * c, 0.3 * (M.a @ c)],
            "m": [Wm.a @ c],
            "f": [k, Wf.a @ (x.a if parts else x)],
            "d": [x, Wd.a @ c],
            "g": [Wg.a @ x, s * c.mean(), x.gap if parts else x.max()],
            "S": [S, outer(c, W.v @ x)],
        }
        pools["m"] += [h] if small else []
        pools["h"] += [] if small else [h]
        for n in range(1, size):
            kind = choose.choice("hhhmfdgS")
            pool = pools[kind]
            a, b = choose.choice(pool), choose.choice(pool)
            way = choose.randrange(5)
            if kind == "S":
                vectors = [choose.choice(pools["h"]) for _ in range(2)]
                more = [outer(*vectors), rows(tanh(vectors[0])) * a, columns(tanh(vectors[1])) * b]
                pool.append(choose.choice([*more, choose.choice(OF_MATRICES)(a, b), choose.choice(pools["g"]) * a]))
            elif way == 0:
                source = choose.choice(pools[choose.choice("hmfd")])
                pool.append(getattr(matrices[kind], f"{kind}{n}") @ tanh(source))
            elif way == 1:
                pool.append(choose.choice(UNARY)(a))
            elif way == 2 and kind != "g":
                pools["g"].append(choose.choice(OVER_UNITS)(a))
                pool.append(sigmoid(pools["g"][-1]) * b)
            elif way == 3 and kind == "h":
                matrix = choose.choice(pools["S"]) if choose.random() < 0.5 else getattr(M, f"h{n}")
                pool.append(tanh(matrix @ a) if choose.random() < 0.5 else tanh(matrix.T @ a) + softmax(b))
            else:
                pool.append(choose.choice(BINARY)(a, b))
        last = {kind: tanh(0.3 * pool[-1] + 0.1 * sum(pool[1:-1], start=pool[0])) for kind, pool in pools.items()}
        wide = tanh(W.o @ last["d"] + W.q @ last["m"] + W.r @ last["f"] + last["S"] @ last["h"])
        c = last["g"] * wide + last["h"]
        return (tanh(W.n @ c + W.l @ h) if small else c * p.h), wide - c, last["f"], last["S"]

    drawn.__annotations__ = {"h": rows_of["m"] if small else Size("H"), "k": rows_of["f"], "S": Heads(2)}
    drawn.__annotations__ |= {"M": Heads(2), "s": Scalar, **{f"W{kind}": own for kind, own in rows_of.items()}}
    drawn.__annotations__ |= {"x": Parts("a", "b", gap=1)} if parts else {}
    return make_cell(drawn)


@make_cell
def rare(x, h, v, W, U, b):  # type: ignore[no-untyped-def]
    """The functions that few cells use, those with steps too."""
    a = W.a @ x + U.a @ h + b.a
    wave = sin(3 * a) + cos(a - v) + erf(a) + atan(2 * a)
    steps = floor(2.1 * a) + round(1.3 * v) - sign(a + b.sign)
    soft = sigmoid(4 * (v - 0.3))
    spike = soft + stop(where(v > 0.3, 1, 0) - soft)
    v = 0.5 * v + a + 0.1 * steps * mod(3 * a, 1.3) - 0.2 * spike
    h = tanh(0.3 * wave + 0.2 * spike + 0.1 * mod(v, -0.7))
    return h, v
