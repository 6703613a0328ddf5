# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, disable-error-code="valid-type"
"""The zoo's spiking networks: the output z of a unit is 1 where it fires and 0 elsewhere.

A spike has no derivative of its own; learning goes through a surrogate, as ``soft + stop(hard - soft)``.
"""

from __future__ import annotations

from cello.cells.definition import cell
from cello.cells.functions import exp, maximum, minimum, stop, where
from cello.cells.signature import Learned
from cello.cells.zoo.papers import BELLEC_2018, NEFTCI_2019


@cell(paper=NEFTCI_2019)
def lif(x, z, v, W, U, tau: Learned(2.0, 20.0, log=True, positive=True)):
    """Leaky integrate-and-fire: threshold 1, reset by subtraction, a time constant a unit, in frames.

    The surrogate is the fast sigmoid, whose derivative is 1 / (1 + 10 |v - 1|)²; the paper's input current is left out.
    """
    v = exp(-1 / tau) * v + W @ x + U @ z - z
    u = v - 1
    soft = u / (1 + 10 * abs(u))
    z = soft + stop(where(u > 0, 1, 0) - soft)
    return z, v


@cell(paper=BELLEC_2018)
def lsnn(
    x,
    z,
    v,
    a,
    W,
    U,
    tau: Learned(2.0, 20.0, log=True, positive=True),
    rho: Learned(20.0, 200.0, log=True, positive=True),
):
    """LSNN: every spike raises a unit's threshold 1 + 1.8 a, which falls back with the time constant rho, in frames.

    All units adapt here. The surrogate's derivative is the paper's triangle, 0.3 max(0, 1 - |u|).
    """
    v = exp(-1 / tau) * v + W @ x + U @ z - z * (1 + 1.8 * a)
    a = exp(-1 / rho) * a + (1 - exp(-1 / rho)) * z
    u = (v - (1 + 1.8 * a)) / (1 + 1.8 * a)
    s = maximum(minimum(u, 1), -1)
    soft = 0.3 * (s - 0.5 * s * abs(s))
    z = soft + stop(where(u > 0, 1, 0) - soft)
    return z, v, a
