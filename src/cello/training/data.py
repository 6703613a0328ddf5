"""Prepare an epoch's training clips as frames: cached, or augmented anew for each epoch."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cello.audio.augment import draw, recordings_for
from cello.audio.changes import Changes
from cello.audio.corpus import Corpus, Split, bounded
from cello.audio.folds import indices_of
from cello.errors import CorpusError
from cello.features.cache import FeatureSet, load_features
from cello.features.front_end import Augmentation, ClipFrames
from cello.features.resident import features_on
from cello.features.warp import draw_warps
from cello.models.size import ModelSize
from cello.training.config import RunConfig

FRAMES_AT_ONCE = 1 << 17
"""Padded frames of one forward and backward pass; a larger batch goes through in parts, its gradients added up."""
MATRIX_ELEMENTS_AT_ONCE = 1 << 26
"""Elements that states which are matrices may have over these frames: 0.3 GB, and as much again for each other matrix
that a back end keeps."""


def frames_at_once(config: RunConfig) -> int:
    """Padded frames of one pass: fewer of a model whose states are matrices, all of which a pass keeps."""
    matrices = ModelSize.of(config.model, config.features.dimensions).matrix_elements()
    return max(1, min(FRAMES_AT_ONCE, MATRIX_ELEMENTS_AT_ONCE // matrices)) if matrices else FRAMES_AT_ONCE


def derived_seed(seed: int, *purpose: object) -> int:
    """A 63-bit seed for one purpose, so that no stream of random numbers depends on how much another drew."""
    text = ":".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class Clips(Protocol):
    """Where frames come from: a feature set, or clips whose frames are computed when asked for."""

    @property
    def counts(self) -> Tensor:
        """(n,) frames of each clip."""

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Some clips as (B, T, D) frames, padded to the longest of them, and their counts."""


class Frames:
    """Some clips of a feature set with their targets (B,); padded only when a batch of them is taken."""

    def __init__(self, features: Clips, clips: Tensor, targets: Tensor) -> None:
        self.features, self.clips, self.targets = features, clips, targets

    @classmethod
    def of_clips(cls, clips: ClipFrames, targets: Tensor) -> Frames:
        """Frames that are computed whenever a batch of them is taken."""
        return cls(clips, torch.arange(len(targets)), targets)

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def counts(self) -> Tensor:
        """(B,) frames of each clip."""
        return self.features.counts[self.clips]

    @property
    def numbers(self) -> Tensor:
        """(B,) the clips' places in their corpus."""
        if isinstance(self.features, ClipFrames):
            return torch.from_numpy(self.features.indices)[self.clips]
        return self.clips

    def ready(self, rows: Tensor) -> Frames:
        """These clips with their frames computed, where they are not yet."""
        clips, targets = self.clips[rows], self.targets[rows]
        if not isinstance(self.features, ClipFrames):
            return Frames(self.features, clips, targets)
        computed = FeatureSet(self.features.flat(clips), self.features.counts[clips])
        return Frames(computed, torch.arange(len(rows)), targets)

    def parts(self, rows: Tensor, at_once: int) -> list[Tensor]:
        """These clips in one part of ``at_once`` frames once padded, else in several, of alike lengths."""
        counts = self.features.counts[self.clips[rows]]
        if len(rows) * int(counts.max()) <= at_once:
            return [rows]
        rows = rows[counts.argsort(stable=True)]
        counts = self.features.counts[self.clips[rows]]
        return [rows[first:last] for first, last in bounded(counts.tolist(), at_once)]

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Some clips as (B, T, D) frames, padded to the longest of them, their counts and targets."""
        return *self.features.batch(self.clips[rows]), self.targets[rows]


class RunData:
    """The splits of a corpus as one run sees them; frames as they are lie on ``device`` where one is given."""

    def __init__(
        self,
        config: RunConfig,
        corpus: Corpus,
        cache: Path | None,
        backend: str = "auto",
        device: torch.device | None = None,
    ) -> None:
        self.config, self.corpus, self.backend = config, corpus, backend
        self.indices = indices_of(corpus, config.data.fold)
        for split, found in self.indices.items():
            if len(found) == 0:
                raise CorpusError(
                    f"corpus {corpus.manifest.corpus!r} has no {split} clips, so no run can be judged; "
                    f"list some in {split if split != 'test' else 'testing'}_list.txt or add speakers"
                )
        if config.data.clips_per_label is not None:
            self.indices["train"] = some_of_each(corpus, self.indices["train"], config.data.clips_per_label)
        self.features: FeatureSet = (
            load_features(corpus, config.features, cache=cache)
            if device is None
            else features_on(corpus, config.features, device)
        )

    def clean(self, split: Split) -> Frames:
        """A split as it is, from the cache."""
        indices = self.indices[split]
        return Frames(self.features, torch.from_numpy(indices), torch.from_numpy(self.corpus.targets[indices]))

    @property
    def changes_sound(self) -> bool:
        augment = self.config.augment
        return augment.speed > 0 or augment.warp > 0 or augment.shift_ms > 0 or augment.noise_share > 0

    def augmented(self, epoch: int) -> Frames:
        """The training clips with their sound augmented for one epoch, the same for a seed and epoch always.

        All that is random is drawn now; sound and frames are made batch by batch, as they are asked for.
        """
        indices = self.indices["train"]
        clips = ClipFrames(self.corpus, indices, self.config.features, self.augmentation(epoch), backend=self.backend)
        return Frames.of_clips(clips, torch.from_numpy(self.corpus.targets[indices]))

    @property
    def recordings(self) -> tuple[NDArray[np.float32], ...]:
        """The noise that is added to training clips."""
        return tuple(recordings_for(self.config.augment, self.corpus.noise, self.corpus.manifest.rate_hz))

    def augmentation(self, epoch: int) -> Augmentation:
        """All that is drawn of the training clips' sound for one epoch, the same for a seed and epoch always."""
        indices, rate_hz = self.indices["train"], self.corpus.manifest.rate_hz
        rng = np.random.default_rng(derived_seed(self.config.seed, "augment", epoch))
        recordings, changes, warps, most = self.recordings, [], [], self.config.augment.warp
        for some in self.corpus.chunks(indices):
            changes.append(draw(self.corpus.lengths[some], self.config.augment, recordings, rng, rate_hz))
            if most:
                warps.append(draw_warps(most, len(some), rng))
        return Augmentation(Changes.joined(changes), recordings, np.concatenate(warps) if warps else None, most)


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
