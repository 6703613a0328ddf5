"""Validate the inputs of a scan: frames, weights, initial states, masks and lengths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from cello.cells.definition import Cell
from cello.cells.fit import check_sizes
from cello.cells.sizes import UNITS
from cello.cells.values import FIRST, STATE
from cello.compiler.tracing import cached, constant_result
from cello.errors import ModelError

Lengths = Tensor | Sequence[int]
"""Frames of each clip: an integer tensor of any kind on any device, a list, or a NumPy array."""

ORDINARY = frozenset({Tensor, torch.nn.Parameter})


class Inputs(NamedTuple):
    """What a scan is given, once it is known to fit, and all that a back end is told.

    Frames (B, T, D), a weight for each name of ``cell.parameters(D, H)``, S states (B, H), or of the sizes that the
    cell gives them (``cell.state_sizes(D, H)``), masks (B, T, H), or like their states, by name;
    lengths (B,) on the CPU (on the GPU while a CUDA graph is captured), None where all clips have T frames; whether
    clips run from their last frame to their first; the precision of products, "float32" being that of the tensors.
    """

    cell: Cell
    frames: Tensor
    weights: Mapping[str, Tensor]
    state: tuple[Tensor, ...]
    masks: Mapping[str, Tensor]
    lengths: Tensor | None
    reverse: bool
    precision: str = "float32"

    @property
    def hidden(self) -> int:
        """H."""
        return hidden_size(self.cell, self.weights)

    def values(self) -> list[Tensor]:
        """Every tensor, the frames first."""
        return [self.frames, *self.weights.values(), *self.state, *self.masks.values()]

    @property
    def training(self) -> bool:
        """Whether derivatives may be asked for."""
        return torch.is_grad_enabled() and any(value.requires_grad for value in self.values())

    def in_memory(self) -> Inputs:
        """The same values, each tensor's memory as its elements are read; differentiable."""

        def clean(value: Tensor) -> Tensor:
            return value.clone(memory_format=torch.contiguous_format) if hidden_memory(value) else value

        weights, masks = ({k: clean(value) for k, value in some.items()} for some in (self.weights, self.masks))
        return self._replace(
            frames=clean(self.frames), weights=weights, state=tuple(map(clean, self.state)), masks=masks
        )

    def fault_in_memory(self) -> ModelError:
        """What to tell where a tensor's memory is gone."""
        states = [f"the first state {name}" for name in self.cell.states]
        names = ["the frames", *self.weights, *states, *(f"mask {name}" for name in self.masks)]
        name = next(name for name, value in zip(names, self.values(), strict=True) if freed(value))
        return ModelError(
            f"cell {self.cell.name!r}: the memory of {name} was given back (its storage was resized to 0, as FSDP "
            f"does); gather it before the call"
        )


def check_frames(cell: Cell, x: Tensor, dimensions: int, letters: str) -> None:
    """Refuse frames that are not floating point, of that many dimensions, in ordinary memory."""
    if not isinstance(x, Tensor) or x.is_nested or x.layout is not torch.strided:
        raise ModelError(f"cell {cell.name!r}: x {_unusable(x)}")
    if x.dim() != dimensions:
        raise ModelError(
            f"cell {cell.name!r} got frames of shape {tuple(x.shape)}; they must be {letters}: "
            f"batch first, features last"
        )
    if not x.is_floating_point():
        remedy = "x.dequantize()" if x.is_quantized else "x.abs() or x.real" if x.is_complex() else "x.float()"
        raise ModelError(f"cell {cell.name!r} got frames of {x.dtype}; convert them with {remedy}")


@cached(maxsize=1024)
def _shapes(cell: Cell, inputs: int, hidden: int) -> dict[str, tuple[int, ...]]:
    return cell.parameters(inputs, hidden)


@cached(maxsize=1024)
def _state_sizes(cell: Cell, inputs: int, hidden: int) -> tuple[tuple[int, ...], ...]:
    return cell.state_sizes(inputs, hidden)


