"""What hurts: a compiled batch that is not the plain one to the bit, a read beyond the frames there are."""

from __future__ import annotations

import pytest
import torch

from cello.audio.augment import AugmentConfig
from cello.features import prepare
from cello.features.cache import FeatureSet
from cello.features.config import FeatureConfig
from cello.features.masks import Masks, draw_masks
from cello.features.prepare import prepared_batch

FEATURES = FeatureConfig(window_ms=40)
needs_compiler = pytest.mark.wants("cc")


def some(seed: int, width: int = 39) -> tuple[FeatureSet, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Clips of 1 to 60 frames, some of them chosen, with a mean and a deviation."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(1, 61, (30,), generator=generator)
    features = FeatureSet(torch.randn(int(counts.sum()), width, generator=generator), counts)
    chosen = torch.randint(0, 30, (1 + seed % 9,), generator=generator)
    return features, chosen, torch.randn(width, generator=generator), 0.1 + torch.rand(width, generator=generator)


def plain(
    features: FeatureSet, chosen: torch.Tensor, mean: torch.Tensor, deviation: torch.Tensor, masks: Masks
) -> tuple[torch.Tensor, torch.Tensor]:
    frames, counts = features.batch(chosen)
    inside = (torch.arange(frames.shape[1]) < counts[:, None]).unsqueeze(2)
    return masks.hide((frames - mean) / deviation * inside, counts), counts


@needs_compiler
@pytest.mark.parametrize("seed", range(40))
def test_the_compiled_batch_has_the_plain_ones_bits(seed: int) -> None:
    augment = AugmentConfig(time_masks=seed % 3, time_mask_ms=100, band_masks=seed % 4, band_mask_width=seed % 14)
    given = some(seed)
    masks = draw_masks(len(given[1]), augment, FEATURES, torch.Generator().manual_seed(seed))
    made, expected = prepared_batch(*given, masks), plain(*given, masks)
    assert made is not None
    assert torch.equal(made[0], expected[0])
    assert torch.equal(made[1], expected[1])


@needs_compiler
@pytest.mark.parametrize("width", [1, 2, 15, 16, 17, 120])
def test_frames_of_any_width_without_masks(width: int) -> None:
    given = some(3, width)
    made = prepared_batch(*given)
    assert made is not None
    assert torch.equal(made[0], plain(*given, Masks())[0])


@needs_compiler
def test_the_widest_draws_hide_nothing_outside_their_clip() -> None:
    features, chosen, mean, deviation = some(8)
    highest = torch.full((2, len(chosen), 2), 1 - 2**-24)
    masks = Masks(times=highest, longest=100, bands=highest, widest=13, statics=13)
    made = prepared_batch(features, chosen, mean, deviation, masks)
    assert made is not None
    assert torch.equal(made[0], plain(features, chosen, mean, deviation, masks)[0])
    assert torch.equal(features.flat, some(8)[0].flat)


@needs_compiler
def test_clips_beyond_the_frames_are_not_read() -> None:
    features, _, mean, deviation = some(0)
    cut = FeatureSet(features.flat[:-1], features.counts)
    assert prepared_batch(cut, torch.tensor([29]), mean, deviation) is None
    assert prepared_batch(features, torch.tensor([-1]), mean, deviation) is None


def test_without_a_compiler_or_for_other_tensors_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    features, chosen, mean, deviation = some(0)
    assert prepared_batch(features, chosen, mean.double(), deviation) is None
    assert prepared_batch(features, chosen[:0], mean, deviation) is None
    monkeypatch.setattr(prepare, "_library", lambda: None)
    assert prepared_batch(features, chosen, mean, deviation) is None
