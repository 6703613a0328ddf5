"""Run a model over endless sound: its scores at every step, and decisions from them. Needs no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cello.deploy.decisions import Decider, Decision, DecisionConfig
from cello.deploy.sound import Resampler, mono
from cello.errors import ModelError
from cello.features.config import FeatureConfig
from cello.features.frames import frame_count, samples_of
from cello.features.stream import FrameStream
from cello.trained.numpy_model import NumpyModel

Floats = NDArray[np.float32]


def steps_in(window_s: float, features: FeatureConfig, frame_stacking: int) -> int:
    """W, the steps that a clip of this length has; at least one.

    >>> steps_in(1.0, FeatureConfig(), 1), steps_in(1.0, FeatureConfig(), 2)
    (49, 25)
    """
    samples = samples_of(1000 * window_s, features.rate_hz)
    frames = frame_count(samples, features.window_samples, features.hop_samples)
    return max(1, -(-frames // frame_stacking))


class ScoreStream:
    """A model's scores at every step, as of a clip that has just ended there.

    States are carried from step to step, zero at first, and pooling is over the last ``window_steps`` outputs, so the
    last scores of a stream of a clip with at most so many steps are the clip's own. However the samples are chopped,
    scores are the same within 1e-5.

    Raises:
        ModelError: a layer reads from the end of the clip.
        FeatureError: features that need the end of the clip.
    """

    def __init__(self, model: NumpyModel, features: FeatureConfig, window_steps: int) -> None:
        if not model.parts.causal:
            raise ModelError(
                "model.bidirectional=true reads from the end of the clip, so it cannot be streamed; "
                "train with model.bidirectional=false"
            )
        self.model, self.features, self.window_steps = model, features, window_steps
        self.frames = FrameStream(features)
        self.steps = 0
        self._states = model.first_states()
        self._waiting = np.empty((0, features.dimensions), dtype=np.float32)  # frames of a stack that is not whole
        self._outputs = np.empty((0, model.parts.hidden), dtype=np.float32)

    def push(self, samples: Floats) -> tuple[list[float], Floats]:
        """Take (n,) samples at the features' rate: where the sound of each new step ended, in s, and scores (n, C)."""
        return self._scored(self.frames.push(samples))

    def finish(self) -> tuple[list[float], Floats]:
        """End the stream: the steps of the frames that waited, as ``push`` gives them."""
        return self._scored(self.frames.finish(), last=True)

    def _scored(self, frames: Floats, *, last: bool = False) -> tuple[list[float], Floats]:
        count = self.model.parts.frame_stacking
        waiting = np.concatenate([self._waiting, self.model.standardised(frames)])
        whole = len(waiting) if last else len(waiting) // count * count
        self._waiting = waiting[whole:]
        steps = self.model.stacked(waiting[:whole])
        if not len(steps):
            return [], np.empty((0, len(self.model.parts.head[1])), dtype=np.float32)
        ends = [min((self.steps + k + 1) * count, self.frames.frames) for k in range(len(steps))]
        self.steps += len(steps)
        outputs, self._states = self.model.encode(steps, self._states)
        return [self._end_s(frame) for frame in ends], self.model.head(self._pooled(outputs))

    def _end_s(self, frames: int) -> float:
        """Where the last of so many frames ends."""
        samples = (frames - 1) * self.features.hop_samples + self.features.window_samples
        return samples / self.features.rate_hz

    def _pooled(self, outputs: Floats) -> Floats:
        """Each of the new outputs (n, H) pooled with the ones before it, as many as the window has."""
        if self.model.parts.pooling == "last":
            return outputs
        before = len(self._outputs)
        recent = np.concatenate([self._outputs, outputs])
        windows = (recent[max(0, end - self.window_steps) : end] for end in range(before + 1, len(recent) + 1))
        pooled = np.stack([self.model.pooled(window, window[-1]) for window in windows])
        self._outputs = recent[max(0, len(recent) - self.window_steps + 1) :] if self.window_steps > 1 else recent[:0]
        return pooled


class ModelStream:
    """Endless sound → decisions; made by ``Model.stream``.

    Attributes:
        window_s: the sound that scores are pooled over
        config: when it decides
        delay_s: how much later than its own sound a step is known, because of deltas
        last_scores: (C,) scores of the newest step, None before the first
    """

    def __init__(self, scores: ScoreStream, labels: tuple[str, ...], window_s: float, config: DecisionConfig) -> None:
        features = scores.features
        hop_s = features.hop_samples / features.rate_hz
        self.scores, self.labels, self.window_s, self.config = scores, labels, window_s, config
        self.last_scores: Floats | None = None
        self.delay_s = scores.frames.delay_frames * hop_s
        self._decider = Decider(labels, hop_s * scores.model.parts.frame_stacking, config)
        self.smooth_steps = self._decider.smooth_steps
        self._resampler = Resampler(features.rate_hz)

    def push(self, samples: ArrayLike, rate_hz: int | None = None) -> list[Decision]:
        """Take any number of samples, (n,) or (n, channels); the decisions that they bring.

        ``rate_hz`` is the samples' rate, the model's unless given, the same for the whole stream.

        Raises:
            ClipError: samples that are none, or another rate than before.
        """
        return self._decided(*self.scores.push(self._resampler.push(mono(samples), rate_hz)))

    def finish(self) -> list[Decision]:
        """End the stream: the decisions of what waited for more sound."""
        rest = self._decided(*self.scores.push(self._resampler.finish()))
        return rest + self._decided(*self.scores.finish())

    def _decided(self, times_s: list[float], scores: Floats) -> list[Decision]:
        if len(scores):
            self.last_scores = scores[-1]
        return self._decider.push(times_s, scores)
