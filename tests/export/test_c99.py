"""A model as C99: what hurts is a score that differs from the trained model's, and a cut of the sound that matters."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from c99_program import LABELS, SMALL, STRICT, Program, by_torch, compiler, frames_of, model_of, run, sound, written
from cello.cells.load import zoo
from cello.deploy.decisions import DecisionConfig
from cello.errors import ModelError
from cello.export.c99 import write_c99
from cello.export.quantise import dequantised
from cello.export.stream import StreamSettings
from cello.features.config import FeatureConfig
from cello.features.frames import frame_count
from cello.models.config import ModelConfig
from scans import kinds
from units import units

COMPUTED = [*sorted(cell.name for cell in kinds(zoo().values())), "torch:rnn", "torch:gru", "torch:lstm"]
TWO_LAYERS = {"lstm-projected", "gru-heads", "sru", "ltc", "nested-lstm", "torch:rnn", "torch:gru", "torch:lstm"}
CLIP = sound(700)


def compare(folder: Path, config: ModelConfig, features: FeatureConfig = SMALL, backend: str = "plain") -> None:
    model, parts = model_of(config, features, backend)
    program = Program(write_c99(parts, features, LABELS, "model"), "model", folder)
    np.testing.assert_allclose(program.stream([CLIP])[-1], by_torch(model, CLIP, features), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("cell", COMPUTED)
def test_every_kind_of_cell_scores_as_the_trained_model(cell: str, tmp_path: Path) -> None:
    """Some with two layers, of which the first reads frames and the second the first."""
    grows = cell == "exprnn"  # so far that a sum in another order is another score: its kernel adds as C99 does
    config = ModelConfig(cell=cell, hidden=units(cell, 6), layers=1 + (cell in TWO_LAYERS))
    compare(tmp_path, config, backend="c" if grows else "plain")


def test_the_text_of_every_other_cell_is_legal_without_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it computes is planned by the code that plans the steps in JavaScript, which compute every cell."""
    others = sorted(zoo().keys() - set(COMPUTED))
    files = []
    for name in others:
        _, parts = model_of(ModelConfig(cell=name, hidden=units(name, 6)))
        files.append(written(write_c99(parts, SMALL, LABELS, name.replace("-", "_")), name.replace("-", "_"), tmp_path))
    assert len(files) > 20
    monkeypatch.chdir(tmp_path)
    run([compiler("cc", "gcc", "clang"), *STRICT, "-O0", "-S", *files])


@pytest.mark.parametrize("pooling", ["last", "mean", "attention"])
def test_every_pooling_stacking_and_zoneout(pooling: Any, tmp_path: Path) -> None:
    compare(tmp_path, ModelConfig(cell="gru", hidden=17, pooling=pooling, frame_stacking=3, zoneout=0.2))


FRONT_ENDS = [
    {"kind": "log-mel", "deltas": 0},
    {"deltas": 1, "delta_width": 5, "pre_emphasis": 0.97},
    {"window_ms": 20.5, "normalisation": "none"},  # 41 samples, a prime
    {"window_ms": 31.5, "hop_ms": 60, "pre_emphasis": 0.9},  # 63 = 3 · 3 · 7 samples, and some that no window has
    {"window_ms": 96, "n_mels": 20, "n_mfcc": 13},  # 192: radices 4, 8 and 3
    {"window_ms": 64, "hop_ms": 10, "delta_width": 3},  # 128
    {"window_ms": 110},  # 220: half of it is 2 · 5 · 11
]


@pytest.mark.parametrize("changes", FRONT_ENDS, ids=str)
def test_every_kind_of_front_end(changes: dict[str, Any], tmp_path: Path) -> None:
    features = FeatureConfig(**{"rate_hz": 2000, "window_ms": 20.0, "n_mels": 8, "n_mfcc": 4, **changes})
    compare(tmp_path, ModelConfig(cell="gru", hidden=4), features)


