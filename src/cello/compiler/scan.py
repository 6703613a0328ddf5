"""The one entry to running a cell: over all frames of a batch of clips, or one step."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce

import torch
from torch import Tensor

from cello.cells.definition import Cell
from cello.compiler.c_build import can_compile
from cello.compiler.c_op import recorded, scan_op, traced
from cello.compiler.c_scan import Run, Scan, by_length, by_rows, compiled, inputs_of, obstacle
from cello.compiler.inputs import (
    Inputs,
    Lengths,
    check_frames,
    check_weights,
    expanded_masks,
    first_state,
    frames_of_clips,
    freed,
    unknown_values,
)
from cello.compiler.layout import Padded, layout, padded
from cello.compiler.plain import Given, evaluate
from cello.errors import BackendError, unknown

BACKENDS = ("auto", "plain", "c")


@dataclass(frozen=True)
class ScanResult:
    """What a scan gives: ``outputs`` (B, T, H) is the first state after every frame, zero after a clip's end;
    ``state`` is S tensors (B, H), each clip's after its last frame; ``backend`` is the one that computed them.
    """

    outputs: Tensor
    state: tuple[Tensor, ...]
    backend: str


def scan(
    cell: Cell,
    x: Tensor,
    weights: Mapping[str, Tensor],
    *,
    state: Sequence[Tensor] | None = None,
    lengths: Lengths | None = None,
    reverse: bool = False,
    masks: Mapping[str, Tensor] | None = None,
    backend: str = "auto",
) -> ScanResult:
    """Run a cell over the frames of a batch of clips; differentiable in x, the weights and the first state.

    Args:
        x: frames (B, T, D), of any floating dtype; the weights, states and masks have the same, on the same device.
        weights: one tensor for each name of ``cell.parameters(D, H)``.
        state: the states before the first frame, S tensors (B, H); zeros if not given.
        lengths: (B,) frames of each clip, 0 to T, a tensor of integers or a list; frames beyond are not looked at.
            All T if not given.
        reverse: run each clip from its own last frame to its first; ``outputs[b, t]`` then has seen frames t and later.
        masks: for a cell :func:`~cello.cells.noise.with_noise`, a tensor (B, T, H) for each of its masks, or any that
            expands to it; it has no derivative.
        backend: "plain", "c" (the cell compiled for this CPU; it has no second derivatives), or "auto": "c" where it
            can run, else "plain", as on another device or inside the transforms of ``torch.func``; where no kernel can
            be compiled, with a warning that says why.

    Inside ``torch.autocast`` a scan runs in the precision of its weights. ``torch.compile``, ``torch.export`` and
    ``torch.jit.trace`` take one with "c" as a single operation.

    Raises:
        BackendError: a back end that does not exist, or not here: "c" needs a C compiler and a folder for kernels.
        ModelError: tensors that do not fit the cell or each other.

    >>> from cello.cells.load import load_cell
    >>> lstm = load_cell("lstm")
    >>> weights = {name: torch.zeros(shape) for name, shape in lstm.parameters(input_size=3, hidden=2).items()}
    >>> scan(lstm, torch.zeros(5, 7, 3), weights).outputs.shape
    torch.Size([5, 7, 2])
    """
    if backend not in BACKENDS:
        raise BackendError(unknown("back end", backend, BACKENDS, 'Write backend="auto" for the best one here.'))
    check_frames(cell, x, 3, "(B, T, D)")
    masks = masks or {}
    if _autocast(x):
        with torch.autocast(x.device.type, enabled=False):
            x, weights, state, masks = _in_precision_of_weights(x, weights, state, masks)
            return scan(cell, x, weights, state=state, lengths=lengths, reverse=reverse, masks=masks, backend=backend)
    hidden = check_weights(cell, x, weights)
    given = Inputs(x, weights, first_state(cell, x, hidden, state), expanded_masks(cell, x, hidden, masks))
    ends = None if lengths is None else frames_of_clips(lengths, x)
    values = given.values()
    used = _backend(backend, cell, values)
    if used == "c":
        outputs, last = _in_c(cell, given, values, ends, reverse)
    else:
        outputs, last = _plain(cell, given, values, ends, reverse)
    return ScanResult(outputs, last, used)


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


def _backend(asked: str, cell: Cell, values: Sequence[Tensor]) -> str:
    if asked == "plain":
        return asked
    reason = obstacle(values)
    if asked == "c" and reason is not None:
        raise BackendError(f'backend="c" {reason}, or use backend="auto"')
    return "c" if asked == "c" or (reason is None and _runs_in_c(cell, values[0].dtype)) else "plain"


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _runs_in_c(cell: Cell, dtype: torch.dtype) -> bool:
    """Whether C is there and has a kernel of the cell; where it has not, that is said once."""
    return can_compile() and _has_kernel(cell, dtype)


@lru_cache(maxsize=1024)
def _has_kernel(cell: Cell, dtype: torch.dtype) -> bool:
    try:
        compiled(cell, dtype)
    except BackendError as error:
        warnings.warn(f"cell {cell.name!r} runs by plain evaluation, a few times slower: {error}", stacklevel=5)
        return False
    return True


def _plain(
    cell: Cell, given: Inputs, values: Sequence[Tensor], lengths: Tensor | None, reverse: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    if not torch.compiler.is_compiling() and any(map(freed, values)):
        raise given.fault_in_memory(cell)
    x = given.frames
    if lengths is not None and unknown_values(lengths):
        return _plain_padded(cell, given, padded(x, lengths, reverse=reverse))
    plan = layout(x, lengths, reverse=reverse)
    rows = Given(plan.frames(x), {name: plan.frames(mask) for name, mask in given.masks.items()})
    by_step, last = evaluate(cell, rows, plan.sizes, given.weights, plan.sorted(given.state))
    if not by_step:
        return x.new_zeros(plan.batch, plan.steps, given.hidden), given.state
    return plan.outputs(by_step), plan.unsorted(last)


def _plain_padded(cell: Cell, given: Inputs, plan: Padded) -> tuple[Tensor, tuple[Tensor, ...]]:
    x = given.frames
    sizes = (x.shape[0],) * int(x.shape[1])
    rows = Given(plan.frames(x), {name: plan.frames(mask) for name, mask in given.masks.items()})
    by_step, last = evaluate(cell, rows, sizes, given.weights, given.state, plan.running())
    return plan.outputs(by_step) if by_step else x.new_zeros(x.shape[0], 0, given.hidden), last


def _in_c(
    cell: Cell, given: Inputs, values: Sequence[Tensor], lengths: Tensor | None, reverse: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    if recorded(values, lengths):
        inputs = inputs_of(cell, given.weights, given.masks, given.state)
        outputs, *last, _, _ = scan_op(given.frames, inputs, lengths, traced(cell), given.hidden, reverse)
        return outputs, tuple(last)
    if True in map(Tensor.is_neg, values) or 0 in map(Tensor.data_ptr, values):
        if any(map(freed, values)):
            raise given.fault_in_memory(cell)
        given = given.in_memory()
    x = given.frames
    if not x.shape[0] or not x.shape[1]:
        return _plain(cell, given, (), lengths, reverse)
    inputs = inputs_of(cell, given.weights, given.masks, given.state)
    keeping = torch.is_grad_enabled() and any(value.requires_grad for value in (x, *inputs))
    run = Run(*by_length(x, lengths), given.hidden, reverse)
    outputs, *last = Scan.apply(compiled(cell, x.dtype), run, keeping, by_rows(x), *inputs)  # type: ignore[no-untyped-call]
    return outputs, tuple(last)


def step(cell: Cell, x: Tensor, state: Sequence[Tensor] | None, weights: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """One frame (B, D) of each clip: the new states, S tensors (B, H); ``state=None`` begins with zeros.

    Raises:
        ModelError: tensors that do not fit the cell or each other.
    """
    check_frames(cell, x, 2, "(B, D)")
    hidden = check_weights(cell, x, weights)
    return evaluate(cell, Given(x), (len(x),), weights, first_state(cell, x, hidden, state))[1]