def check_weights(cell: Cell, x: Tensor, weights: Mapping[str, Tensor]) -> int:
    """Hold the weights to the shapes the cell declares, and to the frames' dtype and device; returns H."""
    if not torch.compiler.is_compiling() and (hidden := _fitting(cell, x, weights)):
        return hidden
    if weights.keys() == _shapes(cell, 1, 1).keys():
        device, dtype, (name, axis) = x.device, x.dtype, sized(cell)
        first = weights[name]
        hidden = first.shape[axis] if isinstance(first, Tensor) and first.dim() > axis else 0
        shapes = _shapes(cell, int(x.shape[-1]), hidden)
        for name, shape in shapes.items():
            value = weights[name]
            if (
                not isinstance(value, Tensor)
                or value.dtype is not dtype
                or value.layout is not torch.strided
                or value.device != device
                or value.shape != shape
            ):
                break
        else:
            _check_sizes(cell, int(x.shape[-1]), hidden)
            return hidden
    raise _fault_in_weights(cell, x, weights)


SHAPE, DTYPE, LAYOUT, IS_CPU = map(attrgetter, ("shape", "dtype", "layout", "is_cpu"))


def _fitting(cell: Cell, x: Tensor, weights: Mapping[str, Tensor]) -> int:
    """H if all weights fit, else 0; checked all at once, as checks one by one would slow small calls down."""
    (name, axis), dtype = sized(cell), x.dtype
    if type(x) not in ORDINARY:
        return 0
    try:
        hidden = weights[name].shape[axis]
        names, shapes = _expected(cell, x.shape[-1], hidden)
        values = [weights[name] for name in names]
        fits = (
            len(weights) == len(names)
            and ORDINARY.issuperset(map(type, values))
            and [*map(SHAPE, values)] == shapes
            and [*map(DTYPE, values)].count(dtype) == len(names)
            and [*map(LAYOUT, values)].count(torch.strided) == len(names)
            and all(map(IS_CPU, (x, *values)))
        )
    except (AttributeError, LookupError, TypeError, RuntimeError, ModelError):
        return 0
    return hidden if fits else 0


@lru_cache(maxsize=1024)
def _expected(cell: Cell, inputs: int, hidden: int) -> tuple[tuple[str, ...], list[torch.Size]]:
    check_sizes(cell, inputs, hidden)
    shapes = cell.parameters(inputs, hidden)
    return tuple(shapes), [torch.Size(shape) for shape in shapes.values()]


@constant_result
def _check_sizes(cell: Cell, inputs: int, hidden: int) -> bool:
    check_sizes(cell, inputs, hidden)
    return True


def _fault_in_weights(cell: Cell, x: Tensor, weights: Mapping[str, Tensor]) -> ModelError:
    names, inputs = _shapes(cell, 1, 1).keys(), int(x.shape[-1])
    needed = ", ".join(sorted(names))
    if missing := sorted(names - weights.keys()):
        return ModelError(f"cell {cell.name!r} has no weights for {', '.join(missing)}; it needs {needed}")
    if extra := sorted(weights.keys() - names):
        return ModelError(f"cell {cell.name!r} has no parameters {', '.join(extra)}; it needs {needed}")
    for name in names:
        if not isinstance(weights[name], Tensor) or weights[name].layout is not torch.strided:
            return ModelError(f"cell {cell.name!r}: {name} {_unusable(weights[name])}")
    name, axis = sized(cell)
    hidden = weights[name].shape[axis] if weights[name].dim() > axis else 0
    for name, shape in _shapes(cell, inputs, hidden).items():
        if tuple(weights[name].shape) != shape:
            return ModelError(
                f"cell {cell.name!r}: {name} is {tuple(weights[name].shape)}, but for frames of D={inputs} "
                f"features and H={hidden} units it must be {shape}; see cell.parameters(input_size, hidden)"
            )
    return next(fault for name in names if (fault := _unlike_frames(cell, x, name, weights[name])))


def _unlike_frames(cell: Cell, x: Tensor, name: str, value: Tensor) -> ModelError | None:
    """What to tell where a tensor has another dtype, or lies on another device, than the frames."""
    if value.dtype is not x.dtype:
        return ModelError(
            f"cell {cell.name!r}: {name} is {value.dtype} but the frames are {x.dtype}; convert one of them"
        )
    if value.device != x.device:
        return ModelError(
            f"cell {cell.name!r}: {name} is on {value.device} but the frames are on {x.device}; move one of them "
            f"with .to(device)"
        )
    return None


