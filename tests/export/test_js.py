"""What hurts: a model in JavaScript whose scores are not Python's, and sound that is chopped otherwise."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cello.cells.load import zoo
from cello.deploy.decisions import DecisionConfig
from cello.export.js import JsModel, module_text, pack, script_json
from cello.export.stream import StreamSettings
from cello.features.config import FeatureConfig
from cello.features.mfcc import extract
from cello.models.classifier import Classifier, stack_frames
from cello.models.config import ModelConfig
from cello.models.parts import parts_of
from units import units

Sound = NDArray[np.float32]
LABELS = ("yes", "no", "silence")
RATE_HZ = 4000
SMALL = FeatureConfig(rate_hz=RATE_HZ, n_mels=12, n_mfcc=6, delta_width=5)

pytestmark = pytest.mark.wants("node")


def sound(samples: int, seed: int = 0) -> Sound:
    rng = np.random.default_rng(seed)
    t = np.arange(samples) / RATE_HZ
    loud = 0.3 * np.sin(2 * np.pi * (300 + 400 * seed) * t) * np.sin(5 * t) ** 2
    return (loud + rng.normal(0, 0.01, samples)).astype(np.float32)


def made(model: ModelConfig, features: FeatureConfig = SMALL) -> Classifier:
    """A classifier whose weights are no neat numbers."""
    found = Classifier(model, features.dimensions, len(LABELS), seed=4, backend="plain").eval()  # nothing to compile
    with torch.no_grad():
        for weight in found.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
        frames, _ = frames_of(sound(RATE_HZ), features)  # else a cell without bounds blows rounding errors up
        found.mean.copy_(frames[0].mean(0))
        found.deviation.copy_(frames[0].std(0) + 0.1)
    return found


def described(
    model: ModelConfig, features: FeatureConfig = SMALL, stream: StreamSettings | None = None
) -> tuple[Classifier, JsModel]:
    torch_model = made(model, features)
    parts = parts_of(model, {name: value.detach().numpy() for name, value in torch_model.state_dict().items()})
    return torch_model, JsModel("one", parts, features, LABELS, stream or StreamSettings())


def frames_of(clip: Sound, features: FeatureConfig) -> tuple[torch.Tensor, torch.Tensor]:
    return extract(torch.from_numpy(clip)[None], torch.tensor([len(clip)]), features)


def in_python(model: Classifier, features: FeatureConfig, clip: Sound) -> NDArray[np.float32]:
    frames, counts = frames_of(clip, features)
    with torch.no_grad():
        return model(model.standardise(frames, counts), counts)[0].numpy()  # type: ignore[no-any-return]


MAIN = """
import { readFileSync } from "node:fs";
const { clips, pieces, windows } = JSON.parse(readFileSync("data.json"));
const sounds = clips.map((clip) => Float32Array.from(clip));
const tried = (work) => { try { return work(); } catch (error) { return { name: error.name, text: error.message }; } };
function streamed(model, sound, pieces, window) {
  const stream = new Stream(model, window), found = [];
  let at = 0;
  for (let k = 0; at < sound.length; at += pieces[k++ % pieces.length]) {
    found.push(...stream.push(sound.subarray(at, at + pieces[k % pieces.length])));
  }
  found.push(...stream.finish());
  return found.map(({ time_s, scores }) => ({ time_s, scores: [...scores] }));
}
console.log(JSON.stringify(MODELS.map((description, k) => {
  const model = new Model(description, CELLS);
  return {
    scores: sounds.map((sound) => tried(() => [...model.predict(sound)])),
    streams: pieces.map((each) => sounds.map((sound) => tried(() => streamed(model, sound, each, windows[k])))),
  };
})));
"""


def in_node(
    models: Sequence[JsModel],
    clips: Sequence[Sound],
    folder: Path,
    pieces: Sequence[Sequence[int]] = ([1 << 20],),
    windows: Sequence[float] | None = None,
) -> list[dict[str, Any]]:
    """Scores of whole clips and of streams by each model, all in one process."""
    own = windows or [model.stream.window_s for model in models]
    data = {"clips": [clip.tolist() for clip in clips], "pieces": pieces, "windows": own}
    return run_in_node(module_text(models) + MAIN, data, folder)  # type: ignore[no-any-return]


def run_in_node(text: str, data: Any, folder: Path) -> Any:
    (folder / "data.json").write_text(json.dumps(data))
    (folder / "main.mjs").write_text(text, encoding="utf-8")
    done = subprocess.run(["node", "main.mjs"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2000]
    return json.loads(done.stdout)


def compare(configs: Sequence[tuple[ModelConfig, FeatureConfig]], clips: Sequence[Sound], folder: Path) -> None:
    pairs = [described(*config) for config in configs]
    found = in_node([model for _, model in pairs], clips, folder)
    for (model, features), (classifier, _), own in zip(configs, pairs, found, strict=True):
        for clip, scores in zip(clips, own["scores"], strict=True):
            expected = in_python(classifier, features, clip)
            bound = 1e-4 * max(1.0, float(np.abs(expected).max()) / 10)  # some cells' outputs have no bound
            np.testing.assert_allclose(scores, expected, atol=bound, rtol=0, err_msg=f"{model} {features}")


CLIPS = (sound(RATE_HZ), sound(RATE_HZ // 3, 1), sound(161, 2))


def test_every_cell_with_one_and_two_layers_scores_clips_as_in_python(tmp_path: Path) -> None:
    names = [*zoo(), "torch:rnn", "torch:gru", "torch:lstm"]
    configs = [
        (ModelConfig(cell=name, hidden=units(name, 6), layers=layers), SMALL) for name in names for layers in (1, 2)
    ]
    compare(configs, CLIPS, tmp_path)


def test_directions_pooling_stacking_and_zoneout_are_computed_as_in_python(tmp_path: Path) -> None:
    poolings = ("last", "mean", "attention")
    both = [ModelConfig(cell="gru", hidden=6, layers=2, bidirectional=True, pooling=pooling) for pooling in poolings]
    stacked = [ModelConfig(cell="lstm", hidden=6, frame_stacking=3, pooling=pooling) for pooling in poolings]
    others = [ModelConfig(cell="lstm", hidden=6, zoneout=0.3), ModelConfig(cell="torch:gru", bidirectional=True)]
    compare([(model, SMALL) for model in (*both, *stacked, *others)], CLIPS, tmp_path)


def test_every_front_end_is_computed_as_in_python(tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [
        {"kind": "log-mel"},
        {"deltas": 0},
        {"deltas": 1, "delta_width": 3},
        {"delta_width": 25},
        {"normalisation": "clip"},
        {"normalisation": "none", "pre_emphasis": 0.97},
        {"window_ms": 40.25},  # 161 = 7 · 23 samples, an odd number
        {"window_ms": 30.0, "hop_ms": 75.0},  # sound between windows that no frame sees
        {"window_ms": 26.5, "hop_ms": 10.0, "low_hz": 0.0, "high_hz": 1800.0, "log_floor": 1e-3},  # 106 = 2 · 53
    ]
    features = [msgspec.structs.replace(SMALL, **change) for change in changes]
    compare([(ModelConfig(cell="gru", hidden=6), each) for each in features], CLIPS, tmp_path)


def windowed(model: Classifier, features: FeatureConfig, clip: Sound, window: int) -> NDArray[np.float32]:
    """The scores at every step by whole-clip operations: outputs of the whole clip, pooled over the last W."""
    frames, counts = frames_of(clip, features)
    with torch.no_grad():
        x, lengths = stack_frames(model.standardise(frames, counts), counts, model.frame_stacking)
        outputs, _ = model.encoder(x, lengths)
        found = []
        for t in range(outputs.shape[1]):
            last = outputs[:, max(0, t + 1 - window) : t + 1]
            pooled = model.pooling(last, outputs[:, t], torch.tensor([last.shape[1]]))
            found.append(model.head(pooled)[0].numpy())
    return np.stack(found)


def test_streams_score_every_step_over_the_last_window_however_the_sound_is_chopped(tmp_path: Path) -> None:
    features = [SMALL, msgspec.structs.replace(SMALL, window_ms=30.0, hop_ms=75.0, pre_emphasis=0.9, deltas=1)]
    models = [
        (ModelConfig(cell="lstm", hidden=6, layers=2, pooling="attention"), features[0]),
        (ModelConfig(cell="gru", hidden=6, frame_stacking=2, pooling="mean"), features[0]),
        (ModelConfig(cell="mgu", hidden=6, pooling="last"), features[1]),
    ]
    pairs = [described(*each) for each in models]
    pieces = [[1 << 20], [1], [64, 1, 333, 7], [160]]
    found = in_node([model for _, model in pairs], CLIPS, tmp_path, pieces, [0.25, 0.25, 9.0])
    for (config, own), (classifier, _), streams in zip(models, pairs, found, strict=True):
        frames = 1 + (RATE_HZ // 4 - own.window_samples) // own.hop_samples
        window = -(-frames // config.frame_stacking) if config.pooling != "last" else 1
        for k, clip in enumerate(CLIPS):
            expected = windowed(classifier, own, clip, window)
            whole = streams["streams"][0][k]
            assert all(streams["streams"][n][k] == whole for n in range(len(pieces)))
            np.testing.assert_allclose([step["scores"] for step in whole], expected, atol=1e-4, rtol=0)


def test_the_last_scores_of_a_stream_of_one_clip_are_those_of_the_clip(tmp_path: Path) -> None:
    _, model = described(ModelConfig(cell="lstm", hidden=6, frame_stacking=2))
    (found,) = in_node([model], CLIPS, tmp_path)
    for scores, steps in zip(found["scores"], found["streams"][0], strict=True):
        assert steps[-1]["scores"] == scores
    assert [step["time_s"] for step in found["streams"][0][0]][:2] == [0.06, 0.1]  # ends of frames 1 and 3


def test_what_needs_the_future_streams_under_no_name_and_says_what_to_train(tmp_path: Path) -> None:
    _, both = described(ModelConfig(cell="gru", hidden=6, bidirectional=True))
    _, clip = described(ModelConfig(cell="gru", hidden=6), msgspec.structs.replace(SMALL, normalisation="clip"))
    found = [each["streams"][0][0]["text"] for each in in_node([both, clip], CLIPS, tmp_path)]
    assert found == [
        "A bidirectional model reads each clip from its end; train with model.bidirectional=false to stream.",
        "features.normalisation=clip needs the whole clip; train with features.normalisation=corpus to stream.",
    ]


def test_a_clip_shorter_than_a_window_is_refused_and_streams_without_a_score(tmp_path: Path) -> None:
    _, model = described(ModelConfig(cell="gru", hidden=6))
    (found,) = in_node([model], [sound(120)], tmp_path)
    text = "the clip lasts 30 ms, less than one window of 40 ms; give a longer one"
    assert found["scores"] == [{"name": "RangeError", "text": text}]
    assert found["streams"] == [[[]]]


def test_decisions_are_smoothed_wait_and_leave_background_out(tmp_path: Path) -> None:
    settings = StreamSettings(decide=DecisionConfig(smooth_s=0.04, refractory_s=0.1, threshold=0.9))
    _, model = described(ModelConfig(cell="gru", hidden=6), stream=settings)
    scores = [[9, 0, 0], [9, 0, 0], [0, 0, 0], [0, 9, 0], [0, 9, 0], [0, 9, 0], [0, 0, 9], [0, 0, 9], [0, 0, 9]]
    text = """
