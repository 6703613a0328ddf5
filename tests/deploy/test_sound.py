"""Samples as a model takes them: what hurts is a fast way past the checks, for sound that they would refuse."""

from __future__ import annotations

import numpy as np
import pytest

from cello.deploy.sound import mono
from cello.errors import ClipError


@pytest.mark.parametrize("shape", [(300,), (300, 1)])
@pytest.mark.parametrize(("value", "message"), [(np.nan, "not finite"), (np.inf, "not finite"), (16.1, "beyond full")])
def test_one_bad_sample_is_refused_in_every_shape(shape: tuple[int, ...], value: float, message: str) -> None:
    samples = np.zeros(shape, np.float32)
    samples[7] = value
    with pytest.raises(ClipError, match=message):
        mono(samples)


@pytest.mark.parametrize("loud", [0.1, 1.0, 15.9])
def test_float32_samples_are_taken_as_they_are(loud: float) -> None:
    samples = np.full(500, loud, np.float32)
    np.testing.assert_array_equal(mono(samples), samples)
    np.testing.assert_array_equal(mono(samples.astype(np.float64)), samples)
    np.testing.assert_array_equal(mono(np.repeat(samples[:, None], 2, axis=1)), samples)
    assert mono(samples[:0]).shape == (0,)
