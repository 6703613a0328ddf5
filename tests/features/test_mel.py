from __future__ import annotations

import librosa
import numpy as np
import pytest

from cello.features import mel


@pytest.mark.parametrize(
    ("rate_hz", "size", "n_mels", "low", "high"),
    [(16_000, 640, 40, 20.0, 8000.0), (8_000, 200, 26, 0.0, 4000.0), (44_100, 1764, 64, 300.0, 15_000.0)],
)
def test_filters_are_librosa_s(rate_hz, size, n_mels, low, high):
    ours = mel.filterbank(mel.band_edges_hz(n_mels, low, high), rate_hz, size)
    theirs = librosa.filters.mel(sr=rate_hz, n_fft=size, n_mels=n_mels, fmin=low, fmax=high, dtype=np.float64)
    np.testing.assert_allclose(ours, theirs.T, rtol=1e-9, atol=1e-15)


def test_a_band_between_two_bins_is_named_empty():
    # Bins every 50 Hz: 110–140 Hz holds none, 120–160 Hz holds 150 Hz.
    assert mel.empty_bands(np.array([110.0, 120.0, 140.0, 160.0]), 16_000, 320).tolist() == [0]


def test_a_bin_on_the_corner_of_a_band_is_not_in_it():
    assert mel.empty_bands(np.array([100.0, 125.0, 150.0]), 16_000, 320).tolist() == [0]
