"""A stream of frames: chopped otherwise, sound must not become other frames."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cello.errors import FeatureError
from cello.features import stream as streams
from cello.features.clip import frames_of_clip
from cello.features.config import FeatureConfig
from cello.features.stream import FrameStream

configs = st.builds(
    FeatureConfig,
    window_ms=st.sampled_from([20.0, 33.0, 40.0]),
    hop_ms=st.sampled_from([None, 7.0, 45.0]),
    n_mels=st.just(20),
    n_mfcc=st.just(5),
    pre_emphasis=st.sampled_from([0.0, 0.97]),
    deltas=st.integers(0, 2),
    delta_width=st.sampled_from([3, 9]),
)


def noise(samples: int) -> np.ndarray:
    rng = np.random.default_rng(samples)
    return rng.normal(0, 0.1, samples).astype(np.float32)


@settings(max_examples=60)
@given(configs, st.lists(st.integers(0, 2500), max_size=12))
def test_any_chopping_gives_the_frames_of_the_whole_clip_to_the_bit(config: FeatureConfig, sizes: list[int]) -> None:
    sound, stream, at, parts = noise(sum(sizes)), FrameStream(config), 0, []
    for size in sizes:
        parts.append(stream.push(sound[at : at + size]))
        at += size
    parts.append(stream.finish())
    assert np.concatenate(parts).tobytes() == frames_of_clip(sound, config).tobytes()


def test_single_samples_give_the_same_frames_and_the_tail_stays_short() -> None:
    config = FeatureConfig(pre_emphasis=0.97)
    sound, stream = noise(9000), FrameStream(config)
    parts = []
    for k in range(0, len(sound), 1):
        parts.append(stream.push(sound[k : k + 1]))
        assert len(stream._tail) <= config.window_samples + 12 * config.hop_samples
    found = np.concatenate([*parts, stream.finish()])
    assert found.tobytes() == frames_of_clip(sound, config).tobytes()


def test_a_push_of_hours_is_worked_on_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MOST_SAMPLES", 1000)
    sound, stream = noise(20_500), FrameStream(FeatureConfig())
    found = np.concatenate([stream.push(sound), stream.finish()])
    assert found.tobytes() == frames_of_clip(sound, FeatureConfig()).tobytes()


def test_a_frame_comes_as_soon_as_its_deltas_are_known() -> None:
    config = FeatureConfig(deltas=2, delta_width=9)
    stream, sound, hop, window = FrameStream(config), noise(20_000), config.hop_samples, config.window_samples
    assert stream.delay_frames == 4
    assert len(stream.push(sound[: 8 * hop + window - 1])) == 0
    assert len(stream.push(sound[8 * hop + window - 1 : 8 * hop + window])) == 5  # 0 … half, with frame 2 · half
    assert len(stream.push(sound[8 * hop + window : 9 * hop + window])) == 1


def test_normalisation_over_the_clip_is_refused_with_what_to_train() -> None:
    with pytest.raises(FeatureError, match=r"the end of the clip, .*; train with features\.normalisation=corpus"):
        FrameStream(FeatureConfig(normalisation="clip"))


def test_other_arrays_are_refused() -> None:
    with pytest.raises(FeatureError, match=r"a stream takes \(n,\) float32, not \(3,\) float64; convert it"):
        FrameStream(FeatureConfig()).push(np.zeros(3))