def test_clips_shorter_than_a_delta_and_than_a_window(tmp_path: Path) -> None:
    model, parts = model_of(ModelConfig(cell="gru", hidden=4))
    program = Program(write_c99(parts, SMALL, LABELS, "model"), "model", tmp_path)
    window, hop = SMALL.window_samples, SMALL.hop_samples
    for frames in range(1, 20):
        clip = sound(window + hop * (frames - 1) + 3)
        scores = program.stream([clip])
        assert len(scores) == frames
        np.testing.assert_allclose(scores[-1], by_torch(model, clip), atol=1e-5)
    assert len(program.stream([sound(window - 1)])) == 0
    assert not program.call("scores")(program.memory)


def test_each_step_pools_the_outputs_of_the_last_window_of_sound(tmp_path: Path) -> None:
    model, parts = model_of(ModelConfig(cell="lstm", hidden=5, frame_stacking=2))
    window_s = 0.11  # 10 frames, 5 steps
    text = write_c99(parts, SMALL, LABELS, "model", settings=StreamSettings(window_s=window_s))
    found = Program(text, "model", tmp_path).stream([CLIP])
    frames, counts = frames_of(CLIP, SMALL)
    x = model.standardise(frames, counts)
    x = torch.cat([x, x.new_zeros(1, -x.shape[1] % 2, x.shape[2])], 1).reshape(1, -1, 2 * x.shape[2])
    with torch.no_grad():
        outputs, _ = model.encoder(x, torch.tensor([x.shape[1]]))
        for t in range(x.shape[1]):
            last = outputs[:, max(0, t - 4) : t + 1]
            scores = model.head(model.pooling(last, last[:, -1], torch.tensor([last.shape[1]])))
            np.testing.assert_allclose(found[t], scores[0].numpy(), atol=1e-5)
    assert len(found) == x.shape[1]


