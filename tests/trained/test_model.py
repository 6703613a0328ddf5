"""A loaded model: what it says of a clip is what the trained module says, whatever form the sound comes in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
import torch

import cello
from cello.errors import ClipError, ConfigError, ModelError, StoreError
from cello.features.config import FeatureConfig
from cello.features.front_end import extract

SOUND = (8000 * np.sin(0.2 * np.arange(16_000))).astype(np.int16)


def write_wav(path: Path, sound: Any) -> None:
    soundfile.write(path, sound, 16_000, subtype="PCM_16")


def scores_by_torch(model: cello.Model, sound: Any) -> Any:
    samples = torch.from_numpy(np.asarray(sound, np.float32)[None])
    frames, counts = extract(samples, torch.tensor([samples.shape[1]]), model.features)
    with torch.no_grad():
        return model.module(model.module.standardise(frames, counts), counts)[0].numpy()


@pytest.mark.parametrize("more", [{}, {"cell": "torch:lstm", "layers": 2}, {"bidirectional": True, "pooling": "mean"}])
def test_predict_is_what_the_module_says(make_run: Any, more: dict[str, Any]) -> None:
    model = cello.load_model(make_run(**more))
    found = model.predict(SOUND, 16_000)
    np.testing.assert_allclose(found.scores, scores_by_torch(model, SOUND / np.float32(32768)), atol=1e-5)
    assert not model.module.training
    assert found.label == model.labels[int(found.scores.argmax())]
    assert found.probabilities.sum() == pytest.approx(1)
    assert found.top(2)[0] == (found.label, found.probability)
    assert [len(found.top(k)) for k in (1, 3, 9)] == [1, 3, 3]


def test_another_precision_is_refused_by_name(make_run: Any) -> None:
    with pytest.raises(ConfigError, match="precision='bf16' is invalid: it must be float32 or float64"):
        cello.load_model(make_run(), precision="bf16")


def test_stereo_rates_and_types_are_as_the_corpus_reader_has_them(make_run: Any, tmp_path: Path) -> None:
    model = cello.load_model(make_run())
    stereo = np.stack([SOUND, SOUND[::-1]], axis=1) / np.float32(32768)
    fast = soxr.resample(stereo, 16_000, 44_100)
    soundfile.write(tmp_path / "fast.wav", fast, 44_100, subtype="FLOAT")
    (by_file,) = model.predict_files([tmp_path / "fast.wav"])
    assert (model.predict(fast, 44_100).scores == by_file.scores).all()
    assert by_file.file == str(tmp_path / "fast.wav")
    write_wav(tmp_path / "plain.wav", SOUND)
    (plain,) = model.predict_files([tmp_path / "plain.wav"])
    for same in (SOUND, SOUND / 32768):
        assert (model.predict(same, 16_000).scores == plain.scores).all()


@pytest.mark.parametrize(
    ("samples", "rate_hz", "message"),
    [
        (
            SOUND[:600],
            16_000,
            r"too short: it lasts 37\.5 ms, less than one window of features\.window_ms=40; give a lo",
        ),
        ([], 16_000, "too short: it lasts 0 ms"),
        (np.zeros((2, 900)), 16_000, r"samples of shape \(2, 900\) are not taken; give \(N,\) or \(N, channels\)"),
        (np.zeros(900, np.int32), 16_000, r"type int32 are not taken; give floats in \[-1, 1\] or int16"),
        (np.full(900, np.nan), 16_000, "not finite"),
        (np.full(900, 3e4), 16_000, "far beyond full scale"),
        (SOUND, 0, "rate_hz=0 is invalid: it must be a positive whole number of hertz"),
        (SOUND, 44_100.5, r"rate_hz=44100\.5 is invalid"),
    ],
)
def test_what_is_no_clip_is_refused_by_name(make_run: Any, samples: Any, rate_hz: int, message: str) -> None:
    with pytest.raises(ClipError, match=message):
        cello.load_model(make_run()).predict(samples, rate_hz)


def test_a_broken_file_is_named(make_run: Any, tmp_path: Path) -> None:
    write_wav(tmp_path / "good.wav", SOUND)
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    with pytest.raises(ClipError, match=r"bad\.wav': .*"):
        cello.load_model(make_run()).predict_files([tmp_path / "good.wav", tmp_path / "bad.wav"])
    with pytest.raises(ClipError, match=r"none\.wav': cannot be opened"):
        cello.load_model(tmp_path / "run").predict_files([tmp_path / "none.wav"])


def test_silence_is_sound_too(make_run: Any, tmp_path: Path) -> None:
    write_wav(tmp_path / "silent.wav", 0 * SOUND)
    (found,) = cello.load_model(make_run()).predict_files([tmp_path / "silent.wav"])
    assert np.isfinite(found.scores).all()


def test_what_was_measured_is_there_and_what_it_is_in_a_line(make_run: Any) -> None:
    folder = make_run(features=FeatureConfig(window_ms=80))
    model = cello.load_model(str(folder))
    assert (model.labels, model.features.window_ms, model.folder) == (("high", "low", "rough"), 80.0, folder)
    assert model.run.validation.accuracy == 0.5
    assert repr(model) == f"<Model gru, 3 labels, 16000 Hz, run {model.run.run}>"


def test_a_run_without_its_weights_says_what_is_missing(make_run: Any) -> None:
    folder = make_run()
    (folder / "model.safetensors").unlink()
    with pytest.raises(StoreError, match=r"holds no model\.safetensors, so its model cannot be used; copy that file"):
        cello.load_model(folder)


def test_weights_of_another_size_are_refused(make_run: Any) -> None:
    model = cello.load_model(make_run(), row="gru")
    other = make_run("other", hidden=7)
    (model.folder / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    with pytest.raises(ModelError, match=r"the weights of run \w+ are not those of its config \(size mismatch for"):
        _ = model.module
