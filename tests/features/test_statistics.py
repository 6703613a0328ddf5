from __future__ import annotations

import torch

from cello.features import statistics
from cello.features.cache import FeatureSet
from cello.features.normalise import SMALLEST_DEVIATION
from cello.features.statistics import corpus_statistics


def ragged(n=600):
    counts = torch.randint(1, 9, (n,), generator=torch.Generator().manual_seed(0))
    flat = 30 + 5 * torch.randn(int(counts.sum()), 4, generator=torch.Generator().manual_seed(1))
    return FeatureSet(flat, counts)


def test_statistics_are_those_of_the_chosen_clips_valid_frames_alone():
    features = ragged()
    chosen = torch.arange(0, 600, 2)
    mean, deviation = corpus_statistics(features, chosen.numpy())
    pieces = features.flat.split(features.counts.tolist())
    valid = torch.cat([pieces[i] for i in chosen.tolist()]).double()
    torch.testing.assert_close(mean, valid.mean(0).float())
    torch.testing.assert_close(deviation, valid.std(0, correction=0).float())


def test_a_coefficient_that_never_changes_is_not_divided_by_its_rounding_error():
    features = FeatureSet(torch.full((10, 2), -87.3), torch.tensor([4, 6]))
    mean, deviation = corpus_statistics(features, torch.tensor([0, 1]))
    assert (deviation == SMALLEST_DEVIATION).all()
    assert ((features.flat - mean) / deviation).abs().max() < 0.2


def test_one_long_clip_does_not_pad_all_others_in_memory(monkeypatch):
    features = ragged()
    largest = []
    batch = FeatureSet.batch
    monkeypatch.setattr(statistics, "_FRAMES_AT_ONCE", 64)
    monkeypatch.setattr(FeatureSet, "batch", lambda self, rows: largest.append(len(rows)) or batch(self, rows))
    mean, _ = corpus_statistics(features, torch.arange(600))
    assert max(largest) <= 64
    torch.testing.assert_close(mean, features.flat.double().mean(0).float())