def _unusable(value: Any) -> str:
    """Why a value cannot be computed with, and what to do."""
    if not isinstance(value, Tensor):
        return f"is a {type(value).__name__}; make it a tensor, as with torch.as_tensor"
    if value.is_nested:
        return "is a nested tensor; pad it with torch.nested.to_padded_tensor and give lengths"
    return f"is stored as {value.layout}; make it dense with .to_dense()"


def first_state(
    cell: Cell, x: Tensor, hidden: int, state: Sequence[Tensor] | None, weights: Mapping[str, Tensor]
) -> tuple[Tensor, ...]:
    """The states before the first frame, as the cell declares them if none are given; of the frames' device and dtype.

    A state of which nothing is declared begins at zero.
    """
    batch, shapes = x.shape[0], _state_sizes(cell, int(x.shape[-1]), hidden)
    if state is None and shapes[1:] == shapes[:-1] and _begins_at_zero(cell):
        return (x.new_zeros(batch, *shapes[0]),) * len(cell.states)
    if state is None:
        return tuple(
            _begun(cell, name, x, shape, hidden, weights) for name, shape in zip(cell.states, shapes, strict=True)
        )
    each = " and ".join(str((batch, *shape)) for shape in dict.fromkeys(shapes))
    needed = f"{len(cell.states)} tensors ({', '.join(cell.states)}) of shape {each} and {x.dtype}"
    if isinstance(state, Tensor) or not all(isinstance(part, Tensor) for part in state):
        raise ModelError(f"cell {cell.name!r} got as state a {type(state).__name__}; it needs a tuple of {needed}")
    for name, part in zip(cell.states, state, strict=False):
        if part.layout is not torch.strided:
            raise ModelError(f"cell {cell.name!r}: the first state {name} {_unusable(part)}")
    if len(state) != len(shapes) or any(
        tuple(part.shape) != (batch, *shape) or part.dtype != x.dtype for part, shape in zip(state, shapes, strict=True)
    ):
        raise ModelError(
            f"cell {cell.name!r} got the state {[(*part.shape, part.dtype) for part in state]}; it needs {needed}"
        )
    for name, part in zip(cell.states, state, strict=True):
        if fault := _unlike_frames(cell, x, f"the first state {name}", part):
            raise fault
    return tuple(state)


@cached(maxsize=1024)
def _begins_at_zero(cell: Cell) -> bool:
    """Whether nothing is declared of the first value of any state."""
    return not any(one.kind == STATE or one.name.endswith(FIRST) for one in cell.declared)


def _begun(
    cell: Cell, state: str, x: Tensor, shape: tuple[int, ...], hidden: int, weights: Mapping[str, Tensor]
) -> Tensor:
    if (learned := weights.get(state + FIRST)) is not None:
        return learned.expand(x.shape[0], *shape)
    if cell.declaration(state) is None:
        return x.new_zeros(x.shape[0], *shape)
    first: Tensor = _placed(_first_value(cell, state, int(x.shape[-1]), hidden), x)
    return first.expand(x.shape[0], *shape)


@constant_result
def _first_value(cell: Cell, state: str, inputs: int, hidden: int) -> Tensor:
    return _known_first_value(cell, state, inputs, hidden)


@lru_cache(maxsize=1024)
def _known_first_value(cell: Cell, state: str, inputs: int, hidden: int) -> Tensor:
    value = cell.first_value(state, hidden, inputs)
    assert value is not None  # asked for where one is declared
    return torch.from_numpy(value)


_PLACED: MutableMapping[Tensor, dict[tuple[torch.device, torch.dtype], Tensor]] = WeakTensorKeyDictionary()
"""Tensors that cells declare, and copies of each by device and dtype."""


def _placed(value: Tensor, x: Tensor) -> Tensor:
    """What a cell declares, of the frames' device and dtype; copied from the CPU once, for a CUDA graph holds no copy
    of memory that is not pinned, and each would wait for the device."""
    if torch.compiler.is_compiling() or x.is_cpu or type(x) not in ORDINARY:
        return value.to(x)
    copies = _PLACED.setdefault(value, {})
    key = x.device, x.dtype
    if key not in copies:
        with torch.inference_mode(False):  # else no later call could be differentiated
            found = value.to(*key)
        if type(found) is not Tensor or torch._C._functorch.is_functorch_wrapped_tensor(found):
            return found  # of a mode or transform that is in force now alone
        copies[key] = found
    return copies[key]


