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
from cello.trained.numpy_model import Numbers, NumpyModel

Floats = NDArray[np.float32]
BLOCK = 32
"""Windows that are pooled at once: so few that a product is not spread over threads, which costs more than it."""


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
        self._waiting = np.empty((0, model.parts.dimensions), dtype=model.number)  # frames of a stack that is not whole
        # what is before the first step has no weight; of a mean all steps have the same
        self._outputs = np.zeros((window_steps - 1, model.parts.output_size()), dtype=model.number)
        self._scores = np.full(window_steps - 1, -np.inf, dtype=model.number)

    def push(self, samples: Floats) -> tuple[list[float], Floats]:
        """Take (n,) samples at the features' rate: where the sound of each new step ended, in s, and scores (n, C)."""
        return self._scored(self.frames.push(samples))

    def finish(self) -> tuple[list[float], Floats]:
        """End the stream: the steps of the frames that waited, as ``push`` gives them."""
        return self._scored(self.frames.finish(), last=True)

    def _scored(self, frames: Floats, *, last: bool = False) -> tuple[list[float], Floats]:
        count, before = self.model.parts.frame_stacking, self.steps
        scores = self.score_frames(frames, last=last)
        ends = [min((before + k + 1) * count, self.frames.frames) for k in range(len(scores))]
        return [self._end_s(frame) for frame in ends], scores

    def score_frames(self, frames: Floats, *, last: bool = False) -> Floats:
        """The scores (n, C) of the steps that raw frames (T, D) complete; a stack cut short too with ``last``."""
        count = self.model.parts.frame_stacking
        waiting = np.concatenate([self._waiting, self.model.standardised(frames)])
        whole = len(waiting) if last else len(waiting) // count * count
        self._waiting = waiting[whole:]
        steps = self.model.stacked(waiting[:whole])
        if not len(steps):
            return np.empty((0, len(self.model.parts.head[1])), dtype=np.float32)
        self.steps += len(steps)
        outputs, self._states = self.model.encode(steps, self._states)
        return self.model.head(self._pooled(outputs))

    def _end_s(self, frames: int) -> float:
        """Where the last of so many frames ends."""
        samples = (frames - 1) * self.features.hop_samples + self.features.window_samples
        return samples / self.features.rate_hz

    def _pooled(self, outputs: Numbers) -> Numbers:
        """Each of the new outputs (n, W) pooled with the ones before it, as many as the window has."""
        parts, before = self.model.parts, self.window_steps - 1
        if parts.pooling == "last":
            return outputs
        recent = np.concatenate([self._outputs, outputs])
        given = np.zeros(len(outputs), self.model.number) if parts.score is None else outputs @ parts.score[0]
        scores = np.concatenate([self._scores, given])
        self._outputs, self._scores = recent[len(outputs) :], scores[len(outputs) :]
        if len(outputs) == 1:  # the path of a live stream, where every array that is made counts
            return _weighted(scores[None], recent)
        windows = np.lib.stride_tricks.sliding_window_view(scores, before + 1)
        blocks = range(0, len(windows), BLOCK)
        return np.concatenate([_weighted(windows[at : at + BLOCK], recent[at : at + BLOCK + before]) for at in blocks])


def _weighted(scores: Numbers, outputs: Numbers) -> Numbers:
    """Means of n windows of W outputs each, (n + W − 1, H) → (n, H), weighted by the softmax of scores (n, W)."""
    count, width = scores.shape
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    if count == 1:
        return np.asarray(shares @ outputs)
    # row r of the matrix has its window from column r on: in memory, one place more to the right in each row
    band = np.zeros((count, count + width), shares.dtype)
    band[:, :width] = shares
    matrix = band.reshape(-1)[: count * (count + width - 1)].reshape(count, -1)
    return np.asarray(matrix @ outputs)


class ModelStream:
    """Endless sound → decisions; made by ``Model.stream``.

    Attributes:
        window_s: the sound that scores are pooled over
        config: when it decides
        delay_s: how much later than its own sound a step is known, because of deltas
        last_scores: (C,) scores of the newest step, None before the first
        threshold_from: the file that the threshold is of, "given", or "default"
    """

    def __init__(
        self,
        scores: ScoreStream,
        labels: tuple[str, ...],
        window_s: float,
        config: DecisionConfig,
        threshold_from: str = "default",
    ) -> None:
        features = scores.features
        self.threshold_from = threshold_from
        hop_s = features.hop_samples / features.rate_hz
        self.scores, self.labels, self.window_s, self.config = scores, labels, window_s, config
        self.last_scores: Floats | None = None
        self.delay_s = scores.frames.delay_frames * hop_s
        step_samples = features.hop_samples * scores.model.parts.frame_stacking
        self._decider = Decider(labels, config, rate_hz=features.rate_hz, step_samples=step_samples)
        self.smoothed_steps = self._decider.smoothed_steps
        self._resampler = Resampler(features.rate_hz)

    def push(self, samples: ArrayLike, rate_hz: int | None = None) -> list[Decision]:
        """Take any number of samples, (n,) or (n, channels); the decisions that they bring.

        ``rate_hz`` is the samples' rate, the model's unless given, the same for the whole stream.

        Raises:
            ClipError: samples that are none, or another rate than before.
        """
        return self._decided(*self.scores.push(self._resampler.push(mono(samples), rate_hz)))

    @property
    def highest(self) -> Decision | None:
        """The step that came nearest to a decision, or was one; None before the first of a label that may be."""
        return self._decider.highest

    def finish(self) -> list[Decision]:
        """End the stream: the decisions of what waited for more sound."""
        rest = self._decided(*self.scores.push(self._resampler.finish()))
        return rest + self._decided(*self.scores.finish())

    def _decided(self, times_s: list[float], scores: Floats) -> list[Decision]:
        if len(scores):
            self.last_scores = scores[-1]
        return self._decider.push(times_s, scores)
