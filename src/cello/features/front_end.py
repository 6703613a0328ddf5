"""Compute frames by the compiled pass, or by torch where it cannot run."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cello.audio.changes import Changes
from cello.audio.corpus import Corpus
from cello.features import mfcc
from cello.features.c import launch
from cello.features.c.library import Clips
from cello.features.config import FeatureConfig
from cello.features.warp import extract_warped

PLAIN = "plain"
"""The back end that computes frames with torch operations; any other name is the compiled pass where it can run."""


@dataclass(frozen=True, eq=False)
class Augmentation:
    """What training does to clips on their way to frames.

    Attributes:
        changes: what is done to their samples
        recordings: the noise that ``changes`` counts
        warps: (B,) which of ``mel.warps(most_warp)`` each clip has, where any is warped
        most_warp: the largest relative change of the frequency axis
    """

    changes: Changes
    recordings: tuple[NDArray[np.float32], ...] = ()
    warps: NDArray[np.int64] | None = None
    most_warp: float = 0.0


class ClipFrames:
    """The frames of some clips of a corpus, each computed when asked for: straight from the samples as they are stored.

    Clips that are changed are silent after their ends, so that one that became shorter than a window still fills it.
    Their frames are computed in single precision, in half of the time, for nothing but training sees them.

    Raises:
        FeatureError: a clip that is not changed is shorter than one window.
    """

    def __init__(
        self,
        corpus: Corpus,
        indices: NDArray[np.int64],
        config: FeatureConfig,
        augmentation: Augmentation | None = None,
        *,
        backend: str = "auto",
        threads: int = 1,
    ) -> None:
        self.corpus, self.indices, self.config, self.augmentation, self.threads = (
            corpus,
            indices,
            config,
            augmentation,
            threads,
        )
        lengths = corpus.lengths[indices] if augmentation is None else augmentation.changes.lengths
        if augmentation is None:
            mfcc.check_lengths(torch.from_numpy(lengths), config)
        self._lengths = np.maximum(lengths, config.window_samples)
        self.counts = torch.from_numpy(1 + (self._lengths - config.window_samples) // config.hop_samples)
        self._clips = None
        if backend != PLAIN and compiled(config):
            changes, recordings = (
                (None, ()) if augmentation is None else (augmentation.changes, augmentation.recordings)
            )
            self._clips = launch.clips_of(corpus, indices, changes, recordings)
        if self._clips is not None:
            self._clips["frames"] = self.counts.numpy()
            if augmentation is not None and augmentation.warps is not None:
                self._clips["warp"] = augmentation.warps

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The frames of these clips, (B, T, D) with T the longest of them, zero after each end; and (B,) counts."""
        counts = self.counts[rows]
        longest = int(counts.max()) if len(counts) else 0
        if self._clips is None:
            return self._by_torch(rows.numpy()), counts
        clips = self._clips[rows.numpy()]
        clips["out_frames"] = longest
        out = launch.new_frames(len(clips), longest, self.config.dimensions)
        self._run(clips, out, np.arange(len(clips)) * longest)
        return out, counts

    def flat(self, rows: Tensor) -> Tensor:
        """The frames of these clips end to end, (ΣT, D)."""
        counts = self.counts[rows]
        if self._clips is None:
            frames = self._by_torch(rows.numpy())
            return frames[torch.arange(frames.shape[1]) < counts[:, None]]
        clips = self._clips[rows.numpy()]
        clips["out_frames"] = clips["frames"]
        out = launch.new_frames(int(counts.sum()), self.config.dimensions)
        self._run(clips, out, (counts.cumsum(0) - counts).numpy())
        return out

    def _run(self, clips: Clips, out: Tensor, starts: NDArray[np.int64]) -> None:
        most = 0.0 if self.augmentation is None or self.augmentation.warps is None else self.augmentation.most_warp
        launch.run(self.config, clips, out, starts, most, self.threads, double=self.augmentation is None)

    def _by_torch(self, rows: NDArray[np.int64]) -> Tensor:
        audio, _ = self.corpus.audio(self.indices[rows])
        sound = torch.from_numpy(audio), torch.from_numpy(self._lengths[rows]), self.config
        if self.augmentation is None:
            return mfcc.extract(*sound)[0]
        audio = self.augmentation.changes.of(rows).apply(audio, self.augmentation.recordings)
        sound = torch.from_numpy(audio), *sound[1:]
        if self.augmentation.warps is None:
            return mfcc.extract(*sound)[0]
        return extract_warped(*sound, self.augmentation.most_warp, self.augmentation.warps[rows])[0]


def extract(
    audio: Tensor, lengths: Tensor, config: FeatureConfig, *, backend: str = "auto", threads: int = 1
) -> tuple[Tensor, Tensor]:
    """The frames of a batch of clips: (B, N) float32 sound and (B,) lengths in samples → (B, T, D) and (B,) counts.

    They are those of :func:`cello.features.mfcc.extract`, up to rounding.

    Raises:
        FeatureError: sound of another shape or type, lengths beyond it, or a clip shorter than one window.

    >>> frames, counts = extract(torch.zeros(2, 16_000), torch.tensor([16_000, 8_000]), FeatureConfig())
    >>> tuple(frames.shape), counts.tolist()
    ((2, 49, 39), [49, 24])
    """
    mfcc.check(audio, lengths, config)
    if backend == PLAIN or not audio.is_cpu or not len(audio) or not compiled(config):
        return mfcc.extract(audio, lengths, config)
    audio = audio.detach()
    audio = audio if audio.stride(1) == 1 else audio.contiguous()
    counts = 1 + (lengths - config.window_samples) // config.hop_samples
    clips = launch.clips_in(audio, lengths)
    clips["frames"], clips["out_frames"] = counts.numpy(), int(counts.max())
    out = launch.new_frames(len(audio), int(counts.max()), config.dimensions)
    launch.run(config, clips, out, np.arange(len(audio)) * out.shape[1], 0.0, threads)
    return out, counts


def compiled(config: FeatureConfig) -> bool:
    """Whether the compiled pass computes this front end here; where the machine cannot, that is said once."""
    if launch.unsupported(config) is not None:
        return False
    reason = launch.unavailable()
    if reason is not None:
        _warn_once(f"features are computed by torch, a few times slower: {reason}")
    return reason is None


@cache
def _warn_once(text: str) -> None:
    warnings.warn(text, stacklevel=4)
