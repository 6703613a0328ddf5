"""The one entry to running a cell: over all frames of a batch of clips, or one step."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from cello.cells.definition import Cell
from cello.compiler.c_build import can_compile
from cello.compiler.c_op import scan_op, traced
from cello.compiler.c_scan import TYPES, Run, Scan, by_length, by_rows, compiled, inputs_of
from cello.compiler.layout import Layout, layout
from cello.compiler.plain import Given, evaluate, hidden_size
from cello.errors import BackendError, ModelError, unknown

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
    state: tuple[Tensor, ...] | None = None,
    lengths: Tensor | None = None,
    reverse: bool = False,
    masks: Mapping[str, Tensor] | None = None,
    backend: str = "auto",
) -> ScanResult:
    """Run a cell over the frames of a batch of clips; differentiable in x, the weights and the first state.

    Args:
        x: frames (B, T, D), of any floating dtype; the weights and states have the same.
        weights: one tensor for each name of ``cell.parameters(D, H)``.
        state: the states before the first frame, S tensors (B, H); zeros if not given.
        lengths: (B,) frames of each clip, 0 to T; frames beyond are not looked at. All T if not given.
        reverse: run each clip from its own last frame to its first; ``outputs[b, t]`` then has seen frames t and later.
        masks: for a cell :func:`~cello.cells.noise.with_noise`, a tensor (B, T, H) for each of its masks, or any that
            expands to it; it has no derivative.
        backend: "plain", "c" (the cell compiled for this CPU; it has no second derivatives), or "auto": "c" where a
            kernel can be compiled and run, else "plain", with a warning that says why.

    Inside ``torch.autocast`` a scan runs in the precision of its weights. ``torch.compile`` and ``torch.export`` take
    one with "c" as a single operation.

    Raises:
        BackendError: a back end that does not exist, or not here: "c" needs a C compiler and a folder for kernels.
        ModelError: tensors that do not fit the cell or each other.

    >>> from cello.cells.load import load_cell
    >>> lstm = load_cell("lstm")
    >>> weights = {name: torch.zeros(shape) for name, shape in lstm.parameters(input_size=3, hidden=2).items()}
    >>> scan(lstm, torch.zeros(5, 7, 3), weights).outputs.shape
    torch.Size([5, 7, 2])
    """
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(next(iter(weights.values())).dtype) if weights and x.is_floating_point() else x
        with torch.autocast(x.device.type, enabled=False):
            return scan(cell, x, weights, state=state, lengths=lengths, reverse=reverse, masks=masks, backend=backend)
    used = _backend(backend, cell, x)
    _check_frames(cell, x, 3, "(B, T, D)")
    hidden = _check_weights(cell, x, weights)
    state = _first_state(cell, x, hidden, state)
    if lengths is not None:
        _check_lengths(x, lengths)
    given = _masks(cell, x, hidden, masks or {})
    if used == "c" and x.shape[0] and x.shape[1]:
        outputs, last = _in_c(cell, x, inputs_of(cell, weights, given, state), lengths, reverse)
    else:
        outputs, last = _plain(cell, Given(x, given), weights, state, layout(x, lengths, reverse=reverse))
    return ScanResult(outputs, last, used)


def _plain(
    cell: Cell, given: Given, weights: Mapping[str, Tensor], state: tuple[Tensor, ...], plan: Layout
) -> tuple[Tensor, tuple[Tensor, ...]]:
    rows = Given(plan.frames(given.frames), {name: plan.frames(mask) for name, mask in given.masks.items()})
    by_step, last = evaluate(cell, rows, plan.sizes, weights, plan.sorted(state))
    if not by_step:
        return given.frames.new_zeros(plan.batch, plan.steps, state[0].shape[1]), state
    return plan.outputs(by_step), plan.unsorted(last)


def _in_c(
    cell: Cell, x: Tensor, given: list[Tensor], lengths: Tensor | None, reverse: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    hidden = given[-1].shape[1]
    if torch.compiler.is_compiling():
        outputs, *last, _, _ = scan_op(x, given, lengths, traced(cell), hidden, reverse)
        return outputs, tuple(last)
    keeping = torch.is_grad_enabled() and any(value.requires_grad for value in (x, *given))
    run = Run(*by_length(x, lengths), hidden, reverse)
    outputs, *last = Scan.apply(compiled(cell, x.dtype), run, keeping, by_rows(x), *given)  # type: ignore[no-untyped-call]
    return outputs, tuple(last)


def step(cell: Cell, x: Tensor, state: tuple[Tensor, ...] | None, weights: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """One frame (B, D) of each clip: the new states, S tensors (B, H); ``state=None`` begins with zeros.

    Raises:
        ModelError: tensors that do not fit the cell or each other.
    """
    _check_frames(cell, x, 2, "(B, D)")
    hidden = _check_weights(cell, x, weights)
    return evaluate(cell, Given(x), (len(x),), weights, _first_state(cell, x, hidden, state))[1]


def _backend(name: str, cell: Cell, x: Tensor) -> str:
    if name not in BACKENDS:
        raise BackendError(unknown("back end", name, BACKENDS, 'Write backend="auto" for the best one here.'))
    if name == "c" and (x.device.type != "cpu" or x.dtype not in TYPES):
        raise BackendError(
            f'backend="c" runs float32 and float64 on the CPU, not {x.dtype} on {x.device.type}; '
            f'convert the tensors, or use backend="auto"'
        )
    if name == "auto":
        return "c" if x.device.type == "cpu" and x.dtype in TYPES and _runs_in_c(cell, x.dtype) else "plain"
    return name


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


def _masks(cell: Cell, x: Tensor, hidden: int, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every mask of the cell as (B, T, H)."""
    names = [str(node.name) for node in cell.graph.nodes if node.op == "mask"]
    if names != [*masks] and set(names) != set(masks):
        raise ModelError(
            f"cell {cell.name!r} got masks {', '.join(masks) or 'none'}; it needs {', '.join(names) or 'none'}"
        )
    shape = (x.shape[0], x.shape[1], hidden)
    for name, mask in masks.items():
        fits = len(mask.shape) == 3 and all(size in (1, whole) for size, whole in zip(mask.shape, shape, strict=True))
        if not fits or mask.dtype != x.dtype:
            raise ModelError(
                f"cell {cell.name!r}: mask {name} is {tuple(mask.shape)} of {mask.dtype}; it must expand to "
                f"(B, T, H) = {shape} and be {x.dtype}"
            )
    return {name: mask.detach().expand(shape) for name, mask in masks.items()}


