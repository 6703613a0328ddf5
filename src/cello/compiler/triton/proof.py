"""Prove kernels on the GPU where they are first used: what they compute of a small batch, beside float64 on the CPU.

Which kernel is right on which GPU, by which driver and release of Triton, nobody has tried for all. So each is run once
on made-up clips before it computes a user's, and what was found is remembered. Where it is wrong, another way of
dividing the work takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cello.cells.definition import Cell
from cello.compiler.inputs import Inputs
from cello.compiler.triton.build import Kernels, kernels
from cello.compiler.triton.cooperative import cooperative
from cello.compiler.triton.launch import BatchLayout, Call, Tiling, run_backward, run_forward
from cello.compiler.triton.machine_code import Taken
from cello.compiler.triton.made_up import MadeUp, chained, disturbed, expected, in_float32, made_up
from cello.compiler.triton.names import Names
from cello.compiler.triton.rounds import Gpu
from cello.compiler.triton.spaces import Sizes
from cello.compiler.triton.stacked import StackedInputs
from cello.compiler.triton.text import is_exact, laid_out, waits
from cello.compiler.triton.verdicts import Pass, Verdict

BOUNDS = {"ieee": (2e-5, 2e-4), "tf32": (0.02, 0.06), "bf16": (0.1, 0.3)}
"""The largest root mean square of errors, as a share of that of the true values: of outputs and states, of derivatives.

Of smooth cells of the zoo at H of 16 and 64, outputs and states have at most a ninth of it, derivatives a sixth."""
JUMPS = frozenset(("floor", "round", "sign", "mod"))
"""Operations that rounding may bring to the other side of where they jump, and with them all that follows; so does a
choice of two numbers, such as a spike or none."""
KINKS = frozenset(("relu", "abs", "minimum", "maximum", "largest", "where"))
"""Those whose derivatives jump."""
OF_JUMPS, OF_KINKS = 0.7, 0.3
"""The bound of all values, and of derivatives, of a cell with such, but in IEEE float32: values of other units, or
of none, have 1 and more."""
BATCHES = 3
"""Batches of a cell with such, of which one has to be right: where few elements decide, one that jumps is much."""
DIGITS = {"ieee": 2.0**-24, "tf32": 2.0**-11, "bf16": 2.0**-9}
"""The share of a number that is about what rounding takes of it."""
UNSURE = 4
"""How many times what the truth itself changes, by such shares of all that is given or in float32, is allowed too."""
LEAST = 0.05
"""The share of all derivatives' root mean square below which those of a tensor are not told from it."""
TENSORS = ("frames", "wide", "inner", "invariant", "first")
"""Those of which the kernels give derivatives, as :class:`StackedInputs` and :class:`Derivatives` call them."""

NOT_FINITE = "are not finite"
"""What is told of a tensor with NaN or infinity."""
Bounds = tuple[float, float]
Trying = Callable[[Pass], AbstractContextManager[object]]
"""What a pass is run in, by its name."""
Given = Callable[[Inputs, Names], tuple[BatchLayout, StackedInputs]]
"""How a back end lays out the clips and tensors of one replicate."""


class NoTruthError(Exception):
    """Nothing can be said of a kernel: what it is to give cannot be computed."""


class Way(NamedTuple):
    """How a pass is divided, and what its kernel takes."""

    tiling: Tiling
    taken: Taken | None = None


class Pair(NamedTuple):
    """Both passes; no backward pass where no derivative is wanted."""

    forward: Way
    backward: Way | None = None


@dataclass(frozen=True)
class Asked:
    """What kernels are asked for: of which cell and sizes, by which products, of tensors of which dtype and device, and
    whether backward may follow."""

    cell: Cell
    sizes: Sizes
    precision: str
    dtype: torch.dtype
    device: torch.device
    keep: bool


def programs_at_once(cell: Cell, way: str, one: Way, gpu: Gpu) -> int | None:
    """How many programs of "forward" or "backward" run at the same time; None where they take turns."""
    tiling, taken = one
    together = cooperative(tiling.split, waits=waits(cell, way, tiling.reread), cluster=tiling.cluster)
    return gpu.multiprocessors * gpu.beside(tiling, taken) if together else None


