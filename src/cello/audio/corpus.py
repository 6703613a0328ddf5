"""Define a corpus: labelled clips with splits, the one form from which features are computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from cello.audio.origin import Origin, origin_of

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

NO_SPEAKER = "_silence_/"
"""What the ``speaker`` of sound that nobody speaks begins with; the recording that it was cut from follows."""
CLIPS_AT_ONCE = 256
SAMPLES_AT_ONCE = 1 << 25
"""Clips and padded samples (128 MiB) read at once: one clip of ten minutes among short ones must not pad them all."""


class Clip(msgspec.Struct, frozen=True, kw_only=True):
    """One usable clip: ``name`` is its POSIX path below the corpus, ``start``/``samples`` its place in the samples.

    ``fold`` and ``columns`` are what a table or a pattern says of it besides; they decide nothing in the checksum.
    """

    name: str
    label: str
    split: Split
    speaker: str
    start: int
    samples: int
    fold: str = ""
    columns: dict[str, str] = {}

    @property
    def spoken(self) -> bool:
        """Whether it has a speaker; else ``speaker`` is a recording of noise: excerpts of one are not independent."""
        return not self.speaker.startswith(NO_SPEAKER)


class BadClip(msgspec.Struct, frozen=True, kw_only=True):
    """A clip that was left out, and why (truncated, empty, not audio, NaN, all silence)."""

    name: str
    reason: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a corpus but its sound.

    ``checksum`` is SHA-256 over names, labels, splits, speakers and samples; ``origin`` says where the clips lie and by
    which rule they were split, ``source`` the same as a sentence; ``warnings`` what may not be meant so. Unless
    ``speakers_known``, files of one name count as one speaker. ``folds`` says in words which folds were asked for,
    each clip's being its ``fold``.
    """

    corpus: str
    rate_hz: int
    labels: tuple[str, ...]
    clips: tuple[Clip, ...]
    bad: tuple[BadClip, ...]
    checksum: str
    source: str
    warnings: tuple[str, ...] = ()
    speakers_known: bool = True
    folds: str = ""
    origin: Origin = Origin()

    def __post_init__(self) -> None:
        if self.source and self.origin == Origin():
            msgspec.structs.force_setattr(self, "origin", origin_of(self.source))

    @property
    def grouping(self) -> str:
        """What is kept in one split where nobody knows who speaks; empty where the speakers are known."""
        own = [clip for clip in self.clips if clip.spoken]
        groups = len({clip.speaker for clip in own})
        if self.speakers_known:
            return ""
        if groups == len(own):
            return "each file counts as a speaker"
        return f"files of the same name stay together, whatever their folders: {groups:,} groups"

    def from_origin(self, origin: Origin) -> Manifest:
        """The same corpus from elsewhere, or split otherwise."""
        return msgspec.structs.replace(self, origin=origin, source=str(origin))


def groups_in_words(speakers: int, recordings: int) -> str:
    """Whom an interval is over: speakers, and the recordings of noise that its silence was cut from.

    >>> groups_in_words(57, 0), groups_in_words(57, 2)
    ('57 speakers', '57 speakers and 2 recordings of noise')
    """
    noise = f" and {recordings:,} recording{'s' * (recordings != 1)} of noise" if recordings else ""
    return f"{speakers:,} speaker{'s' * (speakers != 1)}{noise}"


class Corpus:
    """Clips packed end to end in one flat array (a read-only memory map), with labels, splits and noise.

    ``sound`` is (ΣN,) int16 (when every clip is 16-bit PCM at the target rate) or float32; ``noise`` is a list of
    (N,) float32 recordings kept apart as background (empty where a corpus has none). ``more`` are arrays of samples
    that follow on ``sound``, one after another, without being copied behind it.
    """

    def __init__(
        self,
        manifest: Manifest,
        sound: NDArray[np.generic],
        noise: Sequence[NDArray[np.float32]] = (),
        more: Sequence[NDArray[np.generic]] = (),
    ) -> None:
        self.manifest = manifest
        self.sound = sound
        self.more = tuple(more)
        self.noise = tuple(noise)
        place = {label: index for index, label in enumerate(manifest.labels)}
        self.targets: NDArray[np.int64] = np.array([place[c.label] for c in manifest.clips], dtype=np.int64)
        self.starts: NDArray[np.int64] = np.array([c.start for c in manifest.clips], dtype=np.int64)
        self.lengths: NDArray[np.int64] = np.array([c.samples for c in manifest.clips], dtype=np.int64)
        self._ends = np.cumsum([len(array) for array in self.arrays], dtype=np.int64)

    @property
    def arrays(self) -> tuple[NDArray[np.generic], ...]:
        """All samples, in the order in which clips' starts count them."""
        return (self.sound, *self.more)

    def indices(self, split: Split) -> NDArray[np.int64]:
        """The positions of a split's clips, in the manifest's order."""
        return np.flatnonzero([c.split == split for c in self.manifest.clips]).astype(np.int64)

    def audio(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The clips as (B, N) float32 in [−1, 1], zero after each clip's end, and their (B,) lengths in samples."""
        lengths = self.lengths[indices]
        out = np.zeros((len(indices), int(lengths.max(initial=0))), dtype=np.float32)
        arrays = self.arrays
        for row, (array, at, n) in enumerate(zip(*self.located(indices), lengths, strict=True)):
            samples = arrays[array]
            out[row, :n] = samples[at : at + n]
            if samples.dtype == np.int16:
                out[row, :n] *= np.float32(1 / 32768)
        return out, lengths

    def located(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For each of the clips (B,) which of ``arrays`` it lies in, and at which sample of it."""
        starts = self.starts[indices]
        which = np.searchsorted(self._ends, starts, side="right")
        before = self._ends - np.array([len(array) for array in self.arrays], dtype=np.int64)
        return which, starts - before[which]

    def chunks(self, indices: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """The clips in their order, as many at a time as ``audio`` may hold in memory; at least one."""
        for at in range(0, len(indices), CLIPS_AT_ONCE):
            some = indices[at : at + CLIPS_AT_ONCE]
            for first, last in bounded(self.lengths[some], SAMPLES_AT_ONCE):
                yield some[first:last]


def bounded(lengths: Sequence[int] | NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    """Runs [first, last) of clips that padded to their longest have at most ``most`` in all; at least one clip each.

    >>> list(bounded([3, 3, 9, 1], 9))
    [(0, 2), (2, 3), (3, 4)]
    """
    first, longest = 0, 0
    for index, length in enumerate(lengths):
        longest = max(longest, int(length))
        if index > first and longest * (index + 1 - first) > most:
            yield first, index
            first, longest = index, int(length)
    if first < len(lengths):
        yield first, len(lengths)