def _check_frames(cell: Cell, x: Tensor, dimensions: int, letters: str) -> None:
    if x.dim() != dimensions:
        raise ModelError(
            f"cell {cell.name!r} got frames of shape {tuple(x.shape)}; they must be {letters}: "
            f"batch first, the numbers of a frame last"
        )
    if not x.is_floating_point():
        raise ModelError(f"cell {cell.name!r} got frames of {x.dtype}; convert them with x.float()")


@lru_cache(maxsize=1024)
def _shapes(cell: Cell, inputs: int, hidden: int) -> dict[str, tuple[int, ...]]:
    return cell.parameters(inputs, hidden)


def _check_weights(cell: Cell, x: Tensor, weights: Mapping[str, Tensor]) -> int:
    """Hold the weights to the shapes the cell declares; returns H."""
    if weights.keys() == _shapes(cell, 1, 1).keys():
        hidden = hidden_size(cell, weights)
        shapes = _shapes(cell, x.shape[-1], hidden).items()
        if all(weights[name].shape == shape and weights[name].dtype == x.dtype for name, shape in shapes):
            return hidden
    raise _fault_in_weights(cell, x, weights)


def _fault_in_weights(cell: Cell, x: Tensor, weights: Mapping[str, Tensor]) -> ModelError:
    names, inputs = _shapes(cell, 1, 1).keys(), x.shape[-1]
    needed = ", ".join(sorted(names))
    if missing := sorted(names - weights.keys()):
        return ModelError(f"cell {cell.name!r} has no weights for {', '.join(missing)}; it needs {needed}")
    if extra := sorted(weights.keys() - names):
        return ModelError(f"cell {cell.name!r} has no parameters {', '.join(extra)}; it needs {needed}")
    hidden = hidden_size(cell, weights)
    for name, shape in _shapes(cell, inputs, hidden).items():
        if tuple(weights[name].shape) != shape:
            return ModelError(
                f"cell {cell.name!r}: {name} is {tuple(weights[name].shape)}, but for frames of D={inputs} "
                f"numbers and H={hidden} units it must be {shape}; see cell.parameters(input_size, hidden)"
            )
    name = next(name for name in names if weights[name].dtype != x.dtype)
    return ModelError(
        f"cell {cell.name!r}: {name} is {weights[name].dtype} but the frames are {x.dtype}; convert one of them"
    )


def _first_state(cell: Cell, x: Tensor, hidden: int, state: tuple[Tensor, ...] | None) -> tuple[Tensor, ...]:
    shape = (len(x), hidden)
    if state is None:
        return tuple(x.new_zeros(shape) for _ in cell.states)
    if len(state) != len(cell.states) or any(tuple(part.shape) != shape or part.dtype != x.dtype for part in state):
        raise ModelError(
            f"cell {cell.name!r} got the state {[(*part.shape, part.dtype) for part in state]}; it needs "
            f"{len(cell.states)} tensors ({', '.join(cell.states)}) of shape {shape} and {x.dtype}"
        )
    return tuple(state)


def _check_lengths(x: Tensor, lengths: Tensor) -> None:
    batch, steps, _ = x.shape
    if lengths.shape != (batch,) or lengths.is_floating_point() or lengths.dtype == torch.bool:
        raise ModelError(
            f"lengths must be {batch} whole numbers, one for each clip, "
            f"not {lengths.dtype} of shape {tuple(lengths.shape)}"
        )
    if torch.compiler.is_compiling():  # no values yet; the operation looks at them when it runs
        return
    if batch and not 0 <= int(lengths.min()) <= int(lengths.max()) <= steps:
        raise ModelError(
            f"lengths go from {int(lengths.min())} to {int(lengths.max())}, but the frames allow 0 to T={steps}"
        )
