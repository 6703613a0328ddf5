"""Compute the frames of endless sound as it comes in, in pieces of any size. Needs no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cello.errors import FeatureError
from cello.features.clip import frames_of_clip
from cello.features.config import FeatureConfig
from cello.features.frames import frame_count

Floats = NDArray[np.float32]
MOST_SAMPLES = 1 << 20
"""Samples worked on at once, so that a push of hours needs no more memory than the sound itself."""


class FrameStream:
    """The frames of a clip whose end is not known yet, each as soon as all that it depends on is there.

    However the samples are chopped, all frames together are those of the whole clip, to the bit where the pass is
    compiled. With deltas a frame waits for the ``delay_frames`` after it, which its window reaches; the first ones,
    which carry the first whole window's value, for that window.

    Raises:
        FeatureError: ``normalisation="clip"``, which needs the end of the clip.

    >>> stream = FrameStream(FeatureConfig())
    >>> parts = [stream.push(np.zeros(n, dtype=np.float32)) for n in (3000, 9000, 4000)]
    >>> [len(part) for part in parts], len(stream.finish())
    ([0, 32, 13], 4)
    """

    def __init__(self, config: FeatureConfig) -> None:
        if config.normalisation == "clip":
            raise FeatureError(
                "features.normalisation='clip' needs the end of the clip, so its frames cannot be streamed; "
                "train with features.normalisation=corpus"
            )
        self.config = config
        self.delay_frames = config.delta_frames // 2 if config.deltas else 0
        self.samples = 0
        """Samples taken so far."""
        self.frames = 0
        """Frames given so far."""
        self._tail = np.empty(0, dtype=np.float32)
        self._first = 0  # the frame that the tail begins with

    def push(self, samples: Floats) -> Floats:
        """Take (n,) samples in [−1, 1] at the config's rate, any number of them; the frames (T, D) now known.

        Raises:
            FeatureError: samples of another shape or type.
        """
        if samples.ndim != 1 or samples.dtype != np.float32:
            raise FeatureError(f"a stream takes (n,) float32, not {samples.shape} {samples.dtype}; convert it")
        found = [
            self._push(samples[start : start + MOST_SAMPLES]) for start in range(0, max(1, len(samples)), MOST_SAMPLES)
        ]
        return found[0] if len(found) == 1 else np.concatenate(found)

    def finish(self) -> Floats:
        """End the clip: the frames (T, D) that waited for more."""
        return self._known(self._begun())

    def _begun(self) -> int:
        """The frames whose own samples are all there."""
        return frame_count(self.samples, self.config.window_samples, self.config.hop_samples)

    def _push(self, samples: Floats) -> Floats:
        self.samples += len(samples)
        self._tail = np.concatenate([self._tail, samples])
        known = self._begun() - self.delay_frames
        return self._known(known if known > self.delay_frames else 0)

    def _known(self, upto: int) -> Floats:
        """The frames up to this one that were not given yet; what no later frame needs is let go."""
        if upto <= self.frames:
            return np.empty((0, self.config.dimensions), dtype=np.float32)
        found = frames_of_clip(self._tail, self.config)[self.frames - self._first : upto - self._first]
        self.frames = upto
        # one window of deltas back, so that the frames at the end find a whole one too; with pre-emphasis one frame
        # more, for the first sample of what is kept has none before it
        back = self.delay_frames + bool(self.delay_frames) + bool(self.config.pre_emphasis)
        reached = self._first + len(self._tail) // self.config.hop_samples  # less than a frame on, of a hop with gaps
        first = max(self._first, min(upto - back, reached))
        self._tail = self._tail[(first - self._first) * self.config.hop_samples :]
        self._first = first
        return found