def proved(asked: Asked, pair: Pair, gpu: Gpu, given: Given, trying: Trying) -> Verdict:
    """Compute a made-up batch by these kernels, each within ``trying`` of its pass, and compare it with float64.

    A GPU compiles them before: what may end the process is then over in a moment.

    Raises:
        NoTruthError: no batch can be made up for the cell, or not computed in float64.
    """
    rows = max(one.tiling.rows for one in pair if one)
    bounds, smooth = bounds_of(asked.cell, asked.precision)
    for seed in range(1 if smooth else BATCHES):
        try:
            batch = made_up(asked.cell, asked.sizes, asked.dtype, rows, seed)
            true = expected(batch, derivatives=asked.keep)
        except Exception as error:
            raise NoTruthError from error
        found = computed(asked, pair, gpu, batch, given, trying)
        verdict = compared(found, true, batch.first_tile, bounds)
        if not verdict.right:
            try:
                unsure = _unsure(asked, batch, true)
            except Exception as error:
                raise NoTruthError from error
            verdict = compared(found, true, batch.first_tile, bounds, unsure)
        if verdict.right or NOT_FINITE in verdict.why:
            break
    return verdict


def _unsure(asked: Asked, batch: MadeUp, true: dict[str, Tensor]) -> dict[str, float]:
    """By how much the truth itself changes where its digits do, or it is computed in float32."""
    digits = DIGITS[asked.precision.removesuffix(" checked")]
    others = [expected(each, derivatives=asked.keep) for each in (disturbed(batch, digits), in_float32(batch))]
    of_each = [errors({name: each.double() for name, each in one.items()}, true, batch.first_tile) for one in others]
    return {name: max(shares[name] for shares in of_each) for name in true}


def computed(
    asked: Asked, pair: Pair, gpu: Gpu, batch: MadeUp, given: Given, trying: Trying = nullcontext
) -> dict[str, Tensor]:
    """What the kernels give of a made-up batch, by name, each (2, ...) in float64 on the CPU."""
    device, of_states = asked.device, batch.replicates[0].state
    names = laid_out(asked.cell, pair.forward.tiling.reread)
    both = [given(one, names) for one in batch.replicates]
    layout, tensors = _together([one[0] for one in both], device), _stacked([one[1] for one in both], asked)
    slopes = [torch.stack(each) for each in zip(*batch.upstream, strict=True)]
    upstream = slopes[0].flatten(3), torch.cat([each.flatten(1) for each in slopes[1:]], 1)
    call, there = call_of(asked, pair, gpu, layout), tuple(_there(each, asked) for each in upstream)
    if device.type == "cuda":
        compiling = Kernels(Compiling(call.kernels.forward), Compiling(call.kernels.backward))
        _launched(replace(call, kernels=compiling), tensors, there, nullcontext)
    outputs, last, rows = _launched(call, tensors, there, trying)
    parts = torch.split(last, [part.numel() for part in of_states], 1)
    states = zip(asked.cell.states, parts, of_states, strict=True)
    found = {"outputs": outputs.view(2, *batch.upstream[0][0].shape)}
    found |= {f"last {name}": part.reshape(2, *like.shape) for name, part, like in states}
    if rows is None:
        return found
    of_each = []
    for number, (_, tensor) in enumerate(both):
        some = [name for name in TENSORS if getattr(tensor, name).requires_grad]
        values = [getattr(tensor, name) for name in some]
        from_them = [rows[name][number].view_as(value) for name, value in zip(some, values, strict=True)]
        of_each.append(chained(values, from_them, batch.leaves(number)))
    return found | {name: torch.stack([one[name] for one in of_each]) for name in of_each[0]}


def _launched(
    call: Call, tensors: StackedInputs, upstream: tuple[Tensor, ...], trying: Trying
) -> tuple[Tensor, Tensor, dict[str, Tensor] | None]:
    """Outputs, last states, and all derivatives where they are wanted, in float64 on the CPU."""
    device = call.layout.place.device
    with trying("forward"):
        outputs, last, saved = run_forward(call, tensors, keep=call.keep)
        finished(device)
    rows = None
    if call.keep:
        d_outputs, d_last = upstream
        with trying("backward"):
            back = run_backward(call, tensors, last, saved, (d_outputs, d_last), through_frames=True)
            finished(device)
        rows = {name: _exact(getattr(back, name)) for name in TENSORS}
    return _exact(outputs), _exact(last), rows


