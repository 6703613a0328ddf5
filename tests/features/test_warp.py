"""What hurts: a warp that moves a voice the wrong way, another clip's warp, frames that depend on their neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cello.features.config import FeatureConfig
from cello.features.mel import warped_hz, warps
from cello.features.mfcc import extract
from cello.features.warp import draw_warps, extract_warped

LOG_MEL = FeatureConfig(kind="log-mel", deltas=0, normalisation="none")


def tone(hz: float, samples: int = 8000) -> torch.Tensor:
    return torch.sin(2 * torch.pi * hz / 16_000 * torch.arange(samples))[None]


@settings(deadline=None)
@given(st.floats(0.7, 1.3), st.lists(st.floats(0, 8000), min_size=2, max_size=20))
def test_the_warped_axis_rises_from_nothing_to_nyquist(by: float, hz: list[float]) -> None:
    found = warped_hz(np.array([0.0, *sorted(hz), 8000.0]), by, 8000.0)
    assert found[0] == 0
    assert found[-1] == pytest.approx(8000.0)
    assert np.all(np.diff(found) >= 0)


def test_nothing_is_changed_by_a_warp_of_one() -> None:
    audio, lengths = tone(440), torch.tensor([8000])
    plain, warped = extract(audio, lengths, LOG_MEL), extract(audio, lengths, LOG_MEL, 1.0)
    assert torch.equal(plain[0], warped[0])
    assert warps(0.2)[8] == 1.0


@pytest.mark.parametrize("by", [0.8, 0.9, 1.1, 1.25])
def test_a_tone_sounds_to_a_warped_ear_as_one_of_another_pitch_to_a_plain_one(by: float) -> None:
    lengths = torch.tensor([8000])
    peak = extract(tone(2000), lengths, LOG_MEL, by)[0][0, 5].argmax()
    assert peak == extract(tone(2000 / by), lengths, LOG_MEL)[0][0, 5].argmax()
    assert peak != extract(tone(2000), lengths, LOG_MEL)[0][0, 5].argmax()


def test_each_clip_has_its_own_warp_and_its_own_length() -> None:
    rng = np.random.default_rng(0)
    lengths = torch.from_numpy(rng.integers(2000, 9000, size=40))
    audio = torch.from_numpy(rng.normal(size=(40, 9000)).astype(np.float32))
    drawn = draw_warps(0.1, 40, np.random.default_rng(7))
    frames, counts = extract_warped(audio, lengths, FeatureConfig(), 0.1, drawn)
    assert len(set(drawn.tolist())) > 10
    assert frames.shape == (40, int(counts.max()), 39)
    for row, number in enumerate(drawn.tolist()):
        alone, count = extract(audio[row : row + 1], lengths[row : row + 1], FeatureConfig(), warps(0.1)[number])
        assert counts[row] == count[0]
        torch.testing.assert_close(frames[row, : count[0]], alone[0], atol=1e-3, rtol=1e-4)
        assert not frames[row, count[0] :].any()


def test_no_clips_are_no_frames() -> None:
    none = torch.zeros(0, 500), torch.zeros(0, dtype=torch.int64)
    found, counts = extract_warped(*none, LOG_MEL, 0.1, np.zeros(0, dtype=np.int64))
    assert found.shape[0] == len(counts) == 0


def test_it_is_drawn_from_the_generator_alone() -> None:
    one, two = (draw_warps(0.2, 9, np.random.default_rng(3)) for _ in range(2))
    assert one.tolist() == two.tolist() != draw_warps(0.2, 9, np.random.default_rng(4)).tolist()
