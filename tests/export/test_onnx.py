"""Whole-clip models as ONNX give the trained model's scores, with every cell and option; streams have a contract."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from cello.cells.load import zoo
from cello.compiler.onnx import writer
from cello.errors import ExportError
from cello.export.onnx import clip_model, step_model
from cello.features.config import FeatureConfig
from cello.models.config import ModelConfig
from made_models import LABELS, made, noise, torch_scores
from units import units

FEATURES = FeatureConfig(rate_hz=8000, n_mels=20)
CELLS = [*enumerate([*sorted(zoo()), "torch:rnn", "torch:gru", "torch:lstm"])]
CLIPS = [noise(length, seed) for seed, length in enumerate((4000, FEATURES.window_samples, 1700, 500))]
POOLINGS = ("attention", "mean", "last")


def scores(model: bytes, clips: list[NDArray[np.float32]]) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    lengths = np.array([len(clip) for clip in clips])
    samples = np.full((len(clips), lengths.max() + 3), np.nan, np.float32)  # what is after a clip's end never counts
    for row, clip in zip(samples, clips, strict=True):
        row[: len(clip)] = clip
    session = onnxruntime.InferenceSession(model, options)
    return session.run(["scores"], {"samples": samples, "lengths": lengths})[0]


def check(config: ModelConfig, features: FeatureConfig = FEATURES) -> None:
    model, parts = made(config, features)
    found = scores(clip_model(parts, features, LABELS), CLIPS)
    expected = torch_scores(model, features, CLIPS)
    np.testing.assert_allclose(found, expected, atol=1e-4 * max(1.0, np.abs(expected).max() / 10))


@pytest.mark.parametrize(("number", "cell"), CELLS)
def test_every_cell_scores_ragged_clips_as_torch_does(number: int, cell: str) -> None:
    pooling: Any = POOLINGS[number % 3]
    hidden = units(cell, 5)
    check(ModelConfig(cell=cell, hidden=hidden, pooling=pooling))
    check(ModelConfig(cell=cell, hidden=hidden, layers=2, bidirectional=True, pooling=POOLINGS[(number + 1) % 3]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "option",
    [
        {"kind": "log-mel"},
        {"pre_emphasis": 0.97},
        {"deltas": 0},
        {"deltas": 1, "delta_width": 3},
        {"delta_width": 15},
        {"delta_width_ms": 100.0},
        {"normalisation": "clip"},
        {"normalisation": "none"},
        {"hop_ms": 16.0},
        {"hop_ms": 55.0},
        {"window_ms": 25.125},  # 201 samples = 3 · 67
        {"window_ms": 24.875},  # 199 samples, a prime
        {"low_hz": 300.0, "high_hz": 3400.0, "n_mels": 12, "n_mfcc": 12, "log_floor": 1e-3},
    ],
    ids=str,
)
def test_every_option_of_the_front_end_is_in_the_model(option: dict[str, Any]) -> None:
    features = FeatureConfig(**{"rate_hz": 8000, "n_mels": 20} | option)
    check(ModelConfig(cell="gru", hidden=5), features)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_stacked_frames_and_zoneout_are_in_the_model(pooling: Any) -> None:
    check(ModelConfig(cell="lstm", hidden=5, frame_stacking=3, pooling=pooling, zoneout=0.2, dropout=0.5))
    check(ModelConfig(cell="torch:lstm", hidden=5, frame_stacking=2, bidirectional=True, pooling=pooling))


def test_a_clip_alone_and_in_a_batch_has_the_same_scores() -> None:
    _, parts = made(ModelConfig(cell="lstm-no-input", hidden=5, bidirectional=True), FEATURES)
    model = clip_model(parts, FEATURES, LABELS)
    together = scores(model, CLIPS)
    for clip, expected in zip(CLIPS, together, strict=True):
        np.testing.assert_allclose(scores(model, [clip])[0], expected, atol=1e-5)


def test_a_long_clip_needs_no_longer_graph() -> None:
    model, parts = made(ModelConfig(cell="mgu", hidden=5), FEATURES)
    content = clip_model(parts, FEATURES, LABELS)
    assert len(onnx.load_from_string(content).graph.node) < 90
    long = [noise(80_000)]
    np.testing.assert_allclose(scores(content, long), torch_scores(model, FEATURES, long), atol=1e-4)


def test_a_model_says_what_it_takes_and_what_its_scores_are() -> None:
    _, parts = made(ModelConfig(cell="gru", hidden=5), FEATURES)
    model = onnx.load_from_string(clip_model(parts, FEATURES, LABELS))
    facts = {each.key: each.value for each in model.metadata_props}
    assert json.loads(facts.pop("labels")) == list(LABELS)
    assert facts == {
        "format": "cello-onnx",
        "format_version": "2",
        "kind": "clip",
        "rate_hz": "8000",
        "window_samples": "320",
        "hop_samples": "160",
    }
    assert "at 8000 Hz in [-1, 1]" in model.doc_string
    assert "at least 320 (one window)" in model.doc_string
    assert model.opset_import[0].version == 18


def test_a_stream_s_model_tells_its_protocol_and_fixes_the_size_of_a_hop() -> None:
    _, parts = made(ModelConfig(cell="gru", hidden=5, frame_stacking=2), FEATURES)
    model = onnx.load_from_string(step_model(parts, FEATURES, LABELS, window_s=0.5))
    assert "After hop number 10 call with drain = 1 4 times, and at the end of the sound 9 times" in model.doc_string
    facts = {each.key: each.value for each in model.metadata_props}
    assert {k: facts[k] for k in ("first_hops", "waiting_frames", "window_steps", "frame_stacking")} == {
        "first_hops": "2",
        "waiting_frames": "4",
        "window_steps": "12",
        "frame_stacking": "2",
    }
    session = onnxruntime.InferenceSession(model.SerializeToString())
    kinds = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64}
    feed = {each.name: np.zeros(each.shape, kinds[each.type]) for each in session.get_inputs()}
    session.run(None, feed)
    with pytest.raises(Exception, match=r"(?s)samples.* Got: 159 Expected: 160"):
        session.run(None, feed | {"samples": np.zeros((1, 159), np.float32)})


def test_a_stream_without_deltas_and_stacking_has_nothing_to_drain() -> None:
    features = FeatureConfig(rate_hz=8000, n_mels=20, deltas=0)
    _, parts = made(ModelConfig(cell="gru", hidden=5), features)
    model = onnx.load_from_string(step_model(parts, features, LABELS, window_s=0.5))
    assert "drain" not in {each.name for each in model.graph.input}
    assert "drain" not in model.doc_string


def test_what_needs_the_future_is_refused_with_what_to_train_instead() -> None:
    clip = FeatureConfig(rate_hz=8000, n_mels=20, normalisation="clip")
    _, parts = made(ModelConfig(cell="gru", hidden=5), clip)
    with pytest.raises(ExportError, match=r"'clip' needs the whole clip.*train with features.normalisation=corpus"):
        step_model(parts, clip, LABELS, window_s=1)
    _, parts = made(ModelConfig(cell="gru", hidden=5, bidirectional=True), FEATURES)
    with pytest.raises(ExportError, match=r"bidirectional and reads from the end.*train with model.bidirectional=fal"):
        step_model(parts, FEATURES, LABELS, window_s=1)


def test_without_onnx_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "onnx", None)
    _, parts = made(ModelConfig(cell="gru", hidden=5), FEATURES)
    with pytest.raises(ExportError, match=r"needs onnx, which is not installed; give: pip install 'cello-rnn\[onnx\]'"):
        clip_model(parts, FEATURES, LABELS)


@pytest.mark.parametrize("cell", ["lstm", "gru", "lstm-peephole-full", "minimalrnn"])
def test_int8_weights_make_a_smaller_model_of_nearly_the_same_scores(cell: str) -> None:
    model, parts = made(ModelConfig(cell=cell, hidden=64, bidirectional=True, layers=2), FEATURES)
    whole, small = (clip_model(parts, FEATURES, LABELS, int8=int8) for int8 in (False, True))
    weights = 4 * sum(weight.size for layer in parts.layers for each in layer for weight in each.weights.values())
    assert len(whole) - len(small) > 0.7 * weights
    np.testing.assert_allclose(scores(small, CLIPS), torch_scores(model, FEATURES, CLIPS), atol=0.05)


def test_int8_weights_are_those_of_each_row_with_its_own_scale() -> None:
    _, parts = made(ModelConfig(cell="mgu", hidden=5), FEATURES)
    for weight in (*parts.layers[0][0].weights.values(), parts.head[0]):
        if weight.ndim == 2:  # as int8 has them: then nothing is lost
            scale = np.abs(weight).max(axis=1, keepdims=True) / np.float32(127)
            weight[:] = np.rint(weight / scale) * scale
    exact, stored = (scores(clip_model(parts, FEATURES, LABELS, int8=int8), CLIPS) for int8 in (False, True))
    np.testing.assert_allclose(stored, exact, atol=1e-5)
