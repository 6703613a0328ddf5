"""Mamba of docs/cells.md with 4, 8 and 16 elements a unit, for benchmarks/gpu_resources.py."""

from typing import Any

from cello import Cell, Learned, Members, Size, cell, exp, log, outer, rows, softplus


def _mamba(n: int) -> Cell:
    a, b_and_c = Learned(lambda j: log(j + 1), size=("H", n)), Members(B=Size(n), C=Size(n))

    @cell
    def mamba(x: Any, y: Any, S: Size("H", n), W: Any, A: a, P: b_and_c, d: Any, b: Any) -> Any:  # type: ignore
        """Mamba's selective state space, without convolution and gate."""
        u = W.u @ x
        t = softplus(W.t @ x + b)
        S = exp(-rows(t) * exp(A)) * S + outer(t * u, P.B @ x)
        return S @ (P.C @ x) + d * u, S

    return mamba


mamba_4, mamba_8, mamba_16 = map(_mamba, (4, 8, 16))
