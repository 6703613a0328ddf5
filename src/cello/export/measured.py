"""Gather what was measured of a run: accuracy with its interval, rates on a stream, accuracy that int8 costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cello.audio.corpus import Corpus, groups_in_words
from cello.audio.folds import indices_of
from cello.deploy.decisions import DecisionConfig
from cello.deploy.manifest import Int8Facts, Interval, StreamMeasured
from cello.errors import CorpusError, ExportError, StoreError
from cello.export.page import store_of
from cello.export.quantise import dequantised
from cello.export.reference import clip_scores
from cello.models.parts import ModelParts
from cello.report.metrics import BY_KEY
from cello.statistics.one_run import share_over
from cello.study.pools import StoredRun, pooled
from cello.study.single import open_store
from cello.study.store import Store
from cello.trained.chosen import measured_stream
from cello.trained.run import TrainedRun
from cello.trained.strung import StreamEvaluation
from cello.training.result import NOT_EVALUATED


def run_accuracy(trained: TrainedRun, store: Store) -> Interval | None:
    """The run's own test accuracy, with Wilson's interval over speakers where predictions and speakers are there."""
    if trained.result.test == NOT_EVALUATED:
        return None
    value, corpus = trained.result.test.accuracy, store.corpus
    run = next((run for run in store.each_result(curves=False) if run.id == trained.result.run), None)
    try:
        arrays = store.predictions(run, ("target", "prediction")) if run is not None else {}
    except StoreError:  # predictions are not needed to use a model, and may be left behind
        arrays = {}
    if not arrays or trained.result.config.data.fold:
        return Interval(value=value)
    correct = arrays["target"] == arrays["prediction"]
    speakers = corpus.test_speakers if corpus.speakers_known else ()
    known = len(speakers) == len(correct) and len(set(speakers)) > 1
    if not known and len(correct) < 2:
        return Interval(value=value)
    share = share_over(correct, speakers if known else np.arange(len(correct)))
    nobody = {number for number in speakers if corpus.speaker_names and not corpus.speaker_names[number]}
    over = groups_in_words(share.groups - len(nobody), len(nobody)) if known else f"{share.groups} clips"
    return Interval(value=value, low=share.low, high=share.high, over=over)


def study_accuracy(trained: TrainedRun, store: Store) -> Interval | None:
    """The mean test accuracy over the seeds beside a run, None where the run is the only one."""
    finished = list(store.each_result(curves=False))
    own = next((run for run in finished if run.id == trained.result.run), None)
    if own is None:
        return None
    beside: list[StoredRun] = [run for run in finished if (run.row, run.column) == (own.row, own.column)]
    whole = pooled(beside, store.corpus) if store.corpus.folds else beside
    tested = [run.result for run in whole if run.result.test != NOT_EVALUATED]
    if len(tested) < 2:
        return None
    mean, half, seeds = BY_KEY["test_accuracy"].over(tested)
    low, high = (None, None) if half is None else (max(0.0, mean - half) / 100, min(100.0, mean + half) / 100)
    return Interval(value=mean / 100, low=low, high=high, over=f"{seeds} seeds")


def store_and_run(trained: TrainedRun) -> tuple[Store, StoredRun | None]:
    """The store that a run is part of, and the run in it."""
    store = open_store(store_of(trained))
    return store, next((run for run in store.each_result(curves=False) if run.id == trained.result.run), None)


def word_accuracy(trained: TrainedRun) -> dict[str, float]:
    """The share of each label's test clips that was right; labels without test clips are not in it."""
    rows = zip(trained.labels, trained.result.confusion, strict=False)
    return {label: row[place] / sum(row) for place, (label, row) in enumerate(rows) if sum(row)}


def stream_evaluation(trained: TrainedRun) -> StreamEvaluation | None:
    """What ``cello evaluate RUN --stream --out RUN`` left in the run's folder, None where it did not or of another run.

    Raises:
        ExportError: the file is damaged.
    """
    return measured_stream(trained, StreamEvaluation, ExportError)


def stream_measured(found: StreamEvaluation | None, config: DecisionConfig, window_s: float) -> StreamMeasured | None:
    """What was measured with just these settings; None if other ones, or none, were measured."""
    if found is None or found.threshold is None or found.test is None:
        return None
    settings = DecisionConfig(
        threshold=found.threshold,
        smooth_s=found.smooth_s,
        refractory_s=found.refractory_s,
        background=found.background,
    )
    if config != settings or window_s != found.window_s:
        return None
    rates = found.test
    low, high = rates.false_alarms_interval
    miss_low, miss_high = rates.miss_interval or (None, None)
    return StreamMeasured(
        corpus=found.corpus,
        hours=found.hours_without_words,
        words=found.words,
        threshold=found.threshold,
        false_alarms_an_hour=Interval(value=rates.false_alarms_an_hour, low=low, high=high, over="hours of sound"),
        miss_rate=Interval(value=rates.miss_rate, low=miss_low, high=miss_high, over=f"{found.speakers} speakers"),
        latency_s=rates.latency_s,
    )


def int8_cost(trained: TrainedRun, corpus: Corpus | None) -> Int8Facts:
    """What 8-bit weights cost on the validation clips of a corpus; nothing is measured without one.

    Raises:
        CorpusError: the corpus has a label that the model has not, or no validation clips.
    """
    if corpus is None:
        return Int8Facts()
    before, after = (
        _validation_accuracy(trained, parts, corpus) for parts in (trained.parts, dequantised(trained.parts))
    )
    return Int8Facts(accuracy=after, accuracy_float32=before, points_lost=100 * (before - after))


def check_int8(cost: Int8Facts, most: float | None) -> None:
    """Refuse int8 weights that cost more than so many points, or whose cost is not known.

    Raises:
        ExportError: they do.
    """
    if most is None:
        return
    if cost.points_lost is None:
        raise ExportError(
            f"--most-int8-loss {most:g} needs the validation clips to measure what int8 costs; give --corpus too"
        )
    if cost.points_lost > most:
        raise ExportError(
            f"int8 weights cost {cost.points_lost:.2f} points of validation accuracy, more than --most-int8-loss "
            f"{most:g}; leave out --int8, or allow more"
        )


def _validation_accuracy(trained: TrainedRun, parts: ModelParts, corpus: Corpus) -> float:
    if corpus.manifest.checksum != trained.result.config.corpus.checksum:
        strange = sorted({clip.label for clip in corpus.manifest.clips} - set(trained.labels))
        if strange:
            raise CorpusError(
                f"the model has no label {strange[0]!r} of {corpus.manifest.corpus!r}; give the corpus that it was "
                "trained on, with the same --labels, --unknown and --silence"
            )
    features = trained.result.config.features
    fold = trained.result.config.data.fold if corpus.manifest.folds else ""
    clips = indices_of(corpus, fold)["validation"]
    if not len(clips):
        raise CorpusError(f"corpus {corpus.manifest.corpus!r} has no validation clips; give the one it was trained on")
    right = 0
    for k in clips:
        samples = corpus.audio(np.array([k]))[0][0]
        scores = clip_scores(parts, features, samples)
        right += trained.labels[int(scores.argmax())] == corpus.manifest.clips[int(k)].label
    return right / len(clips)


def as_shipped(trained: TrainedRun, *, int8: bool) -> TrainedRun:
    """The run whose model is as the forms compute it: with ``int8`` its matrices are what 8 bits can hold."""
    return replace(trained, parts=dequantised(trained.parts)) if int8 else trained
