"""Streaming: chopped otherwise, sound must give the same scores, and those of the clip that it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import soxr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cello
import cello.deploy
from cello.deploy.decisions import Decision, DecisionConfig
from cello.errors import ClipError, ConfigError, FeatureError, ModelError, StoreError
from cello.export.package import Package, write_package
from cello.features.clip import frames_of_clip
from cello.features.config import FeatureConfig
from cello.models.classifier import Classifier
from cello.models.config import ModelConfig
from cello.models.parts import parts_of
from cello.statistics.detection import Rates
from cello.study.corpus_file import read_corpus, write_corpus
from cello.trained.numpy_model import NumpyModel
from cello.trained.run import read_run
from cello.trained.stream import BLOCK, ScoreStream, steps_in
from cello.trained.strung import StreamConfig, StreamEvaluation


def noise(samples: int) -> Any:
    rng = np.random.default_rng(samples)
    return (rng.normal(0, 0.2, samples) * np.linspace(0, 1, samples)).astype(np.float32)


def model_of(features: FeatureConfig, **model: Any) -> NumpyModel:
    config = ModelConfig(**{"hidden": 6, **model})
    made = Classifier(config, features.dimensions, 3, seed=2)
    made.mean += 1.5
    made.deviation *= 3
    return NumpyModel(parts_of(config, {name: value.detach().numpy() for name, value in made.state_dict().items()}))


def chopped(stream: ScoreStream, sound: Any, sizes: list[int]) -> tuple[list[float], Any]:
    times: list[float] = []
    found, at = [], 0
    for size in [*sizes, len(sound)]:
        more, scores = stream.push(sound[at : at + size])
        times, at = times + more, at + size
        found.append(scores)
    more, scores = stream.finish()
    return times + more, np.concatenate([*found, scores])


models = st.fixed_dictionaries(
    {
        "cell": st.sampled_from(["gru", "lstm", "torch:lstm", "lstm-peephole-full"]),
        "layers": st.integers(1, 2),
        "pooling": st.sampled_from(["last", "mean", "attention"]),
        "frame_stacking": st.integers(1, 3),
    }
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(models, st.integers(0, 2), st.lists(st.integers(0, 5000), max_size=8), st.integers(4000, 9000))
def test_any_chopping_gives_the_scores_of_the_clip(
    model: dict[str, Any], deltas: int, sizes: list[int], samples: int
) -> None:
    features = FeatureConfig(deltas=deltas)
    made, sound = model_of(features, **model), noise(samples)
    window = steps_in(samples / 16_000, features, model["frame_stacking"])
    times, scores = chopped(ScoreStream(made, features, window), sound, sizes)
    whole, expected = chopped(ScoreStream(made, features, window), sound, [])
    assert times == whole
    np.testing.assert_allclose(scores, expected, atol=1e-5, rtol=0)
    frames = frames_of_clip(sound, features)
    np.testing.assert_allclose(scores[-1], made.scores(frames), atol=1e-5, rtol=0)
    for step in (0, len(scores) // 2):  # each step is the end of a clip, but for deltas and stacks, which look ahead
        upto = frames[: (step + 1) * model["frame_stacking"]]
        np.testing.assert_allclose(scores[step], made.scores(upto), atol=1e-5, rtol=0)


def test_pooling_is_over_the_window_alone() -> None:
    features = FeatureConfig(deltas=0)
    made, sound = model_of(features, pooling="mean"), noise(16_000)
    _, scores = chopped(ScoreStream(made, features, 5), sound, [1000] * 20)
    outputs, _ = made.encode(made.standardised(frames_of_clip(sound, features)), made.first_states())
    np.testing.assert_allclose(scores[30], made.head(outputs[26:31].mean(axis=0)), atol=1e-5)
    np.testing.assert_allclose(scores[2], made.head(outputs[:3].mean(axis=0)), atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_many_steps_of_one_push_are_pooled_as_one_by_one(pooling: str) -> None:
    made, sound = model_of(FeatureConfig(deltas=0), pooling=pooling), noise(40_000)
    _, at_once = chopped(ScoreStream(made, FeatureConfig(deltas=0), 49), sound, [])
    _, hop_by_hop = chopped(ScoreStream(made, FeatureConfig(deltas=0), 49), sound, [320] * 124)
    assert len(at_once) > 3 * BLOCK
    np.testing.assert_allclose(at_once, hop_by_hop, atol=1e-5, rtol=0)


def test_a_step_is_dated_by_the_end_of_its_last_frame() -> None:
    features = FeatureConfig(window_ms=40, hop_ms=20, deltas=0)
    times, scores = chopped(ScoreStream(model_of(features, frame_stacking=2), features, 9), noise(4000), [])
    assert times == [0.06, 0.1, 0.14, 0.18, 0.22, 0.24]  # the last stack is one frame and zeros
    assert len(scores) == 6


def test_a_stream_at_another_rate_is_resampled(make_run: Any) -> None:
    model = cello.load_model(make_run(pooling="last"))
    slow = noise(24_000)
    fast = soxr.resample(slow, 16_000, 48_000).astype(np.float32)
    stream = model.stream(threshold=0, refractory_s=0)
    found = [d for at in range(0, len(fast), 4800) for d in stream.push(fast[at : at + 4800], 48_000)] + stream.finish()
    stream = model.stream(threshold=0, refractory_s=0)
    expected = stream.push(slow) + stream.finish()
    assert [d.label for d in found] == [d.label for d in expected]
    np.testing.assert_allclose([d.score for d in found[:-5]], [d.score for d in expected[:-5]], atol=1e-2)
    stream = model.stream()
    stream.push(fast, 48_000)
    with pytest.raises(ClipError, match="the stream began at 48000 Hz and goes on at 8000 Hz; begin a new one"):
        stream.push(fast, 8000)


def test_decisions_come_with_time_label_and_score(make_run: Any) -> None:
    model = cello.load_model(make_run())
    stream = model.stream(threshold=0.0, smooth_s=0.1, refractory_s=0.5)
    assert stream.window_s == pytest.approx(15_000 / 16_000)  # the median of the training clips
    assert stream.delay_s == pytest.approx(0.08)
    assert stream.config == DecisionConfig(threshold=0.0, smooth_s=0.1, refractory_s=0.5)
    decisions = stream.push(noise(32_000)) + stream.finish()
    assert all(isinstance(one, Decision) and one.label in model.labels and 0 <= one.score <= 1 for one in decisions)
    assert [one.time_s for one in decisions] == pytest.approx([0.04, 0.54, 1.04, 1.54])


def test_what_needs_the_future_is_refused_with_what_to_train(make_run: Any) -> None:
    both = cello.load_model(make_run("both", bidirectional=True))
    with pytest.raises(ModelError, match=r"model\.bidirectional=true .*; train with model\.bidirectional=false"):
        both.stream()
    clip = cello.load_model(make_run("clip", features=FeatureConfig(normalisation="clip")))
    with pytest.raises(FeatureError, match=r"train with features\.normalisation=corpus"):
        clip.stream()


@pytest.mark.parametrize(
    "wrong", [{"threshold": 1.5}, {"smooth_s": -1}, {"refractory_s": float("inf")}, {"window_s": 0}]
)
def test_invalid_settings_are_refused(make_run: Any, wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))} is invalid: it must be"):
        cello.load_model(make_run()).stream(**wrong)


def measured(folder: Path, **changes: Any) -> StreamEvaluation:
    """What evaluation leaves in a run's folder."""
    rates = Rates(
        threshold=0.94, miss_rate=0.1, miss_interval=(0.05, 0.2), false_alarms=2, in_noise=2, in_other_words=0,
        false_alarms_an_hour=0.8, false_alarms_interval=(0.1, 2.9), confusion_rate=0.0, repeat_rate=0.0, latency_s=0.2,
        latency_95_s=0.3,
    )  # fmt: skip
    settings = {
        "run": cello.load_model(folder).run.run, "window_s": 0.5, "threshold": 0.94, "smooth_s": 0.1,
        "refractory_s": 0.7, "background": ("low",),
    } | changes  # fmt: skip
    found = StreamEvaluation(
        corpus="tones", delay_s=0.02, config=StreamConfig(), hours=2.6, hours_without_words=2.5, words=60,
        other_words=0, speakers=4, validation=None, test=rates, curve=(), **settings,
    )  # fmt: skip
    (folder / "stream.json").write_bytes(msgspec.json.encode(found))
    return found