@pytest.fixture(scope="module", params=["int8", "float32"])
def streaming(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Of 8 bits a step at a time; of floats, what depends on frames alone for several steps at once."""
    features = replace_features(pre_emphasis=0.9)
    _, parts = model_of(ModelConfig(cell="lstm", hidden=6, layers=2, frame_stacking=2), features)
    text = write_c99(parts, features, LABELS, "streaming", int8=request.param == "int8")
    assert ("STREAMING_AHEAD" in text.header) == (request.param == "float32")
    return Program(text, "streaming", tmp_path_factory.mktemp("streaming"), ["-O1"])


def replace_features(**changes: Any) -> FeatureConfig:
    return FeatureConfig(**{"rate_hz": 2000, "window_ms": 20.0, "n_mels": 8, "n_mfcc": 4, **changes})


@settings(max_examples=60, derandomize=True)
@given(cuts=st.lists(st.integers(0, 700), max_size=30))
def test_any_chopping_gives_the_same_bits(streaming: Program, cuts: list[int]) -> None:
    whole = streaming.stream([CLIP])
    assert streaming.stream(np.split(CLIP, sorted(cuts))).tobytes() == whole.tobytes()


def test_samples_of_16_bits_are_those_divided_by_32768(streaming: Program) -> None:
    coarse = (CLIP * 32768).astype(np.int16)
    expected = streaming.stream([coarse.astype(np.float32) / 32768])
    for cuts in ([], [1, 300], [450, 470, 490]):
        assert streaming.stream(np.split(coarse, cuts)).tobytes() == expected.tobytes()


def test_a_sample_that_is_no_sound_counts_as_silence(streaming: Program) -> None:
    broken, silent = CLIP.copy(), CLIP.copy()
    broken[[100, 200, 300]] = np.nan, np.inf, -3e38
    silent[[100, 200, 300]] = 0
    assert streaming.stream([broken]).tobytes() == streaming.stream([silent]).tobytes()


def test_a_finished_stream_takes_nothing_until_it_is_begun_anew(streaming: Program) -> None:
    first = streaming.stream([CLIP])
    assert streaming.push(CLIP) == streaming.finish() == 0
    assert streaming.push(np.zeros(0, np.float32)) == 0
    assert list(streaming.call("scores")(streaming.memory)[: len(LABELS)]) == first[-1].tolist()
    assert streaming.stream([CLIP]).tobytes() == first.tobytes()


@pytest.mark.parametrize("hidden", [6, 16, 33])
def test_int8_scores_are_those_of_the_rounded_weights(hidden: int, tmp_path: Path) -> None:
    config = ModelConfig(cell="lstm", hidden=hidden, layers=2)
    model, parts = model_of(config)
    rounded = Program(write_c99(parts, SMALL, LABELS, "rounded", int8=True), "rounded", tmp_path).stream([CLIP])
    exact = Program(write_c99(dequantised(parts), SMALL, LABELS, "exact"), "exact", tmp_path).stream([CLIP])
    np.testing.assert_allclose(rounded, exact, atol=1e-5)
    np.testing.assert_allclose(rounded[-1], by_torch(model, CLIP), atol=0.05)


@pytest.mark.parametrize("stacking", [1, 3])
@pytest.mark.parametrize("piece", [9, 700])
def test_a_listener_is_told_the_end_of_each_steps_last_frame_however_many_come_at_once(
    stacking: int, piece: int, tmp_path: Path
) -> None:
    """The last step may have fewer frames."""
    _, parts = model_of(ModelConfig(cell="rnn", hidden=4, frame_stacking=stacking))
    program = Program(write_c99(parts, SMALL, LABELS, "model"), "model", tmp_path)
    end = program.call("end")
    assert end(program.memory) == 0
    program.stream(np.split(CLIP, range(piece, len(CLIP), piece)))
    frames = frame_count(len(CLIP), SMALL.window_samples, SMALL.hop_samples)
    assert frames % 3 == 1
    last = [min(k + stacking, frames) - 1 for k in range(0, frames, stacking)]
    assert program.ends == [k * SMALL.hop_samples + SMALL.window_samples for k in last]
    assert end(program.memory) == program.ends[-1]


def test_labels_of_any_script_are_there_as_utf_8(tmp_path: Path) -> None:
    labels = ('say "yes"?', "back\\slash", "größe 数")
    _, parts = model_of(ModelConfig(cell="rnn", hidden=4))
    program = Program(write_c99(parts, SMALL, labels, "model"), "model", tmp_path)
    stored = (ctypes.c_char_p * 3).in_dll(program.library, "model_labels")
    assert tuple(label.decode() for label in stored) == labels


def refused(message: str, **changes: Any) -> None:
    model, name = {"cell": "gru", "hidden": 4, **changes.pop("model", {})}, changes.pop("name", "model")
    _, parts = model_of(ModelConfig(**model))
    features = replace_features(**changes.pop("features", {}))
    with pytest.raises(ModelError, match=message):
        write_c99(changes.pop("parts", lambda same: same)(parts), features, changes.pop("labels", LABELS), name)


def test_what_a_stream_cannot_have_is_refused_with_what_to_train_instead() -> None:
    refused("the model is bidirectional.* train model.bidirectional=false", model={"bidirectional": True})
    refused(
        "normalisation=clip needs the whole clip.* train features.normalisation=corpus",
        features={"normalisation": "clip"},
    )


def test_settings_that_no_stream_can_have_are_refused() -> None:
    for window_s, decide in ((-1.0, {}), (np.nan, {}), (1.0, {"smooth_s": 1e9}), (1.0, {"refractory_s": 3600.0})):
        (field,) = decide or {"window_s"}
        with pytest.raises(ModelError, match=rf"{field}=.* is invalid: it must be a number from 0 to below 3600"):
            StreamSettings(window_s, DecisionConfig(**decide))


def test_what_does_not_fit_is_refused() -> None:
    refused("takes 12 features and scores 3 labels, but it was given a front end of 12 and 1 labels", labels=("a",))
    refused("given a front end of 8 and 3 labels; give those it was trained with", features={"deltas": 1})
    refused("'1x' cannot begin the names of C functions; use a letter", name="1x")
    refused("NaN or infinite; train it with a lower", parts=lambda parts: replace(parts, mean=parts.mean * np.nan))
