"""Write one step of a cell as a JavaScript function of its own."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from importlib import resources

from cello.cells.arrays import Precision
from cello.cells.definition import Cell
from cello.cells.graph import one_size
from cello.compiler.deep import deep
from cello.compiler.js.names import fresh
from cello.compiler.js.sized import SizedStep
from cello.compiler.js.units import UnitStep


def runtime(cells: Iterable[Cell] = ()) -> str:
    """The functions that every cell's step is written with, and where cells need them those of several sizes."""
    names = ["runtime.js", *(["sized.js"] if any(not one_size(cell.graph) for cell in cells) else [])]
    return "\n".join(resources.files("cello.compiler.js").joinpath(name).read_text(encoding="utf-8") for name in names)


@lru_cache(maxsize=256)
@deep()
def step_text(cell: Cell, name: str | None = None, precision: Precision = "float32") -> str:
    """A function ``name(weights, H)`` that gives ``{states, step(x)}``, complete but for ``runtime()``.

    ``weights`` holds a Float32Array for each parameter by its name in the equations, matrices row by row. ``step(x)``
    takes a frame (D,), replaces ``states``, each (H,) and zero at first, and returns the output, which is the first.
    In float64 what it computes is kept in arrays of doubles, and nothing is rounded.
    Where values have several sizes, the function takes D as a third argument; matrices of states are row by row.

    Raises:
        CellError: an operation that JavaScript has no row for.

    >>> from cello.cells.load import load_cell
    >>> print(step_text(load_cell("rnn")))  # doctest: +ELLIPSIS
    // rnn: ...
    //   h[t] = tanh(W @ x[t] + U @ h[t-1] + b)
    function rnn(weights, H) {
      const W = weights["W"], U = weights["U"], b = weights["b"];
      const h = new Float32Array(H), h_next = new Float32Array(H);
      return {
        states: [h],
        step(x) {
          for (let j = 0; j < H; j++) {
            // h[t] = tanh(W @ x[t] + U @ h[t-1] + b)
            h_next[j] = Math.tanh(dot(W, x, j) + dot(U, h, j) + b[j]);
          }
          h.set(h_next);
          return h;
        },
      };
    }
    """
    kind = UnitStep if one_size(cell.graph) else SizedStep
    return "\n".join(kind(cell, precision).lines(name or function_name(cell)))


def function_name(cell: Cell) -> str:
    """The identifier of a cell's function: its name if that can be one."""
    plain = cell.name.replace("-", "_")
    return plain if plain.isascii() and plain.isidentifier() else fresh(plain, 0)
