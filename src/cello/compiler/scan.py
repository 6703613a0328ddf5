"""Run a cell over the frames of a batch of clips: the one entry to all back ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from cello.cells.definition import Cell
from cello.compiler.backends import check_name, check_precision, choose, fallback
from cello.compiler.inputs import (
    Inputs,
    Lengths,
    check_frames,
    check_weights,
    expanded_masks,
    first_state,
    frames_of_clips,
    learned_of,
    with_fixed,
)
from cello.compiler.tracing import check_traced


@dataclass(frozen=True)
class ScanResult:
    """What a scan gives: ``outputs`` (B, T, H) is the first state after every frame, zero after a clip's end;
    ``state`` is S tensors (B, H), each clip's after its last frame; ``backend`` is the one that computed them.
    """

    outputs: Tensor
    state: tuple[Tensor, ...]
    backend: str


def scan(  # noqa: PLR0913 - all but three are named and may be left out
    cell: Cell,
    x: Tensor,
    weights: Mapping[str, Tensor],
    *,
    state: Sequence[Tensor] | None = None,
    lengths: Lengths | None = None,
    reverse: bool = False,
    masks: Mapping[str, Tensor] | None = None,
    backend: str = "auto",
    precision: str = "float32",
) -> ScanResult:
    """Run a cell over the frames of a batch of clips; differentiable in x, the weights and the first state.

    Args:
        x: frames (B, T, D), of any floating dtype; the weights, states and masks have the same, on the same device.
        weights: one tensor for each name of ``cell.parameters(D, H)``, as the equations see it: within its bounds where
            the cell declares any. Fixed tensors are computed.
        state: the states before the first frame, S tensors (B, H); if not given, as the cell declares them, zeros where
            it declares nothing.
        lengths: (B,) frames of each clip, 0 to T, a tensor of integers or a list; frames beyond are not looked at.
            All T if not given.
        reverse: run each clip from its own last frame to its first; ``outputs[b, t]`` then has seen frames t and later.
        masks: for a cell :func:`~cello.cells.noise.with_noise`, a tensor (B, T, H) for each of its masks, or any that
            expands to it; it has no derivative.
        backend: what computes it, one of the names in :data:`cello.compiler.backends.TABLE`, or "auto": the first of
            them that can run this scan on this machine. Where one that could run it elsewhere cannot be had here, a
            warning says why, once.
        precision: of the cell's products with matrices: "float32", which is that of the tensors, or "bf16": on a CPU
            with AVX512-BF16, operands of products are rounded to bfloat16, sums and all else stay float32. On a GPU
            it is ``torch.set_float32_matmul_precision`` that says it.

    Inside ``torch.autocast`` a scan runs in the precision of its weights.

    Raises:
        BackendError: a back end that does not exist, cannot run this scan, or cannot be had on this machine.
        ModelError: tensors that do not fit the cell or each other.

    >>> from cello.cells.load import load_cell
    >>> lstm = load_cell("lstm")
    >>> weights = {name: torch.zeros(shape) for name, shape in lstm.parameters(input_size=3, hidden=2).items()}
    >>> scan(lstm, torch.zeros(5, 7, 3), weights).outputs.shape
    torch.Size([5, 7, 2])
    """
    check_name(backend)
    check_precision(precision)
    check_frames(cell, x, 3, "(B, T, D)")
    masks = masks or {}
    if _autocast(x):
        with torch.autocast(x.device.type, enabled=False):
            x, weights, state, masks = _in_precision_of_weights(x, weights, state, masks)
            more = {"lengths": lengths, "reverse": reverse, "masks": masks, "backend": backend, "precision": precision}
            return scan(cell, x, weights, state=state, **more)  # type: ignore[arg-type]
    hidden = check_weights(cell, x, check_traced(cell.name, learned_of(cell, weights)))
    first, whole = first_state(cell, x, hidden, state, weights), expanded_masks(cell, x, hidden, masks)
    ends = None if lengths is None else frames_of_clips(lengths, x)
    inputs = Inputs(cell, x, with_fixed(cell, x, hidden, weights), first, whole, ends, reverse, precision)
    used = choose(backend, inputs)
    outputs, last = used.run(inputs)
    return ScanResult(outputs, last, used.name)


def _autocast(x: Tensor) -> bool:
    if x.is_cpu:
        return torch.is_autocast_enabled("cpu")
    kind = x.device.type
    return kind != "meta" and torch.is_autocast_enabled(kind)


def _in_precision_of_weights(
    x: Tensor, weights: Mapping[str, Tensor], state: Sequence[Tensor] | None, masks: Mapping[str, Tensor]
) -> tuple[Tensor, Mapping[str, Tensor], Sequence[Tensor] | None, Mapping[str, Tensor]]:
    """Everything in the widest dtype of the weights, some of which autocast may have computed in half precision."""
    dtypes = {value.dtype for value in weights.values() if isinstance(value, Tensor)}
    if not dtypes or isinstance(state, Tensor) or not x.is_floating_point():
        return x, weights, state, masks
    dtype = reduce(torch.promote_types, dtypes)

    def to(value: Tensor) -> Tensor:
        return value.to(dtype) if isinstance(value, Tensor) else value

    states = None if state is None else [to(part) for part in state]
    named = [{name: to(value) for name, value in some.items()} for some in (weights, masks)]
    return to(x), named[0], states, named[1]


def step(cell: Cell, x: Tensor, state: Sequence[Tensor] | None, weights: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """One frame (B, D) of each clip: the new states, S tensors (B, H); ``state=None`` begins as the cell does.

    Raises:
        ModelError: tensors that do not fit the cell or each other.
    """
    check_frames(cell, x, 2, "(B, D)")
    hidden = check_weights(cell, x, learned_of(cell, weights))
    first, whole = first_state(cell, x, hidden, state, weights), with_fixed(cell, x, hidden, weights)
    inputs = Inputs(cell, x.unsqueeze(1), whole, first, {}, None, False)
    return fallback().run(inputs)[1]
