from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cello.audio.augment import AugmentConfig
from cello.errors import FeatureError
from cello.features.config import FeatureConfig
from cello.features.masks import frame_masks

FEATURES = FeatureConfig(window_ms=40)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 49), min_size=1, max_size=8), st.integers(0, 3), st.floats(0, 400), st.integers(0, 99))
def test_time_masks_hide_whole_frames_within_the_clip_and_within_the_limit(counts, masks, longest_ms, seed):
    frames = torch.ones(len(counts), max(counts), 39)
    config = AugmentConfig(time_masks=masks, time_mask_ms=longest_ms)
    out = frame_masks(frames, torch.tensor(counts), config, FEATURES, seeded(seed))
    hidden = out == 0
    assert (hidden.all(2) == hidden.any(2)).all()
    for row, count in enumerate(counts):
        assert not hidden[row, count:].any()
        assert hidden[row, :, 0].sum() <= masks * min(round(longest_ms / 20), count // 2)


def test_band_masks_hide_one_run_of_coefficients_in_all_three_blocks():
    frames = torch.ones(500, 20, 39)
    config = AugmentConfig(band_masks=1, band_mask_width=3)
    hidden = frame_masks(frames, torch.full((500,), 20), config, FEATURES, seeded()) == 0
    assert (hidden.all(1) == hidden.any(1)).all()
    blocks = hidden[:, 0].view(500, 3, 13)
    assert (blocks == blocks[:, :1]).all()
    assert blocks[:, 0].sum(1).unique().tolist() == [0, 1, 2, 3]
    assert blocks[:, 0].any(0).all()
    steps = blocks[:, 0].int().diff(dim=1, prepend=torch.zeros(500, 1)) == 1
    assert (steps.sum(1) <= 1).all()


def test_every_length_and_every_place_is_drawn():
    frames = torch.ones(3000, 49, 39)
    config = AugmentConfig(time_masks=1, time_mask_ms=100)
    hidden = (frame_masks(frames, torch.full((3000,), 49), config, FEATURES, seeded()) == 0)[:, :, 0]
    lengths = hidden.sum(1).bincount()
    assert len(lengths) == 6
    assert (lengths - 500).abs().max() < 120
    assert hidden.any(0).all()


def test_the_same_seed_gives_the_same_masks_and_the_input_is_left_alone():
    frames, counts = torch.randn(8, 30, 39), torch.full((8,), 30)
    before = frames.clone()
    config = AugmentConfig(time_masks=2, band_masks=2)
    one, two = (frame_masks(frames, counts, config, FEATURES, seeded(5)) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, frame_masks(frames, counts, config, FEATURES, seeded(6)))
    assert torch.equal(frames, before)


def test_no_masks_change_nothing():
    frames = torch.randn(2, 10, 39)
    assert torch.equal(frame_masks(frames, torch.tensor([10, 4]), AugmentConfig(), FEATURES, seeded()), frames)


def test_a_mask_wider_than_the_coefficients_is_refused():
    config = AugmentConfig(band_masks=1, band_mask_width=14)
    with pytest.raises(FeatureError, match=r"band_mask_width=14 is wider than the 13 coefficients of .*'mfcc'"):
        frame_masks(torch.zeros(1, 5, 39), torch.tensor([5]), config, FEATURES, seeded())