const { scores } = JSON.parse(readFileSync("data.json")), decisions = new Decisions(new Model(MODELS[0], CELLS));
const found = scores.map((each, k) => decisions.push({ time_s: 0.02 * k, scores: each }));
const labels = found.map(({ decision }) => decision?.label ?? null);
console.log(JSON.stringify([labels, [...found[2].probabilities]]));
"""
    first = 'import { readFileSync } from "node:fs";\n'
    labels, probabilities = run_in_node(first + module_text([model]) + text, {"scores": scores}, tmp_path)
    assert labels == ["yes", None, None, None, None, "no", None, None, None]
    share = np.exp(9) / (np.exp(9) + 2)
    assert probabilities[0] == pytest.approx((share + 1 / 3) / 2)


LAST_SECONDS = """
import { readFileSync } from "node:fs";
const { sound, cuts } = JSON.parse(readFileSync("data.json")), samples = Float32Array.from(sound);
const model = new Model(MODELS[0], CELLS);
console.log(JSON.stringify(cuts.map((size) => {
  const stream = new LastSeconds(model), found = [];
  const decisions = new Decisions(model, { threshold: 0 }, stream.stepSamples);
  for (let at = 0; at < samples.length; at += size) found.push(...stream.push(samples.subarray(at, at + size)));
  return { steps: found.map(({ time_s, scores }) => [time_s, ...scores]), smoothed: decisions.steps };
})));
"""


def test_a_model_that_needs_whole_clips_scores_the_last_seconds_however_they_are_chopped(tmp_path: Path) -> None:
    """What hurts: bars that depend on the browser's pieces, or an average over ten scores, two seconds here."""
    classifier, model = described(ModelConfig(cell="gru", hidden=6, bidirectional=True))
    clip = sound(3 * RATE_HZ)
    data = {"sound": clip.tolist(), "cuts": [80, 1001, len(clip)]}
    by_hop, uneven, at_once = run_in_node(module_text([model]) + LAST_SECONDS, data, tmp_path)
    assert by_hop == uneven == at_once
    assert by_hop["smoothed"] == 1
    assert [step[0] for step in by_hop["steps"]] == pytest.approx([0.5 + 0.2 * k for k in range(13)])
    expected = in_python(classifier, SMALL, clip[round(1.5 * RATE_HZ) : round(2.5 * RATE_HZ)])
    np.testing.assert_allclose(by_hop["steps"][10][1:], expected, atol=1e-4)