def finished(device: torch.device) -> None:
    """Wait for what this thread has asked of a device."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()


@dataclass(frozen=True)
class Compiling:
    """Stands for a kernel: a launch compiles it, and is none."""

    kernel: Any

    def __getitem__(self, grid: tuple[int, int]) -> Callable[..., None]:
        def compile_only(*given: Any, **constants: Any) -> None:
            self.kernel.warmup(*given, grid=grid, **constants)

        return compile_only


def call_of(asked: Asked, pair: Pair, gpu: Gpu, layout: BatchLayout) -> Call:
    """A call of these kernels as they are, whatever batch there is."""
    cell, (forward, backward), exact = asked.cell, pair, is_exact(asked.precision)
    how = {"interpreted": asked.device.type == "cpu", "exact": exact}
    made = kernels(cell, forward.tiling.reread, **how)
    if backward is not None:
        made = Kernels(made.forward, kernels(cell, backward.tiling.reread, **how).backward)
    at_once = programs_at_once(cell, "forward", forward, gpu)
    at_once_back = programs_at_once(cell, "backward", backward, gpu) if backward else None
    return Call(
        laid_out(cell, forward.tiling.reread),
        made,
        layout,
        forward.tiling,
        asked.precision,
        asked.sizes,
        asked.keep,
        backward.tiling if backward else None,
        (at_once, at_once_back),
        gpu.multiprocessors,
    )


def _together(layouts: list[BatchLayout], device: torch.device) -> BatchLayout:
    def there(name: str) -> Tensor:
        return torch.cat([getattr(one, name) for one in layouts]).to(device)

    tensors = {"place": there("place"), "length": there("length"), "start": there("start")}
    return replace(layouts[0], **tensors, reverse=there("reverse"))  # type: ignore[arg-type]


def _stacked(both: list[StackedInputs], asked: Asked) -> StackedInputs:
    masks = tuple(_there(torch.cat(each), asked) for each in zip(*(one.masks for one in both), strict=True))
    each = {name: _there(torch.cat([getattr(one, name) for one in both]), asked) for name in TENSORS}
    return StackedInputs(**each, masks=masks)


def _there(value: Tensor, asked: Asked) -> Tensor:
    return value.detach().to(asked.dtype).to(asked.device).contiguous()


def _exact(value: Tensor | None) -> Tensor:
    assert value is not None  # derivatives of frames are, where they are asked for
    return value.detach().to("cpu", torch.float64)


def bounds_of(cell: Cell, precision: str) -> tuple[Bounds, bool]:
    """Those of a cell in a precision, and whether it is smooth."""
    nodes, precision = cell.graph.nodes, precision.removesuffix(" checked")
    chosen = [{nodes[k].op for k in node.args[2:]} for node in nodes if node.op == "where"]
    jumps = {"constant"} in chosen or any(node.op in JUMPS for node in nodes)
    bounds, smooth = BOUNDS[precision], not jumps and not any(node.op in KINKS for node in nodes)
    if smooth or precision == "ieee":
        return bounds, smooth
    return ((OF_JUMPS, OF_JUMPS) if jumps else (bounds[0], max(bounds[1], OF_KINKS))), False


def compared(
    found: dict[str, Tensor],
    true: dict[str, Tensor],
    first_tile: Tensor,
    bounds: Bounds,
    unsure: Mapping[str, float] | None = None,
) -> Verdict:
    """Whether all that was computed is as near to the truth as rounding allows; outputs and states are looked at first,
    of derivatives the worst is told. ``unsure`` is by how much the truth itself changes where its digits do."""
    shares = errors(found, true, first_tile)
    allowed = {name: max(bounds[is_derivative(name)], UNSURE * (unsure or {}).get(name, 0.0)) for name in shares}
    wrong = [name for name, share in shares.items() if share > allowed[name] or share == inf]
    if not wrong:
        return Verdict("right")
    name = next((name for name in wrong if not is_derivative(name)), max(wrong, key=shares.__getitem__))
    by = f"{shares[name]:.2g} of their root mean square, where {allowed[name]:.2g} is allowed"
    why = f"{name} differ from float64 by {by}" if isfinite(shares[name]) else f"{name} {NOT_FINITE}"
    return Verdict("backward" if is_derivative(name) else "forward", "gives wrong numbers", why)


def is_derivative(name: str) -> bool:
    """Whether this is the name of derivatives, rather than of outputs or states."""
    return name.startswith("derivatives")


def errors(found: dict[str, Tensor], true: dict[str, Tensor], first_tile: Tensor) -> dict[str, float]:
    """The root mean square of each tensor's errors as a share of that of its values, infinite where one is no number;
    of the clips of each program where it has clips.

    Derivatives of a tensor that are small beside those of all others are what is left of larger ones, so they are not
    told from ``LEAST`` of these.
    """
    derivatives = [value.flatten() for name, value in true.items() if is_derivative(name)]
    least = LEAST * _rms(torch.cat(derivatives)) if derivatives else 0.0
    shares = {}
    for name, value in true.items():
        floor = max(least if is_derivative(name) else 0.0, 1e-30)
        of_clips = not is_derivative(name) or " the " in name  # a weight's are named by its name alone
        tiles = (first_tile, ~first_tile) if of_clips else (slice(None),)
        shares[name] = max(_share(found[name][tile], value[tile], floor) for tile in tiles)
    return shares


def _share(found: Tensor, true: Tensor, floor: float) -> float:
    known = true.isfinite()  # of clips without frames a state may be infinite
    share = _rms((found - true)[known]) / max(_rms(true[known]), floor)
    return share if isfinite(share) else inf  # not a number either


def _rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt()) if values.numel() else 0.0
