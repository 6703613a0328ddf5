"""String clips into one long stream with noise between, and measure a model on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from cello.audio.corpus import Corpus, Split
from cello.audio.folds import indices_of
from cello.deploy.decisions import DecisionConfig, softmax
from cello.errors import ConfigError, CorpusError
from cello.statistics.detection import Event, Point, chosen, counted, rate_interval
from cello.statistics.one_run import Share, share_over
from cello.trained.model import Model

THRESHOLDS = (0.0, *(k / 50 for k in range(10, 49)), 0.97, 0.98, 0.985, 0.99, 0.995, 0.999, 0.9999)
NOISE = 1e-3
"""Root mean square of the noise between clips where the corpus has no recordings of noise: 60 dB below full scale."""
Floats = NDArray[np.float32]


class StreamConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How clips are strung and decisions are counted.

    Attributes:
        gap_s: noise between two clips, in s
        tolerance_s: how long after a clip's end a decision still is of that clip, in s
        most_false_alarms: false alarms an hour that the threshold may bring on the validation clips
        seed: of the order of clips and the places in recordings of noise
    """

    gap_s: float = 1.0
    tolerance_s: float = 0.5
    most_false_alarms: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for field in ("gap_s", "tolerance_s", "most_false_alarms"):
            if not 0 <= getattr(self, field) < 1e6:
                raise ConfigError(f"{field}={getattr(self, field)} is invalid: it must be finite and at least 0")


class StreamEvaluation(msgspec.Struct, frozen=True, kw_only=True):
    """How a model does on endless sound at the threshold chosen on the validation clips.

    ``miss_rate`` is over speakers where they are known, ``false_alarms_an_hour`` with its exact Poisson interval,
    ``latency_s`` the median time from a word's end to its decision (below 0: before its end), without the delay of
    deltas, ``delay_s``. ``curve`` are the points of the test clips' DET curve. ``threshold`` is None, and so are the
    rates, where no threshold brings few enough false alarms on the validation clips.
    """

    run: str
    corpus: str
    window_s: float
    delay_s: float
    config: StreamConfig
    hours: float
    words: int
    threshold: float | None
    validation: Point | None
    miss_rate: Share | None
    false_alarms: int
    false_alarms_an_hour: float | None
    false_alarms_interval: tuple[float, float] | None
    latency_s: float | None
    curve: tuple[Point, ...]


class Trace(NamedTuple):
    """A stream heard: for each step its time, the best label and its smoothed probability, −1 of background; words."""

    times_s: NDArray[np.float64]
    best: NDArray[np.int64]
    top: NDArray[np.float64]
    events: list[Event]
    hours: float


def evaluate_stream(
    model: Model, corpus: Corpus, config: StreamConfig, decide: DecisionConfig, window_s: float | None = None
) -> StreamEvaluation:
    """String the validation clips to choose the threshold, then the test clips to measure what it brings.

    Every clip is heard once, in random order. Clips of ``decide.background`` are there too, but no decision is right
    in them.

    Raises:
        CorpusError: a label that the model has not, or a split without words.
        ModelError, FeatureError: a model that cannot be streamed.
    """
    if missing := sorted({clip.label for clip in corpus.manifest.clips} - set(model.labels)):
        raise CorpusError(
            f"the model has no label {missing[0]!r} of {corpus.manifest.corpus!r}; choose those that it has with "
            "--labels"
        )
    validation, test = (_trace(model, corpus, split, config, decide, window_s) for split in ("validation", "test"))
    best = chosen(list(_curve(validation, model.labels, config, decide)), config.most_false_alarms)
    stream = model.stream(window_s)
    told = StreamEvaluation(
        run=model.run.run, corpus=corpus.manifest.corpus, window_s=stream.window_s, delay_s=stream.delay_s,
        config=config, hours=test.hours, words=len(test.events), threshold=None, validation=best, miss_rate=None,
        false_alarms=0, false_alarms_an_hour=None, false_alarms_interval=None, latency_s=None,
        curve=tuple(_curve(test, model.labels, config, decide)),
    )  # fmt: skip
    if best is None:
        return told
    decided = decisions_at(test, best.threshold, model.labels, decide.refractory_s)
    found = counted(test.events, decided, config.tolerance_s)
    speakers = [event.speaker if corpus.manifest.speakers_known else k for k, event in enumerate(test.events)]
    return msgspec.structs.replace(
        told,
        threshold=best.threshold,
        miss_rate=share_over(~found.hits, speakers) if len(set(speakers)) > 1 else None,
        false_alarms=found.false_alarms,
        false_alarms_an_hour=found.false_alarms / test.hours,
        false_alarms_interval=rate_interval(found.false_alarms, test.hours),
        latency_s=float(np.median(found.latencies_s)) if len(found.latencies_s) else None,
    )


