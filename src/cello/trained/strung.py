"""String clips into one long stream with noise between, and measure a model on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from cello.audio.corpus import Corpus, Split
from cello.audio.folds import indices_of
from cello.deploy.decisions import DecisionConfig, smoothed, softmax
from cello.errors import ConfigError, CorpusError
from cello.statistics.detection import Event, Rates, chosen, counted, rates
from cello.trained.mapping import targets_of
from cello.trained.model import Model

THRESHOLDS = (
    *(k / 50 for k in range(10, 45)),
    *(k / 200 for k in range(180, 198)),
    *(k / 1000 for k in range(990, 1000)),
    *(0.9995, 0.9999, 0.99995, 0.99999),
)
NOISE = 1e-3
"""Root mean square of the noise between clips where the corpus has no recordings of noise: 60 dB below full scale."""
SILENCE = ("silence", "_silence_")
"""Background labels whose clips are noise; those of any other background label are other words."""
SPOKEN = 0.99
"""A word ends where this share of its clip's energy above the noise floor has passed."""
Floats = NDArray[np.float32]


class StreamConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How clips are strung and decisions are counted.

    Attributes:
        gap_s: noise between two clips, in s
        tolerance_s: how long after a clip's end a decision still is of that clip, in s; so long as the window has it
        most_false_alarms: false alarms an hour that the threshold may bring on the validation clips
        seed: of the order of clips and the places in recordings of noise
    """

    gap_s: float = 2.0
    tolerance_s: float = 1.0
    most_false_alarms: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for field in ("gap_s", "tolerance_s", "most_false_alarms"):
            if not 0 <= getattr(self, field) < 1e6:
                raise ConfigError(f"{field}={getattr(self, field)} is invalid: it must be finite and at least 0")


class StreamEvaluation(msgspec.Struct, frozen=True, kw_only=True):
    """How a model does on endless sound at the threshold chosen on the validation clips.

    ``words`` are the test clips of the model's words, ``other_words`` those of others; ``hours_without_words`` is what
    false alarms are counted an hour of: noise, other words. ``test`` is what the threshold brings, ``curve`` what
    others do on the same clips: the DET curve. Latencies have the delay of deltas, ``delay_s``, in them. ``threshold``
    is None, and so are ``validation`` and ``test``, where none brings few enough false alarms on the validation clips.
    ``validation_hours_without_words`` is None in files of a Cello that did not keep it.
    """

    run: str
    corpus: str
    window_s: float
    smooth_s: float
    refractory_s: float
    background: tuple[str, ...]
    delay_s: float
    config: StreamConfig
    hours: float
    hours_without_words: float
    words: int
    other_words: int
    speakers: int
    threshold: float | None
    validation: Rates | None
    test: Rates | None
    curve: tuple[Rates, ...]
    validation_hours_without_words: float | None = None


class Trace(NamedTuple):
    """A scored stream: for each step the sample at which its sound ends, the best label and its smoothed probability.

    That probability is −1 where the best label is background. ``events`` are the clips, at ``rate_hz``.
    ``groups`` are the words' speakers, each word one of its own where nobody knows who speaks.
    """

    ends: NDArray[np.int64]
    best: NDArray[np.int64]
    top: NDArray[np.float64]
    events: list[Event]
    hours: float
    groups: list[str]
    rate_hz: int

    @property
    def words(self) -> list[Event]:
        return [event for event in self.events if event.label]

    def hours_without_words(self, tolerance_s: float) -> float:
        """The sound in which a decision would be a false alarm."""
        ends = [*(event.start_s for event in self.events[1:]), 3600 * self.hours]
        spoken = (
            min(event.end_s + tolerance_s, end) - event.start_s
            for event, end in zip(self.events, ends, strict=True)
            if event.label
        )
        return self.hours - sum(spoken) / 3600


def evaluate_stream(
    model: Model,
    corpus: Corpus,
    config: StreamConfig,
    decide: DecisionConfig,
    window_s: float | None = None,
    mapping: Mapping[str, str] | None = None,
) -> StreamEvaluation:
    """String the validation clips to choose the threshold, then the test clips to measure what it brings.

    Every clip comes once, in random order. Clips of ``decide.background`` are there too, but no decision is right
    in them. ``mapping`` says which label of the model a label of the corpus is, empty for none: its clips are left out.

    Raises:
        CorpusError: a label that the model has not and that is not mapped, or a split without words.
        ConfigError: a mapping from or to a label that is not there.
        ModelError, FeatureError: a model that cannot be streamed.
    """
    model = Model(model.trained, precision=model.precision)  # as if nothing had been measured before
    stream = model.stream(window_s, smooth_s=decide.smooth_s, refractory_s=decide.refractory_s)
    targets = targets_of(model.labels, corpus, mapping or {})
    held, test = (_trace(model, corpus, split, config, decide, window_s, targets) for split in ("validation", "test"))
    tried, curve = ([*_curve(trace, model.labels, config, decide, stream.delay_s)] for trace in (held, test))
    best = chosen([rate.point for rate in tried], config.most_false_alarms)
    at = None if best is None else [rate.threshold for rate in tried].index(best.threshold)
    return StreamEvaluation(
        run=model.run.run,
        corpus=corpus.manifest.corpus,
        window_s=stream.window_s,
        smooth_s=decide.smooth_s,
        refractory_s=decide.refractory_s,
        background=tuple(label for label in model.labels if label in decide.background),
        delay_s=stream.delay_s,
        config=config,
        hours=test.hours,
        hours_without_words=test.hours_without_words(config.tolerance_s),
        words=len(test.words),
        other_words=len(test.events) - len(test.words),
        speakers=len(set(test.groups)) if corpus.manifest.speakers_known else 0,
        threshold=None if best is None else best.threshold,
        validation=None if at is None else tried[at],
        test=None if at is None else curve[at],
        curve=tuple(curve),
        validation_hours_without_words=held.hours_without_words(config.tolerance_s),
    )


def strung(
    corpus: Corpus, clips: Sequence[int] | NDArray[np.int64], config: StreamConfig
) -> Iterator[tuple[Floats, int]]:
    """The pieces of a stream of these clips: (n,) samples and the place of the clip they are, −1 for noise between."""
    rng = np.random.default_rng(config.seed)
    gap = round(config.gap_s * corpus.manifest.rate_hz)
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


def word_end(sound: Floats, rate_hz: int) -> int:
    """The sample at which the word in a clip ends, by its energy in frames of 10 ms above the quietest tenth of them.

    >>> word_end(np.r_[np.zeros(800), np.ones(1600), np.zeros(1600)].astype(np.float32), 16_000)
    2400
    """
    hop = max(1, rate_hz // 100)
    frames = sound[: len(sound) // hop * hop].reshape(-1, hop).astype(np.float64)
    if not len(frames):
        return len(sound)
    energy = np.square(frames).mean(axis=1)
    passed = np.maximum(energy - np.quantile(energy, 0.1), 0).cumsum()
    return (int(np.searchsorted(passed, SPOKEN * passed[-1])) + 1) * hop if passed[-1] > 0 else len(sound)


def _trace(
    model: Model,
    corpus: Corpus,
    split: Split,
    config: StreamConfig,
    decide: DecisionConfig,
    window_s: float | None,
    targets: NDArray[np.int64],
) -> Trace:
    """The smoothed probabilities at every step of a split's stream, and the clips in it."""
    stream, rate, manifest = model.stream(window_s, smooth_s=decide.smooth_s), corpus.manifest.rate_hz, corpus.manifest
    clips = indices_of(corpus, model.run.config.data.fold if manifest.folds else "")[split]
    times: list[float] = []
    found: list[Floats] = []
    events: list[Event] = []
    at = 0
    for piece, clip in strung(corpus, clips[targets[clips] >= 0], config):
        more, scores = stream.scores.push(piece)
        times += more
        found.append(scores)
        label = "" if clip < 0 else model.labels[targets[clip]]
        if label and label not in SILENCE:
            end = (at + word_end(piece, rate)) / rate
            said, who = "" if label in decide.background else label, manifest.clips[clip].speaker
            events.append(Event(at / rate, (at + len(piece)) / rate, said, who, end))
        at += len(piece)
    words = [event for event in events if event.label]
    if not words:
        raise CorpusError(f"corpus {manifest.corpus!r} has no {split} clips of words; add some to that split")
    more, scores = stream.scores.finish()
    means = smoothed(softmax(np.concatenate([*found, scores])), stream.smoothed_steps)
    best = means.argmax(axis=1)
    top = np.where(np.isin(model.labels, decide.background)[best], -1.0, means.max(axis=1))
    groups = [event.speaker if manifest.speakers_known else str(k) for k, event in enumerate(words)]
    ends = np.rint(np.array([*times, *more]) * rate).astype(np.int64)
    return Trace(ends, best, top, events, at / rate / 3600, groups, rate)


def decisions_at(
    trace: Trace, threshold: float, labels: tuple[str, ...], decide: DecisionConfig
) -> list[tuple[float, str]]:
    """The decisions of a whole stream, (time in s, label), as ``Decider`` makes them one by one."""
    steps = np.flatnonzero(trace.top >= threshold)
    ends, refractory, found, k = trace.ends[steps], decide.refractory_samples(trace.rate_hz), [], 0
    while k < len(steps):
        found.append((int(ends[k]) / trace.rate_hz, labels[trace.best[steps[k]]]))
        k = max(k + 1, int(np.searchsorted(ends, ends[k] + refractory)))
    return found


def _curve(
    trace: Trace, labels: tuple[str, ...], config: StreamConfig, decide: DecisionConfig, delay_s: float
) -> Iterator[Rates]:
    hours = trace.hours_without_words(config.tolerance_s)
    for threshold in THRESHOLDS:
        decided = decisions_at(trace, threshold, labels, decide)
        yield rates(threshold, counted(trace.events, decided, config.tolerance_s), trace.groups, hours, delay_s)