def test_a_stream_decides_as_was_chosen_for_the_run_unless_it_is_told_otherwise(make_run: Any) -> None:
    """What hurts: a run that listens with 0.8 while its export listens with the threshold that was measured."""
    folder = make_run()
    measured(folder)
    stream = cello.load_model(folder).stream()
    chosen = DecisionConfig(threshold=0.94, smooth_s=0.1, refractory_s=0.7, background=("low",))
    assert (stream.window_s, stream.config) == (0.5, chosen)
    stream = cello.load_model(folder).stream(0.3, threshold=0.5)
    assert (stream.window_s, stream.config) == (0.3, replace(chosen, threshold=0.5))
    for other in ({"run": "0" * 16}, {"threshold": None}):
        measured(folder, **other)
        assert cello.load_model(folder).stream().config == DecisionConfig(refractory_s=1.4375)


def test_a_run_and_its_export_are_measured_and_decide_alike(make_run: Any, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    folder = make_run(pooling="mean")
    measured(folder)
    write_package(Package(trained=read_run(folder), forms=("onnx",)), tmp_path / "model")
    run, export = cello.load_model(folder).stream(), cello.deploy.load(tmp_path / "model").stream()
    assert run.config == export.config
    sound = noise(32_000)
    found = [stream.push(sound) + stream.finish() for stream in (run, export)]
    assert [one[:2] for one in found[0]] == [one[:2] for one in found[1]]


def test_what_was_chosen_and_is_damaged_is_said_where_it_is_needed(make_run: Any) -> None:
    folder = make_run()
    (folder / "stream.json").write_text("{")
    model = cello.load_model(folder)
    assert model.predict(noise(16_000), 16_000).label in model.labels
    with pytest.raises(StoreError, match=r"stream\.json.* is damaged: .*; measure again with cello evaluate --stream"):
        model.stream()


def test_a_run_that_does_not_record_its_clips_asks_for_the_window(make_run: Any) -> None:
    folder = make_run()
    write_corpus(folder, msgspec.structs.replace(read_corpus(folder / "corpus.json"), train_clip_s=None))
    model = cello.load_model(folder)
    with pytest.raises(ModelError, match=r"does not record how long its training clips are, .*; give window_s"):
        model.stream()
    assert model.stream(1.0).window_s == 1.0


def test_memory_stays_flat_over_a_long_stream(make_run: Any) -> None:
    stream = cello.load_model(make_run()).stream()
    sound = noise(16_000)
    for _ in range(30):
        stream.push(sound)
    scores = stream.scores
    assert len(scores._outputs) < scores.window_steps
    assert len(scores._waiting) == 0
    assert len(scores.frames._tail) < 8000
