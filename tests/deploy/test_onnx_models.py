"""Exported models without the workbench: streams equal batches however the sound is chopped; wrong sound is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cello.cells.load import zoo
from cello.deploy import onnx_models
from cello.deploy.onnx_models import ClipModel, StreamModel
from cello.errors import DeployError
from cello.export.onnx import clip_model, step_model
from cello.features.config import FeatureConfig
from cello.features.mfcc import extract
from cello.models.classifier import Classifier
from cello.models.config import ModelConfig
from made_models import LABELS, made, noise, torch_scores
from units import units

FEATURES = FeatureConfig(rate_hz=8000, n_mels=20)
CELLS = [*enumerate([*sorted(zoo()), "torch:rnn", "torch:gru", "torch:lstm"])]
WINDOW_S = 0.5


def stream(folder: Path, config: ModelConfig, features: FeatureConfig = FEATURES) -> tuple[Classifier, StreamModel]:
    model, parts = made(config, features)
    path = folder / "step.onnx"
    path.write_bytes(step_model(parts, features, LABELS, window_s=WINDOW_S))
    return model, StreamModel(path)


def whole(model: StreamModel, sound: NDArray[np.float32], cuts: list[int]) -> tuple[Any, Any]:
    """All times and scores of a stream that is cut at these places."""
    found = [model.push(part) for part in np.split(sound, sorted(cuts))] + [model.finish()]
    return tuple(np.concatenate([getattr(steps, name) for steps in found]) for name in ("times_s", "scores"))


def check(folder: Path, config: ModelConfig, features: FeatureConfig, samples: int) -> None:
    model, made_stream = stream(folder, config, features)
    sound = noise(samples)
    times, scores = whole(made_stream, sound, [7, samples // 3, samples // 2 + 1])
    frames = 1 + (samples - features.window_samples) // features.hop_samples
    assert len(scores) == -(-frames // config.frame_stacking)
    assert times[-1] == ((frames - 1) * features.hop_samples + features.window_samples) / features.rate_hz
    np.testing.assert_allclose(scores[-1], torch_scores(model, features, [sound])[0], atol=1e-4)


@pytest.mark.parametrize(("number", "cell"), CELLS)
def test_a_stream_of_one_clip_ends_with_the_clip_s_scores(tmp_path: Path, number: int, cell: str) -> None:
    pooling: Any = ("mean", "last", "attention")[number % 3]
    config = ModelConfig(cell=cell, hidden=units(cell, 5), layers=1 + number % 2, pooling=pooling)
    check(tmp_path, config, FEATURES, 3333)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"kind": "log-mel", "pre_emphasis": 0.97, "deltas": 1, "delta_width": 3},
    {"deltas": 0, "hop_ms": 16.0},
    {"delta_width": 7, "hop_ms": 55.0, "pre_emphasis": 0.5},
    {"normalisation": "none", "hop_ms": 40.0, "delta_width": 5},
]
# one window; fewer frames than deltas take, an even and an odd number; just enough; many; a rest that fills a window
LENGTHS = (320, 500, 1100, 1300, 1600, 2950, 3999)


@pytest.mark.parametrize(("number", "option"), [*enumerate(OPTIONS)])
@pytest.mark.parametrize("stacking", [1, 2, 3])
def test_streams_of_every_length_end_with_the_clip_s_scores(
    tmp_path: Path, number: int, option: dict[str, Any], stacking: int
) -> None:
    features = FeatureConfig(**{"rate_hz": 8000, "n_mels": 20} | option)
    pooling: Any = ("mean", "last", "attention")[(number + stacking) % 3]
    for samples in LENGTHS[number % 2 :: 2]:
        config = ModelConfig(cell=("lstm", "lem")[number % 2], hidden=5, frame_stacking=stacking, pooling=pooling)
        check(tmp_path, config, features, samples)


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> tuple[StreamModel, NDArray[np.float32], Any]:
    """A stream of attention, far longer than its window, and its scores when it is given at once."""
    model = stream(tmp_path_factory.mktemp("stream"), ModelConfig(cell="gru", hidden=5, frame_stacking=2))[1]
    sound = noise(16_000)
    return model, sound, whole(model, sound, [])


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 16_000), max_size=12))
def test_any_chopping_gives_the_same_scores(endless: Any, cuts: list[int]) -> None:
    model, sound, (times, scores) = endless
    model.reset()
    again = whole(model, sound, cuts)
    assert (again[0] == times).all()
    assert (again[1] == scores).all()


def test_whole_hops_before_and_after_other_pieces_give_the_same_steps(
    endless: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, sound, (times, scores) = endless
    monkeypatch.setattr(onnx_models, "TIMES", 7)
    for cuts in ([*range(160, 16_000, 160)], [*range(160, 3200, 160), 3300, 6400, *range(6560, 16_000, 160)]):
        model.reset()
        again = whole(model, sound, cuts)
        assert (again[0] == times).all()
        assert (again[1] == scores).all()


def test_what_a_push_returned_stays_as_it_was(endless: Any) -> None:
    model, sound, (times, scores) = endless
    model.reset()
    first = [model.push(sound[at : at + 160]) for at in range(0, 8000, 160)]
    for steps in first:
        steps.times_s[:] += 1
        steps.scores[:] += 1
    rest = [model.push(sound[at : at + 160]) for at in range(8000, 16_000, 160)]
    found = np.concatenate([steps.times_s for steps in first]), np.concatenate([steps.scores for steps in first])
    count = len(found[0])
    np.testing.assert_array_equal(found[0], times[:count] + 1)
    np.testing.assert_array_equal(found[1], scores[:count] + 1)
    after = np.concatenate([steps.times_s for steps in rest])
    np.testing.assert_array_equal(after, times[count : count + len(after)])


@pytest.mark.parametrize("pooling", ["mean", "attention", "last"])
def test_scores_are_pooled_over_the_last_window_of_a_longer_stream(tmp_path: Path, pooling: Any) -> None:
    features = FeatureConfig(rate_hz=8000, n_mels=20, deltas=0)
    model, made_stream = stream(tmp_path, ModelConfig(cell="rnn", hidden=5, pooling=pooling), features)
    sound = noise(9000)
    found = whole(made_stream, sound, [])[1]
    frames, counts = extract(torch.from_numpy(sound[None]), torch.tensor([len(sound)]), features)
    steps = 1 + (int(WINDOW_S * 8000) - 320) // 160
    with torch.no_grad():
        y, _ = model.encoder(model.standardise(frames, counts), counts)
        for t in (0, 3, steps - 1, steps, len(found) - 1):
            part = y[:, max(0, t + 1 - steps) : t + 1]
            expected = model.head(model.pooling(part, part[:, -1], torch.tensor([part.shape[1]])))[0]
            np.testing.assert_allclose(found[t], expected, atol=1e-4)


def test_scores_come_as_soon_as_their_deltas_are_known(tmp_path: Path) -> None:
    _, model = stream(tmp_path, ModelConfig(cell="gru", hidden=5))
    hop = np.zeros(160, np.float32)
    counts = [len(model.push(hop).scores) for _ in range(14)]
    assert counts == [0] * 9 + [5, 1, 1, 1, 1]
    assert model.delay_s == 4 * 0.02
    assert len(model.finish().scores) == 4


def test_a_day_of_sound_takes_no_more_memory_than_a_minute(tmp_path: Path) -> None:
    _, model = stream(tmp_path, ModelConfig(cell="gru", hidden=5))
    sizes = set()
    for _ in range(4):
        model.push(np.zeros(8001, np.float32))
        own = vars(model).values()
        sizes.add(sum(each.nbytes for each in own if isinstance(each, np.ndarray)) - model._rest.nbytes)
        assert len(model._rest) < 160
    assert len(sizes) == 1


@pytest.fixture
def clips(tmp_path: Path) -> tuple[Classifier, ClipModel]:
    model, parts = made(ModelConfig(cell="lstm", hidden=5), FEATURES)
    (tmp_path / "model.onnx").write_bytes(clip_model(parts, FEATURES, LABELS))
    return model, ClipModel(tmp_path / "model.onnx")


def test_clips_are_scored_alone_and_as_a_ragged_list(clips: tuple[Classifier, ClipModel]) -> None:
    model, exported = clips
    sounds = [noise(2000), noise(320, 1), noise(900, 2)]
    expected = torch_scores(model, FEATURES, sounds)
    np.testing.assert_allclose(exported.scores(sounds), expected, atol=1e-4)
    np.testing.assert_allclose(exported.scores(sounds[0]), expected[0], atol=1e-4)
    np.testing.assert_allclose(exported.scores(sounds[0].astype(np.float64)), expected[0], atol=1e-4)
    assert exported.scores([]).shape == (0, 4)
    assert exported.labels == LABELS


@pytest.mark.parametrize(
    ("sound", "rate_hz", "message"),
    [
        (np.zeros(900, np.float32), 16_000, "has rate_hz=16000, but the model takes 8000; resample it to 8000 Hz"),
        (np.zeros(900, np.int16), None, "is int16, and must be float in .-1, 1.; divide 16-bit samples by 32768"),
        (np.zeros((2, 3, 4)), None, r"has the shape \(2, 3, 4\), and must be one channel \(N,\)"),
        ([np.zeros(900), np.zeros(319)], None, "clip 1 has 319 samples, less than one window of 320; give longer"),
        ([np.full(900, np.nan)], None, "clip 0 holds NaN or infinite values; leave them out"),
    ],
)
def test_sound_that_the_model_cannot_take_is_refused(clips: Any, sound: Any, rate_hz: Any, message: str) -> None:
    with pytest.raises(DeployError, match=message):
        clips[1].scores(sound, rate_hz)


def test_a_finished_stream_takes_no_more_sound(tmp_path: Path) -> None:
    _, model = stream(tmp_path, ModelConfig(cell="gru", hidden=5))
    model.finish()
    with pytest.raises(DeployError, match=r"finished and takes no more sound; call reset\(\) to begin another"):
        model.push(np.zeros(5, np.float32))
    model.reset()
    with pytest.raises(DeployError, match="has rate_hz=16000, but the model takes 8000"):
        model.push(np.zeros(5, np.float32), rate_hz=16_000)


def changed(path: Path, name: str, value: str) -> None:
    model = onnx.load(path)
    for each in model.metadata_props:
        if each.key == name:
            each.value = value
    onnx.save(model, path)


def test_other_files_are_refused_with_what_to_do(tmp_path: Path) -> None:
    stream(tmp_path, ModelConfig(cell="gru", hidden=5))
    path = tmp_path / "step.onnx"
    with pytest.raises(DeployError, match="of kind 'stream', not 'clip'; open it with StreamModel"):
        ClipModel(path)
    good = path.read_bytes()
    for name, value, message in (
        ("hop_samples", "many", "its hop_samples is 'many', no number; export the model again"),
        ("labels", "[", "its labels are no list; export the model again"),
        ("format_version", "3", "has format version 3, and this Cello reads up to 2; update cello-rnn"),
        ("format", "other", "is an ONNX model that Cello did not write"),
    ):
        path.write_bytes(good)
        changed(path, name, value)
        with pytest.raises(DeployError, match=message):
            StreamModel(path)
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(DeployError, match=r"is no ONNX model that can run"):
        StreamModel(path)
    with pytest.raises(
        DeployError, match=r"absent.onnx' cannot be read: No such file or directory; name an exported model"
    ):
        StreamModel(tmp_path / "absent.onnx")


def test_without_onnxruntime_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(onnx_models, "onnxruntime", None)
    with pytest.raises(DeployError, match=r"need onnxruntime, .*give: pip install 'cello-rnn\[deploy\]'"):
        ClipModel(tmp_path / "model.onnx")


def test_neither_torch_nor_onnx_is_loaded(clips: Any, tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np; from cello.deploy.onnx_models import ClipModel;"
        f"print(ClipModel({str(tmp_path / 'model.onnx')!r}).scores(np.zeros(900)).shape);"
        "print({'torch', 'onnx', 'scipy', 'distributed', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["(4,)", "set()"]
