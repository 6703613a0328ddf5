"""Describe the values that a cell declares in its signature: first values of parameters, fixed tensors, first states.

Such a value is data, as the equations are: nodes that give one element from its row ``i`` and column ``j``, the sizes
``D`` and ``H``, numbers and random draws. So it is part of the cell's fingerprint, is stored with it, and is computed
again wherever the cell goes.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cello.cells.arrays import NUMPY
from cello.cells.graph import MATRIX, POINTWISE, Graph, Node, Shape
from cello.cells.sizes import size
from cello.cells.symbol import Symbol
from cello.cells.trace import RUNNING, Tracer
from cello.errors import CellError

Floats = NDArray[np.float64]
Draw = Callable[[str, tuple[int, ...]], Floats]
"""Gives "uniform" numbers from 0 to 1, or "normal" ones of mean 0 and deviation 1, of a shape."""

VALUE_LEAVES = ("size", "index", "constant")
VALUE_OPERATIONS: dict[str, int] = {**POINTWISE, **MATRIX, "product": 2, "uniform": 2, "normal": 2, "radius": 1}
"""Every operation of a declared value and the number of its arguments."""

OF_MATRICES = ("product", "radius", *MATRIX)
"""Those that take a whole matrix."""

LARGEST_SEED = 2**63 - 1

LEARNED, FIXED, STATE = "learned", "fixed", "state"
FIRST = ".first"
"""What follows a state's name in that of its learned first value."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What a signature says of one parameter or state.

    ``kind`` is "learned": first values of a parameter, "fixed": a tensor without derivative, "state": a first state.
    The last of ``nodes`` is the value; there are none where only bounds are declared. A learned value within bounds is
    computed from an unbounded parameter r: low + softplus(r), high - softplus(r), or low + (high - low) sigmoid(r).
    Random numbers of what is not learned come from ``seed``.
    """

    name: str
    kind: str
    shape: Shape
    nodes: tuple[Node, ...] = ()
    low: float | None = None
    high: float | None = None
    seed: int | None = None

    @property
    def bounded(self) -> bool:
        """Whether the value is kept within bounds."""
        return self.low is not None or self.high is not None

    @property
    def random(self) -> bool:
        """Whether random numbers are drawn for it."""
        return any(node.op in ("uniform", "normal") for node in self.nodes)

    def key(self) -> tuple[object, ...]:
        """What of it a fingerprint depends on."""
        nodes = [(n.op, n.args, n.value, n.name if n.op in VALUE_LEAVES else None) for n in self.nodes]
        own = (self.name, self.kind, self.shape, nodes, self.low, self.high)
        return own if self.seed is None else (*own, self.seed)

    def array(self, inputs: int, hidden: int, draw: Draw | None = None) -> Floats:
        """The value for D = ``inputs`` and H = ``hidden``, in double precision."""
        if draw is None and self.seed is not None:
            draw = seeded(self.seed, self.name)
        sizes = {"D": inputs, "H": hidden}
        shape = tuple(size(each, inputs, hidden) for each in self.shape)
        with np.errstate(all="ignore"):
            grid = _Grid(self, sizes, shape, draw).value()
        if len(shape) < 2 and grid.shape[1:] == (1,):
            grid = grid[:, 0]
        return np.broadcast_to(grid if shape else grid.reshape(()), shape).copy()

    def unbounded(self, value: Floats) -> Floats:
        """The parameter r from which a value within the bounds is computed; NaN where it lies outside."""
        with np.errstate(all="ignore"):
            if self.low is not None and self.high is not None:
                return np.asarray(np.log(value - self.low) - np.log(self.high - value))
            if not self.bounded:
                return value
            beyond = value - self.low if self.low is not None else (self.high or 0.0) - value
            return np.asarray(beyond + np.log(-np.expm1(-beyond)))

    def bounded_value(self, r: Any) -> Any:
        """The value of a parameter r, an array."""
        if self.low is not None and self.high is not None:
            return self.low + (self.high - self.low) * NUMPY["sigmoid"](r)
        if self.low is not None:
            return self.low + NUMPY["softplus"](r)
        return r if self.high is None else self.high - NUMPY["softplus"](r)


class _Grid:
    """Evaluates nodes on (rows, columns), either of which may be 1."""

    def __init__(self, declared: Declared, sizes: dict[str, int], shape: tuple[int, ...], draw: Draw | None) -> None:
        self.declared, self.sizes, self.draw = declared, sizes, draw
        self.rows = shape[0] if shape else 1
        self.columns = shape[1] if len(shape) == 2 else self.rows
        self.drawn = (self.rows, self.columns if len(declared.shape) == 2 else 1)

    def value(self) -> Floats:
        values: list[Floats] = []
        for node in self.declared.nodes:
            values.append(np.atleast_2d(self._node(node, [values[arg] for arg in node.args])))
        return values[-1]

    def _node(self, node: Node, args: list[Floats]) -> Any:
        if node.op == "constant":
            return np.float64(node.value or 0.0)
        if node.op == "size":
            return np.float64(self.sizes[str(node.name)])
        if node.op == "index":
            if node.name == "i":
                return np.arange(self.rows, dtype=np.float64)[:, None]
            return np.arange(self.columns, dtype=np.float64)[None, :]
        if node.op in ("uniform", "normal"):
            assert self.draw is not None  # without a seed, fixed tensors and first states draw nothing
            low, high = args
            spread = high - low if node.op == "uniform" else high
            return low + spread * self.draw(node.op, self.drawn)
        square = (self.rows, self.rows)
        if node.op == "product":
            return np.broadcast_to(args[0], square) @ np.broadcast_to(args[1], (self.rows, args[1].shape[1]))
        if node.op == "radius":
            return np.abs(np.linalg.eigvals(np.broadcast_to(args[0], square))).max()
        if node.op in MATRIX:
            return NUMPY[node.op](np.broadcast_to(args[0], square))
        return NUMPY[node.op](*args)


def _random(kind: str, low: Any, high: Any) -> Any:
    tracer = RUNNING.get()
    if tracer is None:
        return partial(_random, kind, low, high)
    _check_declares(tracer, kind)
    values = [value._cello_position if isinstance(value, Symbol) else None for value in (low, high)]
    args = tuple(
        tracer.write("constant", value=float(number)) if at is None else at
        for at, number in zip(values, (low, high), strict=True)
    )
    count = sum(record.op in ("uniform", "normal") for record in tracer.records)
    return Symbol(tracer, tracer.write(kind, args, value=float(count)))


def _check_declares(tracer: Tracer, name: str) -> None:
    """What only values of the signature are made of is refused in equations."""
    if not tracer.declares:
        own = "in a signature it gives first values or a fixed tensor, as in U: Learned(lambda i, j: ...)"
        noise = f'Noise is given as a part of the frame, x: Parts("value", "noise"); {own}'
        raise tracer.error(
            f"{name}() is called in the equations, which are the same at each call",
            f"I{own[1:]}" if name == "spectral_radius" else noise,
        )


def uniform(low: Any = 0.0, high: Any = 1.0) -> Any:
    """Random numbers from ``low`` to ``high``, one an element, as in ``Learned(lambda H: log(uniform(1, H)))``."""
    return _random("uniform", low, high)


def normal(mean: Any = 0.0, deviation: Any = 1.0) -> Any:
    """Random numbers of a normal distribution, one an element."""
    return _random("normal", mean, deviation)


def spectral_radius(matrix: Any) -> Any:
    """The largest modulus of a square matrix's eigenvalues, inside a function of ``Fixed`` or ``Learned``.

    >>> from cello import Fixed
    >>> def reservoir(i, j):
    ...     A = normal(0, 1)
    ...     return 0.9 * A / spectral_radius(A)
    >>> R = Fixed(reservoir, seed=1)
    """
    tracer = RUNNING.get()
    if tracer is None or not isinstance(matrix, Symbol):
        raise CellError(
            "spectral_radius() takes a random or computed matrix, in a function that Fixed or Learned is given."
        )
    _check_declares(tracer, "spectral_radius")
    return Symbol(tracer, tracer.write("radius", (matrix._cello_position,)))


def seeded(seed: int, name: str) -> Draw:
    """Draws that are the same on every machine, normal ones but for the last bit of log and cos: of numpy's PCG64,
    whose stream of 64-bit words does not change.

    Each call draws from a stream of its own, of ``seed``, the name's CRC-32 and the number of the call. A word's upper
    53 bits are a uniform number; two of them are a normal one, by Box and Muller's transform.
    """
    calls = iter(range(LARGEST_SEED))

    def words(count: int) -> Floats:
        sequence = np.random.SeedSequence([seed, zlib.crc32(name.encode()), next(calls)])
        return np.asarray((np.random.PCG64(sequence).random_raw(count) >> np.uint64(11)) * 2.0**-53, np.float64)

    def draw(kind: str, shape: tuple[int, ...]) -> Floats:
        count = int(np.prod(shape))
        if kind == "uniform":
            return words(count).reshape(shape)
        radius, angle = words(2 * count).reshape(2, count)
        return np.asarray(np.sqrt(-2 * np.log1p(-radius)) * np.cos(2 * np.pi * angle)).reshape(shape)

    return draw


def faults_of(declared: Declared) -> Iterator[str]:
    """Why a declared value cannot be used, by computing it for D = 5 and H = 7."""
    if not declared.nodes:
        return
    if declared.kind != LEARNED and declared.random and declared.seed is None:
        yield "is random, but must be the same wherever the cell goes; give it a seed, as in Fixed(..., seed=1)"
        return
    matrices = [node.op for node in declared.nodes if node.op in OF_MATRICES]
    if matrices and (not declared.shape or declared.shape[0] != declared.shape[-1]):
        yield "takes a matrix as a whole, which needs a square matrix or a vector"
        return
    if declared.random and matrices and len(declared.shape) < 2:
        yield "draws random numbers and takes them as a matrix, but is a vector; draw each element by itself"
        return
    indices = {str(node.name) for node in declared.nodes if node.op == "index"}
    if not matrices and (extra := sorted(indices - {"i", "j"} if len(declared.shape) == 2 else indices - {"i"})):
        yield f"depends on the column {extra[0]}, but it is a vector, whose elements have the row i only"
        return
    if indices and not declared.shape:
        yield "depends on the row i, but it is a single number"
        return
    try:
        value = declared.array(5, 7, seeded(declared.seed or 0, declared.name))
    except (ValueError, np.linalg.LinAlgError):
        yield "is no value of this shape, for D = 5 and H = 7"
        return
    yield from _faults_of_value(declared, value)


def _faults_of_value(declared: Declared, value: Floats) -> Iterator[str]:
    wrong = np.isnan(value) if declared.kind == STATE else ~np.isfinite(value)
    if wrong.any():
        yield f"is {value[wrong].flat[0]}, for D = 5 and H = 7"
    elif declared.bounded and not np.isfinite(declared.unbounded(value)).all():
        low, high = ("-inf" if declared.low is None else f"{declared.low:g}", declared.high)
        yield f"is {value.flat[0]:g}, which is not inside its bounds ({low}, {'inf' if high is None else f'{high:g}'})"


def fingerprint(graph: Graph, declared: tuple[Declared, ...], parts: tuple[tuple[str, str], ...] = ()) -> str:
    """16 hexadecimal digits that change with what is computed and with what is declared."""
    if not declared and not parts:
        return graph.fingerprint()
    whole: tuple[object, ...] = (graph.fingerprint(), [one.key() for one in declared])
    if parts:
        whole = (*whole, parts)
    return hashlib.sha256(repr(whole).encode()).hexdigest()[:16]
