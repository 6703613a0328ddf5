from __future__ import annotations

import torch

from cello.features.cache import FeatureSet
from cello.features.normalise import SMALLEST_DEVIATION, corpus_statistics, standardise


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


def test_standardised_training_frames_have_mean_zero_and_padding_stays_zero():
    features = ragged()
    everything = torch.arange(600)
    frames, counts = features.batch(everything)
    out = standardise(frames, counts, *corpus_statistics(features, everything))
    valid = torch.arange(frames.shape[1]) < counts[:, None]
    assert (out[~valid] == 0).all()
    torch.testing.assert_close(out[valid].mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(out[valid].std(0), torch.ones(4), atol=1e-3, rtol=0)


def test_frames_given_are_left_as_they_were():
    frames, counts = torch.randn(2, 5, 3), torch.tensor([5, 2])
    before = frames.clone()
    standardise(frames, counts, torch.ones(3), torch.ones(3))
    assert torch.equal(frames, before)


def test_a_coefficient_that_never_changes_is_not_divided_by_its_rounding_error():
    features = FeatureSet(torch.full((10, 2), -87.3), torch.tensor([4, 6]))
    mean, deviation = corpus_statistics(features, torch.tensor([0, 1]))
    assert (deviation == SMALLEST_DEVIATION).all()
    assert standardise(*features.batch(torch.tensor([0])), mean, deviation).abs().max() < 0.2