def test_matrices_may_be_int8_with_a_scale_a_row(tmp_path: Path) -> None:
    def quantise(matrix: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        scales = (np.abs(matrix).max(axis=1) / 127).astype(np.float32)
        return np.round(matrix / scales[:, None]).astype(np.int8), scales

    classifier, model = described(ModelConfig(cell="lstm", hidden=6))
    with torch.no_grad():
        for weight in classifier.encoder.parameters():
            if weight.ndim == 2:
                values, scales = quantise(weight.numpy())
                weight.copy_(torch.from_numpy(values * scales[:, None]))
        values, scales = quantise(classifier.head.weight.numpy())
        classifier.head.weight.copy_(torch.from_numpy(values * scales[:, None]))
    data = {"clips": [CLIPS[0].tolist()], "pieces": [], "windows": [1]}
    (found,) = run_in_node(module_text([model], quantise) + MAIN, data, tmp_path)
    np.testing.assert_allclose(found["scores"][0], in_python(classifier, SMALL, CLIPS[0]), atol=1e-4)
    assert len(module_text([model], quantise)) < len(module_text([model]))


def test_cells_of_one_name_and_other_equations_are_two_functions() -> None:
    _, plain = described(ModelConfig(cell="lstm", hidden=6))
    _, noisy = described(ModelConfig(cell="lstm", hidden=6, zoneout=0.3))
    assert module_text([plain, plain]).count("function cell_lstm") == 1
    assert module_text([plain, noisy]).count("function cell_lstm") == 2


def test_data_cannot_end_the_script_it_stands_in() -> None:
    assert json.loads(script_json("</script>\u2028é")) == "</script>\u2028é"
    assert "</" not in script_json({"a": "</script>"})


def test_weights_are_packed_as_little_endian_floats() -> None:
    assert pack(np.array([1.0, -2.0], dtype=np.float32)) == {"float32": "AACAPwAAAMA="}