def with_fixed(cell: Cell, x: Tensor, hidden: int, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The weights with the tensors that are not learned, of the frames' device and dtype."""
    names = _fixed_names(cell) if cell.declared else ()
    if not names:
        return weights
    if not weights.keys() & set(names):
        values = [_placed(value, x) for value in _fixed(cell, int(x.shape[-1]), hidden)]
        return {**weights, **dict(zip(names, values, strict=True))}
    shapes = _fixed_shapes(cell, int(x.shape[-1]), hidden)
    for name in names:
        given = weights.get(name)
        if not isinstance(given, Tensor) or tuple(given.shape) != shapes[name]:
            raise ModelError(
                f"cell {cell.name!r}: the fixed tensor {name} must be {shapes[name]}; give all fixed tensors or none"
            )
        if fault := _unlike_frames(cell, x, name, given):
            raise fault
        # kernels take a sum over units for a product with a matrix of one number
        if (
            not torch.compiler.is_compiling()
            and type(given) is Tensor
            and given.is_cpu
            and not torch.equal(given, fixed_tensors(cell, int(x.shape[-1]), hidden)[name].to(given))
        ):
            raise ModelError(f"cell {cell.name!r}: the fixed tensor {name} is not what the cell declares; leave it out")
    return weights


def learned_of(cell: Cell, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The weights without fixed tensors, which a caller may give but need not."""
    names = _fixed_names(cell) if cell.declared else ()
    return {name: value for name, value in weights.items() if name not in names} if names else weights


@cached(maxsize=1024)
def _fixed_names(cell: Cell) -> tuple[str, ...]:
    return tuple(cell.fixed())


@constant_result
def _fixed_shapes(cell: Cell, inputs: int, hidden: int) -> dict[str, tuple[int, ...]]:
    return {name: tuple(one.shape) for name, one in fixed_tensors(cell, inputs, hidden).items()}


@constant_result
def _fixed(cell: Cell, inputs: int, hidden: int) -> list[Tensor]:
    return [*fixed_tensors(cell, inputs, hidden).values()]


@lru_cache(maxsize=64)
def fixed_tensors(cell: Cell, inputs: int, hidden: int) -> dict[str, Tensor]:
    """The tensors of a cell that are not learned, in double precision on the CPU; not to be changed."""
    return {name: torch.from_numpy(value) for name, value in cell.fixed_values(inputs, hidden).items()}


@cached(maxsize=1024)
def _mask_names(cell: Cell) -> list[str]:
    return [str(node.name) for node in cell.graph.nodes if node.op == "mask"]


def expanded_masks(cell: Cell, x: Tensor, hidden: int, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every mask of the cell as (B, T, H), or like its state."""
    names = _mask_names(cell)
    if not names and not masks:
        return {}
    if names != [*masks] and set(names) != set(masks):
        raise ModelError(
            f"cell {cell.name!r} got masks {', '.join(masks) or 'none'}; it needs {', '.join(names) or 'none'}"
        )
    shapes = _mask_shapes(cell, x, hidden) if names else {}
    for name, mask in masks.items():
        shape = shapes[name]
        if not isinstance(mask, Tensor) or mask.layout is not torch.strided:
            raise ModelError(f"cell {cell.name!r}: mask {name} {_unusable(mask)}")
        fits = len(mask.shape) == len(shape) and all(
            size in (1, whole) for size, whole in zip(mask.shape, shape, strict=True)
        )
        if not fits or mask.dtype != x.dtype:
            raise ModelError(
                f"cell {cell.name!r}: mask {name} is {tuple(mask.shape)} of {mask.dtype}; it must expand to "
                f"(B, T, {'H' if len(shape) == 3 else 'H, H/n'}) = {shape} and be {x.dtype}"
            )
        if fault := _unlike_frames(cell, x, f"mask {name}", mask):
            raise fault
    return {name: mask.detach().expand(shapes[name]) for name, mask in masks.items()}


def _mask_shapes(cell: Cell, x: Tensor, hidden: int) -> dict[str, tuple[int, ...]]:
    sizes = dict(zip(cell.states, _state_sizes(cell, int(x.shape[-1]), hidden), strict=True))
    return {name: (x.shape[0], x.shape[1], *sizes[name.partition("_")[2]]) for name in _mask_names(cell)}


class _Rehearsal:
    on = False


@contextmanager
def unchecked_lengths() -> Iterator[None]:
    """Leave lengths on a GPU within, as while a CUDA graph is captured, so that a rehearsal runs the same kernels."""
    before, _Rehearsal.on = _Rehearsal.on, True
    try:
        yield
    finally:
        _Rehearsal.on = before


def frames_of_clips(lengths: Lengths, x: Tensor) -> Tensor:
    """The lengths (B,) as int64 on the CPU, from 0 to the T of frames (B, T, ...).

    While a CUDA graph is captured, and within ``unchecked_lengths``, they stay on a GPU, only limited to 0 and T.

    Raises:
        ModelError: they are not whole numbers, not one for each clip, or not within the frames.
    """
    batch, steps = x.shape[0], x.shape[1]
    if not isinstance(lengths, Tensor):
        lengths = _tensor_of(lengths, batch)
    if lengths.shape != (batch,) or lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise ModelError(
            f"lengths must be {batch} whole numbers, one for each clip, "
            f"not {lengths.dtype} of shape {tuple(lengths.shape)}"
        )
    if lengths.is_meta:
        if not x.is_meta:
            raise ModelError(f"lengths are on meta, which holds no data, but the frames are on {x.device}")
        return lengths.to(torch.int64)
    if lengths.is_cuda and x.is_cuda and (_Rehearsal.on or torch.cuda.is_current_stream_capturing()):
        return lengths.to(torch.int64).clamp(0, int(steps))  # what a CUDA graph repeats may ask the device nothing
    lengths = lengths.to("cpu", torch.int64)
    if type(lengths) is not Tensor and not dispatched(lengths):
        lengths = lengths.as_subclass(Tensor)
    if (values := values_of(lengths)) and not 0 <= min(values) <= max(values) <= steps:
        raise ModelError(f"lengths go from {min(values)} to {max(values)}, but the frames allow 0 to T={int(steps)}")
    return lengths


def _tensor_of(lengths: Any, batch: int) -> Tensor:
    try:
        found = torch.as_tensor(lengths, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"lengths must be {batch} whole numbers, one for each clip, not a {type(lengths).__name__} of other things"
        ) from error
    return found if found.numel() else found.to(torch.int64)


def dispatched(value: Tensor) -> bool:
    """Whether a tensor is of a class that answers for itself, and may have no memory of its own."""
    return type(value).__torch_dispatch__ is not torch._C._disabled_torch_dispatch_impl


def hidden_memory(value: Tensor) -> bool:
    """Whether a tensor's memory does not hold its elements: it is negated when read, or there is none behind zeros."""
    return value.is_neg() or (not value.data_ptr() and value.numel() > 0)


def freed(value: Tensor) -> bool:
    """Whether a tensor had memory and lost it; every read of it would crash."""
    if type(value) not in ORDINARY or value.is_meta or torch._C._functorch.is_functorch_wrapped_tensor(value):
        return False
    return not value.data_ptr() and value.numel() > 0 and not value._is_zerotensor()


def unknown_values(lengths: Tensor) -> bool:
    """Whether a result may not depend on the lengths' values, which are others, or none, when it is used.

    ``torch.compile`` is not among these: it goes on after looking at them.
    """
    if torch.compiler.is_compiling() and not torch.compiler.is_exporting():
        return False
    return values_of(lengths) is None


def values_of(lengths: Tensor) -> list[int] | None:
    """The lengths, or None where there are none yet: a program is being recorded, or ``torch.vmap`` goes over them."""
    if (
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or type(lengths) is not Tensor
        or lengths.is_meta
    ):
        return None
    if not torch._C._are_functorch_transforms_active():
        return list(map(int, lengths.tolist()))
    try:
        return list(map(int, lengths.tolist()))
    except RuntimeError:
        return None


def hidden_size(cell: Cell, weights: Mapping[str, Tensor]) -> int:
    """H, as a learned parameter has it."""
    name, axis = sized(cell)
    return int(weights[name].shape[axis])


@cached(maxsize=256)
def sized(cell: Cell) -> tuple[str, int]:
    """The name of a learned parameter that has H elements along an axis, and the axis: a matrix where there is one."""
    nodes = [node for node in cell.parameter_nodes() if UNITS in node.shape]
    matrices = [node for node in nodes if len(node.shape) == 2]  # torch.compile follows this, and knows no max with key
    found = (matrices or nodes)[0]
    return str(found.name), found.shape.index(UNITS)
