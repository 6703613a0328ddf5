"""Make up a small batch for any cell, and compute in float64 what kernels have to give of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from cello.cells.definition import Cell
from cello.cells.values import Declared, Floats
from cello.compiler.inputs import Inputs, with_fixed
from cello.compiler.reference import step
from cello.compiler.triton.spaces import Sizes

LENGTHS = (5, 3, 4, 3)
"""Frames of clips, in turn."""
FURTHER = (3, 1, 0)
"""Frames of the clips of a second tile, the shortest."""


@dataclass(frozen=True, eq=False)
class MadeUp:
    """Two replicates with weights of their own, the second of clips that run backwards, in float64 on the CPU.

    ``upstream`` are the derivatives of each one's outputs (B, T, H) and last states, ``first_tile`` (2, B) says which
    clips the first program has.
    """

    replicates: tuple[Inputs, Inputs]
    upstream: tuple[tuple[Tensor, ...], ...]
    first_tile: Tensor

    def leaves(self, replicate: int) -> dict[str, Tensor]:
        """What derivatives are taken of, by name."""
        of = self.replicates[replicate]
        states = {f"the first {name}": part for name, part in zip(of.cell.states, of.state, strict=True)}
        return {"the frames": of.frames, **of.weights, **states}


def made_up(cell: Cell, sizes: Sizes, dtype: torch.dtype, rows: int, seed: int = 0) -> MadeUp:
    """Clips for two tiles of so many rows, of numbers that the dtype has."""
    drawn = _Drawn(cell, sizes, dtype, seed)
    lengths = torch.tensor([LENGTHS[n % len(LENGTHS)] for n in range(rows)] + [*FURTHER], device="cpu")
    both = drawn.inputs(lengths, reverse=False), drawn.inputs(lengths.flip(0), reverse=True)
    first = torch.arange(len(lengths), device="cpu") < rows
    return MadeUp(both, tuple(drawn.upstream(one) for one in both), torch.stack([first, first.flip(0)]))


def expected(batch: MadeUp, *, derivatives: bool) -> dict[str, Tensor]:
    """Outputs and last states of both replicates, and derivatives of all that is given, by name; each (2, ...)."""
    with torch.autograd.set_detect_anomaly(False):
        both = [_expected(batch, number, derivatives=derivatives) for number in range(2)]
    return {name: torch.stack([one[name] for one in both]) for name in both[0]}


def disturbed(batch: MadeUp, share: float) -> MadeUp:
    """The same with every number of what is given changed by about this share of it, at random."""
    generator = torch.Generator("cpu").manual_seed(0)

    def changed(value: Tensor) -> Tensor:
        noise = torch.randn(value.shape, generator=generator, dtype=torch.float64, device="cpu")
        return (value.detach() * (1 + share * noise)).requires_grad_(value.requires_grad)

    return _changed(batch, changed)


def in_float32(batch: MadeUp) -> MadeUp:
    """The same, to be computed in float32."""

    def narrow(value: Tensor) -> Tensor:
        return value.detach().float().requires_grad_(value.requires_grad)

    found = _changed(batch, narrow)
    both = [one._replace(masks={name: mask.float() for name, mask in one.masks.items()}) for one in found.replicates]
    upstream = tuple(tuple(each.float() for each in one) for one in batch.upstream)
    return replace(found, replicates=(both[0], both[1]), upstream=upstream)


def _changed(batch: MadeUp, changed: Callable[[Tensor], Tensor]) -> MadeUp:
    def all_of(one: Inputs) -> Inputs:
        weights = {name: changed(value) for name, value in one.weights.items()}
        return one._replace(frames=changed(one.frames), weights=weights, state=tuple(map(changed, one.state)))

    first, second = map(all_of, batch.replicates)
    return replace(batch, replicates=(first, second))


def _expected(batch: MadeUp, number: int, *, derivatives: bool) -> dict[str, Tensor]:
    given, names = batch.replicates[number], batch.replicates[number].cell.states
    outputs, last = _scanned(given)
    found = {"outputs": outputs, **{f"last {name}": part for name, part in zip(names, last, strict=True)}}
    if derivatives:
        leaves = batch.leaves(number)
        wanted = [value for value in (outputs, *last) if value.requires_grad]
        slopes = [
            each for each, value in zip(batch.upstream[number], (outputs, *last), strict=True) if value.requires_grad
        ]
        found |= chained(wanted, slopes, leaves)
    return {name: value.detach() for name, value in found.items()}


def _scanned(of: Inputs) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Outputs and last states, all clips of a frame at once: the meaning of a cell clip by clip would take seconds."""
    lengths, steps, states = of.lengths, of.frames.shape[1], dict(zip(of.cell.states, of.state, strict=True))
    assert lengths is not None  # made-up clips have some
    outputs, clips = list[Tensor](), torch.arange(len(lengths), device="cpu")

    def one(frame: Tensor, states: dict[str, Tensor], masks: dict[str, Tensor]) -> list[Tensor]:
        return step(of.cell, frame, {**of.weights, **masks, **states})

    for t in range(steps):
        here = t < lengths
        at = torch.where(here, lengths - 1 - t, 0) if of.reverse else torch.where(here, t, 0)
        masks = {name: mask[clips, at] for name, mask in of.masks.items()}
        new = torch.vmap(one)(of.frames[clips, at], states, masks)
        running = [here.view(-1, *[1] * (part.dim() - 1)) for part in new]
        triples = zip(states, new, running, strict=True)
        states = {name: torch.where(now, part, states[name]) for name, part, now in triples}
        outputs.append(torch.where(running[0], new[0], 0.0))
    by_step = torch.stack(outputs, 1)
    if of.reverse:
        by_step = by_step[clips[:, None], (lengths[:, None] - 1 - torch.arange(steps, device="cpu")) % steps]
    return by_step, tuple(states.values())


