"""Change clips as drawn: their speed, their place in time, noise beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Changes:
    """What is done to each of B clips, in this order; where an array is None, nothing of its kind is done to any.

    Attributes:
        lengths: (B,) samples of each clip, at its new speed
        rates: (B,) how many times as fast a clip is played
        froms: (B,) the place in the clip, in samples, that becomes sample 0
        moves: (B,) samples by which it is moved, later where positive
        noise: (B,) the recording that is added to it, −1 for none
        starts: (B,) the sample of the recording that meets sample 0
        gains: (B,) root mean square of the noise over that of the clip
    """

    lengths: Integers
    rates: Floats | None = None
    froms: Floats | None = None
    moves: Integers | None = None
    noise: Integers | None = None
    starts: Integers | None = None
    gains: Floats | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def joined(cls, parts: Sequence[Changes]) -> Changes:
        """The changes of several batches, which are drawn alike, as those of one."""
        if not parts:
            return cls(np.zeros(0, dtype=np.int64))
        found = {
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(cls)
            if getattr(parts[0], field.name) is not None
        }
        return cls(**found)

    def of(self, rows: Integers) -> Changes:
        """The changes of some of the clips."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: values[rows] for name, values in given.items() if values is not None})

    def apply(self, audio: NDArray[np.float32], noise: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """The changed clips (B, N), zero after their ends; what is given stays as it is."""
        out = audio
        if self.rates is not None and self.froms is not None:
            out = _at_speed(audio, self.rates, self.froms, self.lengths)
        if self.moves is not None:
            out = move(out, self.lengths, self.moves)
        if self.noise is not None:
            out = audio.copy() if out is audio else out
            self._mix_in(out, noise)
        return out

    def _mix_in(self, audio: NDArray[np.float32], recordings: Sequence[NDArray[np.float32]]) -> None:
        assert self.noise is not None
        assert self.starts is not None
        assert self.gains is not None
        for row in np.flatnonzero(self.noise >= 0).tolist():
            recording, start = recordings[self.noise[row]], int(self.starts[row])
            clip = audio[row, : self.lengths[row]]
            excerpt = recording[start : start + len(clip)]
            if len(excerpt) < len(clip):
                excerpt = np.resize(np.roll(recording, -start), len(clip))
            power = float(np.vdot(excerpt, excerpt))
            if power > 0:
                clip += excerpt * np.float32(self.gains[row] * np.sqrt(np.vdot(clip, clip) / power))


def slower_or_faster(rates: Floats, lengths: Integers) -> Changes:
    """Play clips of these lengths (B,) at so many times their speed (B,).

    y[t] = x(r·t), linear between samples. A faster clip ends earlier; a slower one keeps its length and loses what no
    longer fits, as much at its start as at its end.

    Reference: T. Ko, V. Peddinti, D. Povey, S. Khudanpur (2015). Audio augmentation for speech recognition.
    Interspeech.
    """
    last = np.maximum(lengths - 1, 0)
    kept = np.minimum(np.floor(last / rates).astype(np.int64) + 1, lengths)
    return Changes(kept, rates=rates, froms=np.maximum(0.0, (last - rates * (kept - 1)) / 2))


def move(audio: NDArray[np.float32], lengths: Integers, moves: Integers) -> NDArray[np.float32]:
    """Move each clip by its own number of samples (B,), later where positive; (B, N) → (B, N).

    What is moved out of [0, length) is lost, what is moved in is zero; lengths stay.
    """
    out = np.zeros_like(audio)
    for row, (by, length) in enumerate(zip(moves.tolist(), lengths.tolist(), strict=True)):
        kept = max(0, length - abs(by))
        to, start = max(0, by), max(0, -by)
        out[row, to : to + kept] = audio[row, start : start + kept]
    return out


def _at_speed(audio: NDArray[np.float32], rates: Floats, froms: Floats, kept: Integers) -> NDArray[np.float32]:
    out = np.zeros_like(audio)
    times = np.arange(audio.shape[1], dtype=np.float64)
    for row, (rate, start, n) in enumerate(zip(rates.tolist(), froms.tolist(), kept.tolist(), strict=True)):
        if n > 1:
            # In double precision, for a place a thousandth of a sample off changes clips of seconds already.
            at = times[:n] * rate + start
            before = np.minimum(at.astype(np.intp), audio.shape[1] - 2)
            clip, share = audio[row], (at - before).astype(np.float32)
            out[row, :n] = clip.take(before) + share * np.diff(clip).take(before)
        else:
            out[row, :n] = audio[row, :n]
    return out
