"""Draw dropout and zoneout by torch's generator, or by counters, which give a replicate its own whatever is beside it.

SplitMix64 (Steele, Lea & Flood 2014), each number from its place in the model alone: its key, the call of this module
that asks, its clip, frame and unit. So it is the same on any device, inside ``torch.vmap``, in a CUDA graph, and
however far a batch is padded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

# of SplitMix64, as int64 has them
GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
MIXERS = ((30, 0xBF58476D1CE4E5B9 - (1 << 64)), (27, 0x94D049BB133111EB - (1 << 64)))
BETWEEN_CALLS = 0xD1342543DE82EF95 - (1 << 64)
BITS = 24
"""Of a number that is compared with a probability."""
CLIP_BITS, FRAME_BITS = 36, 16
"""Where the clip and the frame stand in a place, above the unit."""


class CounterRandom:
    """The random numbers of one step of one replicate: ``key`` is an int64 of any value, on the model's device."""

    def __init__(self, key: Tensor) -> None:
        self._key, self._calls = key, 0

    def bernoulli(self, shape: tuple[int, ...], probability: float, like: Tensor) -> Tensor:
        """Ones with this probability, else zeros, for clips (B, H) or their frames (B, T, H), of the dtype of ``like``.

        >>> draws = CounterRandom(torch.tensor(5))
        >>> draws.bernoulli((2, 3), 0.5, torch.zeros(())).tolist()
        [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
        """
        number = self._key + _signed(self._calls * BETWEEN_CALLS) + (_places(shape, like.device) + 1) * GOLDEN
        self._calls += 1
        return less(mixed(number), probability).to(like.dtype)


def mixed(number: Tensor) -> Tensor:
    """Numbers whose upper bits depend on all bits of these."""
    for shift, factor in MIXERS:
        number = (number ^ _shifted(number, shift)) * factor
    return number


def less(number: Tensor, probability: float) -> Tensor:
    """Whether mixed numbers, as shares of the largest, are less than a probability."""
    return _shifted(number, 64 - BITS) < round(probability * (1 << BITS))


def _signed(number: int) -> int:
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _shifted(number: Tensor, bits: int) -> Tensor:
    """To the right, zeros coming in, as of unsigned numbers."""
    return (number >> bits) & ((1 << (64 - bits)) - 1)


def _places(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """A number for each element, which does not depend on how many clips and frames there are.

    Matrices of heads (B, T, H, d) are counted as vectors of all their elements, row by row.
    """
    shape, whole = (*shape[:2], math.prod(shape[2:])) if len(shape) > 3 else shape, shape
    bits = (CLIP_BITS, 0) if len(shape) == 2 else (CLIP_BITS, FRAME_BITS, 0)
    found = torch.zeros((), dtype=torch.int64, device=device)
    for size, shift in zip(shape, bits, strict=True):
        found = found.unsqueeze(-1) + (torch.arange(size, device=device) << shift)
    return found.view(whole)


class _Source:
    now: CounterRandom | None = None


@contextmanager
def drawing_from(key: Tensor) -> Iterator[None]:
    """Let dropout and zoneout within draw by counters from this key."""
    before, _Source.now = _Source.now, CounterRandom(key)
    try:
        yield
    finally:
        _Source.now = before


def bernoulli(probabilities: Tensor, probability: float) -> Tensor:
    """Ones with this probability, else zeros, for each of ``probabilities``, which all are that."""
    if _Source.now is None:
        return probabilities.bernoulli()
    return _Source.now.bernoulli(tuple(probabilities.shape), probability, probabilities)


class Dropout(nn.Dropout):
    """torch's, which can draw by counters."""

    def forward(self, input: Tensor) -> Tensor:
        if _Source.now is None or not self.training or not self.p:
            return super().forward(input)
        keep = 1 - self.p
        return input * _Source.now.bernoulli(tuple(input.shape), keep, input) / keep
