"""Choose the back end of a scan from one table of what each runs, and why not the rest.

To add one, write a function that computes a scan from its :class:`~cello.compiler.inputs.Inputs` and :func:`register`
it; nothing else changes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from cello.cells.definition import Cell
from cello.compiler.c.scan import run as run_c
from cello.compiler.c.scan import unavailable, unsupported
from cello.compiler.inputs import Inputs
from cello.compiler.plain.scan import run as run_plain
from cello.compiler.tracing import constant_result
from cello.compiler.triton.scan import run as run_triton
from cello.compiler.triton.scan import unavailable as triton_unavailable
from cello.compiler.triton.scan import unsupported as triton_unsupported
from cello.errors import BackendError, unknown

AUTO = "auto"
PRECISIONS = ("float32", "bf16")
"""What a scan may ask for: products as precise as the tensors, or of operands rounded to bfloat16."""


def _runs_everything(_: Inputs) -> str | None:
    return None


def _is_here(_: Cell, __: torch.dtype) -> str | None:
    return None


@dataclass(frozen=True)
class Backend:
    """One way to compute scans.

    ``run`` gives the outputs (B, T, H), zero after a clip's end, and S last states (B, H). ``unsupported`` says why it
    cannot run a scan, by its device, dtype, cell, or whether derivatives are wanted, in words that follow its name:
    "runs on the CPU, not on cuda; move the tensors"; None: it can. It is asked at every call. ``unavailable`` says, in
    whole sentences, why it cannot run a cell in a dtype on this machine; it is asked once for each, by "auto" alone.
    ``precisions`` are those of products that a scan may ask for by name.
    """

    name: str
    run: Callable[[Inputs], tuple[Tensor, tuple[Tensor, ...]]]
    unsupported: Callable[[Inputs], str | None] = _runs_everything
    unavailable: Callable[[Cell, torch.dtype], str | None] = _is_here
    precisions: tuple[str, ...] = ("float32",)

    def refuses(self, inputs: Inputs) -> str | None:
        """Why it cannot run this scan in the precision asked for, in words that follow its name; None: it can."""
        if inputs.precision not in self.precisions:
            return f"has no products in {inputs.precision}; leave precision out"
        return self.unsupported(inputs)


TABLE: dict[str, Backend] = {
    each.name: each
    for each in (
        Backend("c", run_c, unsupported, unavailable, PRECISIONS),
        Backend("triton", run_triton, triton_unsupported, triton_unavailable),
        Backend("plain", run_plain),
    )
}
"""Every back end by its name, the one that "auto" prefers first; the last one runs every scan."""


def register(backend: Backend, *, before: str) -> None:
    """Add a back end, or put it in the place of the one of its name; "auto" prefers it to the one named ``before``.

    Raises:
        BackendError: there is no back end of that name to stand before.
    """
    if before not in TABLE:
        raise BackendError(unknown("back end", before, TABLE))
    order: list[Backend] = []
    for each in TABLE.values():
        if each.name == before:
            order.append(backend)
        if each.name != backend.name:
            order.append(each)
    TABLE.clear()
    TABLE.update({each.name: each for each in order})


def names() -> tuple[str, ...]:
    """What a scan may be asked for: "auto", then every back end, the preferred ones first."""
    return AUTO, *TABLE


def check_name(backend: str) -> None:
    """Refuse a back end that does not exist.

    Raises:
        BackendError: there is none of this name.
    """
    if backend not in TABLE and backend != AUTO:
        raise BackendError(unknown("back end", backend, names(), 'Write backend="auto" for the best one here.'))


def check_precision(precision: str) -> None:
    """Refuse a precision that does not exist.

    Raises:
        BackendError: there is none of this name.
    """
    if precision not in PRECISIONS:
        raise BackendError(unknown("precision", precision, PRECISIONS))


def fallback() -> Backend:
    """The one that runs every scan."""
    return next(reversed(TABLE.values()))


def choose(asked: str, inputs: Inputs) -> Backend:
    """The back end asked for or, for "auto", the first in the table that can run this scan here.

    Raises:
        BackendError: the one asked for cannot run this scan; why, and what to do.
    """
    if asked != AUTO:
        reason = TABLE[asked].refuses(inputs)
        if reason is not None:
            other = ', or use backend="auto"' if inputs.precision == "float32" else ""
            raise BackendError(f'backend="{asked}" {reason}{other}')
        return TABLE[asked]
    if inputs.precision != "float32":
        return _with_precision(inputs)
    for each in TABLE.values():
        if each.unsupported(inputs) is None and _is_available(each.name, inputs.cell, inputs.frames.dtype):
            return each
    return fallback()


def _with_precision(inputs: Inputs) -> Backend:
    """The first that takes products in the precision asked for; nothing else may take its place."""
    able = [each for each in TABLE.values() if inputs.precision in each.precisions]
    for each in able:
        if each.unsupported(inputs) is None:
            return each
    reason = able[0].unsupported(inputs)
    raise BackendError(f'precision="{inputs.precision}" needs backend="{able[0].name}", which {reason}')


@constant_result
def _is_available(name: str, cell: Cell, dtype: torch.dtype) -> bool:
    """Whether a back end can run the cell on this machine; where it cannot, that is said once."""
    reason = _unavailable(TABLE[name], cell, dtype)
    if reason is not None:
        _warn_once(f'cells run without backend="{name}", a few times slower: {reason}')
    return reason is None


@lru_cache(maxsize=1024)
def _unavailable(backend: Backend, cell: Cell, dtype: torch.dtype) -> str | None:
    return backend.unavailable(cell, dtype)


@lru_cache(maxsize=1024)
def _warn_once(text: str) -> None:
    warnings.warn(text, stacklevel=5)