def chained(outputs: list[Tensor], upstream: list[Tensor], leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """The derivatives of all leaves from those of what was computed of them, zero where nothing was."""
    values = [value for value in leaves.values() if value.requires_grad]
    found = iter(torch.autograd.grad(outputs, values, upstream, allow_unused=True, materialize_grads=True))
    return {f"derivatives of {name}": next(found) for name, value in leaves.items() if value.requires_grad}


class _Drawn:
    """Draws from a generator of its own on the CPU, so that no other random number changes."""

    def __init__(self, cell: Cell, sizes: Sizes, dtype: torch.dtype, seed: int) -> None:
        self.cell, self.sizes, self.dtype = cell, sizes, dtype
        self.generator = torch.Generator("cpu").manual_seed(seed)

    def inputs(self, lengths: Tensor, *, reverse: bool) -> Inputs:
        cell, inputs, hidden = self.cell, self.sizes.inputs, self.sizes.hidden
        clips, steps = len(lengths), int(lengths.max())
        frames = self._leaf(self._normal(clips, steps, inputs))
        weights = {
            name: self._leaf(self._weight(name, shape)) for name, shape in cell.parameters(inputs, hidden).items()
        }
        states, masks = [], {}
        for name, shape in zip(cell.states, cell.state_sizes(inputs, hidden), strict=True):
            known = cell.first_value(name, hidden, inputs)
            value = self._normal(clips, *shape).abs() + 0.1 if known is None else torch.from_numpy(known)
            states.append(self._leaf(value.expand(clips, *shape).clone()))
        of_states = dict(zip(cell.states, cell.state_sizes(inputs, hidden), strict=True))
        for name in (str(node.name) for node in cell.graph.nodes if node.op == "mask"):
            kept = torch.rand(clips, steps, *of_states[name.partition("_")[2]], generator=self.generator, device="cpu")
            masks[name] = (kept < 0.5).double()
        whole = with_fixed(cell, frames, hidden, weights)
        return Inputs(cell, frames, whole, tuple(states), masks, lengths, reverse)

    def upstream(self, of: Inputs) -> tuple[Tensor, ...]:
        outputs = self._normal(*of.frames.shape[:2], *of.state[0].shape[1:])
        return tuple(self._rounded(each) for each in (outputs, *(self._normal(*part.shape) for part in of.state)))

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64, device="cpu")

    def _rounded(self, value: Tensor) -> Tensor:
        return value.to(self.dtype).double()

    def _leaf(self, value: Tensor) -> Tensor:
        return self._rounded(value).requires_grad_()

    def _weight(self, name: str, shape: tuple[int, ...]) -> Tensor:
        value: Tensor = self._normal(*shape) * 0.7 / (shape[-1] if len(shape) > 1 else prod(shape)) ** 0.5
        declared = self.cell.declaration(name)
        if declared is None:
            return value
        if declared.nodes:
            return self._declared(declared)
        bounded: Floats = declared.bounded_value(value.numpy())
        return torch.from_numpy(bounded)

    def _declared(self, declared: Declared) -> Tensor:
        """First values, which keep a cell from growing without end."""

        def draw(kind: str, shape: tuple[int, ...]) -> Floats:
            found: Floats = self._normal(*shape).numpy()
            return found if kind == "normal" else 0.5 + 0.5 * torch.erf(torch.from_numpy(found) / 2**0.5).numpy()

        return torch.from_numpy(declared.array(self.sizes.inputs, self.sizes.hidden, draw))
