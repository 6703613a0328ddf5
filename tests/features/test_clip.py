"""Frames without torch: those of training, or a model used elsewhere is fed other features than it learned from."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cello.errors import FeatureError
from cello.features import clip, front_end
from cello.features.c import library
from cello.features.clip import by_numpy, frames_of_clip
from cello.features.config import FeatureConfig

configs = st.builds(
    FeatureConfig,
    kind=st.sampled_from(["mfcc", "log-mel"]),
    window_ms=st.sampled_from([20.0, 33.0, 40.0]),
    hop_ms=st.sampled_from([None, 7.0, 45.0]),
    n_mels=st.just(20),
    n_mfcc=st.integers(1, 7),
    pre_emphasis=st.sampled_from([0.0, 0.97]),
    deltas=st.integers(0, 2),
    delta_width=st.sampled_from([3, 9]),
    normalisation=st.sampled_from(["none", "clip"]),
)


def noise(samples: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(samples)
    return (rng.normal(0, 0.1, samples) + 0.1 * np.sin(0.3 * np.arange(samples))).astype(np.float32)


@settings(max_examples=40)
@given(configs, st.integers(700, 9000))
def test_a_clips_frames_are_those_of_a_batch(config: FeatureConfig, samples: int) -> None:
    sound = noise(samples)
    expected = front_end.extract(torch.from_numpy(sound[None]), torch.tensor([samples]), config)[0][0].numpy()
    assert (frames_of_clip(sound, config) == expected).all() or not front_end.compiled(config)
    np.testing.assert_allclose(by_numpy(sound, config), expected, atol=2e-3 if config.normalisation == "clip" else 2e-4)


def test_a_machine_without_compiler_has_the_frames_too(monkeypatch: pytest.MonkeyPatch) -> None:
    sound, config = noise(3000), FeatureConfig()
    expected = frames_of_clip(sound, config)
    monkeypatch.setattr(library, "unavailable", lambda: "no C compiler")
    np.testing.assert_allclose(frames_of_clip(sound, config), expected, atol=2e-4)


def test_a_clip_shorter_than_a_window_has_no_frame() -> None:
    assert clip.frames_of_clip(noise(639), FeatureConfig()).shape == (0, 39)


@pytest.mark.parametrize("wrong", [np.zeros((1, 900), np.float32), np.zeros(900)])
def test_other_arrays_are_refused(wrong: NDArray[np.float32]) -> None:
    with pytest.raises(FeatureError, match=r"a clip must be \(N,\) float32, not .*; convert it"):
        frames_of_clip(wrong, FeatureConfig())


def test_no_torch_is_loaded() -> None:
    code = "import sys, cello.features.stream; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_config_of_a_corpus_normalised_model_gives_raw_frames() -> None:
    sound, config = noise(2000), FeatureConfig()
    raw = msgspec.structs.replace(config, normalisation="none")
    assert (frames_of_clip(sound, config) == frames_of_clip(sound, raw)).all()
