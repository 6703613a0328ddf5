"""One epoch's training clips as frames: cached when they never change, made anew when the sound is augmented."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cello.audio.augment import augment
from cello.audio.corpus import SPLITS, Corpus, Split
from cello.errors import CorpusError
from cello.features.cache import FeatureSet, load_features
from cello.features.mfcc import extract
from cello.features.warp import extract_warped
from cello.training.config import RunConfig

CHUNK = 256  # clips whose sound is in memory at once


def derived_seed(seed: int, *purpose: object) -> int:
    """A 63-bit seed for one purpose, so that no stream of random numbers depends on how much another drew."""
    text = ":".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class Frames:
    """Clips as padded frames (B, T, D), their frame counts (B,) and targets (B,)."""

    def __init__(self, frames: Tensor, counts: Tensor, targets: Tensor) -> None:
        self.frames, self.counts, self.targets = frames, counts, targets

    @classmethod
    def joined(cls, pieces: Sequence[tuple[Tensor, Tensor]], targets: Tensor) -> Frames:
        """Clips that come as several (b, t, D) frames with their (b,) counts, padded to the longest."""
        frames = torch.zeros(len(targets), max(p.shape[1] for p, _ in pieces), pieces[0][0].shape[2])
        at = 0
        for piece, _ in pieces:
            frames[at : at + len(piece), : piece.shape[1]] = piece
            at += len(piece)
        return cls(frames, torch.cat([count for _, count in pieces]), targets)

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Some clips, cut to the longest of them."""
        counts = self.counts[rows]
        return self.frames[rows, : int(counts.max())], counts, self.targets[rows]


class RunData:
    """The splits of a corpus as one run sees them."""

    def __init__(self, config: RunConfig, corpus: Corpus, cache: Path | None) -> None:
        self.config, self.corpus = config, corpus
        self.indices = {split: corpus.indices(split) for split in SPLITS}
        for split, found in self.indices.items():
            if len(found) == 0:
                raise CorpusError(
                    f"corpus {corpus.manifest.corpus!r} has no {split} clips, so no run can be judged; "
                    f"list some in {split if split != 'test' else 'testing'}_list.txt or add speakers"
                )
        if config.data.clips_per_label is not None:
            self.indices["train"] = some_of_each(corpus, self.indices["train"], config.data.clips_per_label)
        self.features: FeatureSet = load_features(corpus, config.features, cache=cache)

    def clean(self, split: Split) -> Frames:
        """A split as it is, from the cache."""
        indices = self.indices[split]
        frames, counts = self.features.batch(indices)
        return Frames(frames, counts, torch.from_numpy(self.corpus.targets[indices]))

    @property
    def changes_sound(self) -> bool:
        augment = self.config.augment
        return augment.speed > 0 or augment.warp > 0 or augment.shift_ms > 0 or augment.noise_share > 0

    def augmented(self, epoch: int) -> Frames:
        """The training clips with their sound augmented for one epoch, the same for a seed and epoch always."""
        indices = self.indices["train"]
        rng = np.random.default_rng(derived_seed(self.config.seed, "augment", epoch))
        pieces = [self._augmented(indices[at : at + CHUNK], rng) for at in range(0, len(indices), CHUNK)]
        return Frames.joined(pieces, torch.from_numpy(self.corpus.targets[indices]))

    def _augmented(self, indices: NDArray[np.int64], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        audio, lengths = self.corpus.audio(indices)
        rate_hz = self.corpus.manifest.rate_hz
        audio, lengths = augment(audio, lengths, self.config.augment, self.corpus.noise, rng, rate_hz=rate_hz)
        # A clip played faster may end before its first window does; the silence after it then completes that window.
        lengths = np.maximum(lengths, self.config.features.window_samples)
        sound = torch.from_numpy(audio), torch.from_numpy(lengths), self.config.features
        most = self.config.augment.warp
        return extract_warped(*sound, most, rng) if most else extract(*sound)


def some_of_each(corpus: Corpus, indices: NDArray[np.int64], each: int) -> NDArray[np.int64]:
    """So many of the clips of each label, in their order: those whose names have the lowest hash.

    They are the same for every seed, and more of them hold fewer.

    Raises:
        CorpusError: a label has not so many.
    """
    clips = corpus.manifest.clips
    order = sorted(indices.tolist(), key=lambda clip: hashlib.sha256(clips[clip].name.encode()).digest())
    chosen = []
    for target, label in enumerate(corpus.manifest.labels):
        own = [clip for clip in order if corpus.targets[clip] == target]
        if len(own) < each:
            raise CorpusError(
                f"data.clips_per_label={each}, but label {label!r} of corpus {corpus.manifest.corpus!r} has "
                f"{len(own)} training clips; give at most that many, or leave it out for all clips"
            )
        chosen += own[:each]
    return np.array(sorted(chosen), dtype=np.int64)


def batches(clips: int, size: int, generator: torch.Generator) -> list[Tensor]:
    """A random order of all clips in batches, the last one smaller."""
    return list(torch.split(torch.randperm(clips, generator=generator), size))


def batch_count(clips: int, size: int) -> int:
    """How many batches ``batches`` makes."""
    return math.ceil(clips / size)