def strung(corpus: Corpus, split: Split, config: StreamConfig, fold: str = "") -> Iterator[tuple[Floats, int]]:
    """The pieces of a stream in order: (n,) samples and the place of the clip they are, −1 for noise between."""
    rng = np.random.default_rng(config.seed)
    gap = round(config.gap_s * corpus.manifest.rate_hz)
    clips = indices_of(corpus, fold)[split]
    for k in rng.permutation(clips):
        yield _noise(corpus, gap, rng), -1
        yield corpus.audio(np.array([k]))[0][0], int(k)
    yield _noise(corpus, gap, rng), -1


def _noise(corpus: Corpus, samples: int, rng: np.random.Generator) -> Floats:
    """Noise from a random place of a recording, looped; of a corpus without any, faint white noise."""
    if not corpus.noise:
        return rng.normal(0, NOISE, samples).astype(np.float32)
    recording = corpus.noise[rng.integers(len(corpus.noise))]
    return np.resize(np.roll(recording, -int(rng.integers(len(recording)))), samples)


def _trace(
    model: Model, corpus: Corpus, split: Split, config: StreamConfig, decide: DecisionConfig, window_s: float | None
) -> Trace:
    """The smoothed probabilities at every step of a split's stream, and the words in it."""
    stream, rate = model.stream(window_s, smooth_s=decide.smooth_s), corpus.manifest.rate_hz
    fold = model.run.config.data.fold if corpus.manifest.folds else ""
    times: list[float] = []
    found, events, at = [], [], 0
    for piece, clip in strung(corpus, split, config, fold):
        more, scores = stream.scores.push(piece)
        times, at = times + more, at + len(piece)
        found.append(scores)
        label = "" if clip < 0 else corpus.manifest.clips[clip].label
        if clip >= 0 and label not in decide.background:
            who = corpus.manifest.clips[clip].speaker
            events.append(Event((at - len(piece)) / rate, at / rate, label, who))
    more, scores = stream.scores.finish()
    if not events:
        raise CorpusError(f"corpus {corpus.manifest.corpus!r} has no {split} clips of words; add some to that split")
    probabilities = softmax(np.concatenate([*found, scores]))
    smoothed = _averaged(probabilities, stream.smooth_steps)
    background = np.isin(model.labels, decide.background)
    best = smoothed.argmax(axis=1)
    top = np.where(background[best], -1.0, smoothed.max(axis=1))
    return Trace(np.array([*times, *more]), best, top, events, at / rate / 3600)


def _averaged(probabilities: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """(T, C) → the mean over the last ``steps`` of each; of the first ones over as many as there are."""
    sums = np.cumsum(probabilities, axis=0)
    sums[steps:] -= sums[:-steps].copy()
    return sums / np.minimum(np.arange(1, len(sums) + 1), steps)[:, None]


def decisions_at(
    trace: Trace, threshold: float, labels: tuple[str, ...], refractory_s: float
) -> list[tuple[float, str]]:
    """The decisions of a whole stream, (time in s, label), as ``Decider`` makes them one by one."""
    steps = np.flatnonzero(trace.top >= threshold)
    times, found, k = trace.times_s[steps], [], 0
    while k < len(steps):
        found.append((float(times[k]), labels[trace.best[steps[k]]]))
        k = max(k + 1, int(np.searchsorted(times, times[k] + refractory_s - 5e-7)))
    return found


def _curve(trace: Trace, labels: tuple[str, ...], config: StreamConfig, decide: DecisionConfig) -> Iterator[Point]:
    for threshold in THRESHOLDS:
        decided = decisions_at(trace, threshold, labels, decide.refractory_s)
        found = counted(trace.events, decided, config.tolerance_s)
        yield Point(threshold, found.false_alarms / trace.hours, float(1 - found.hits.mean()))
