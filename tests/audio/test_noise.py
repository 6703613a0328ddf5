"""Noise has the colour it is named for, and unit power."""

from __future__ import annotations

import numpy as np
import pytest

from cello.audio.noise import MADE, MadeColour, coloured, unit_power


@pytest.mark.parametrize("colour", MADE)
@pytest.mark.parametrize("samples", [16_000, 11_201, 4000])
def test_noise_has_unit_power_and_the_length_asked_for(colour: MadeColour, samples: int) -> None:
    noise = coloured(colour, samples, 16_000, np.random.default_rng(0))
    assert noise.shape == (samples,)
    assert noise.dtype == np.float32
    assert float(np.mean(np.square(noise, dtype=np.float64))) == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize(("colour", "db_per_octave"), [("white", 0.0), ("pink", -3.01), ("brown", -6.02)])
def test_power_density_falls_as_the_colour_says(colour: MadeColour, db_per_octave: float) -> None:
    power = np.square(np.abs(np.fft.rfft(coloured(colour, 160_000, 16_000, np.random.default_rng(1)))))
    low, high = power[2000:4000].mean(), power[16_000:32_000].mean()
    assert 10 * np.log10(high / low) / 3 == pytest.approx(db_per_octave, abs=0.3)


def test_hum_stands_on_the_harmonics_of_the_mains() -> None:
    power = np.square(np.abs(np.fft.rfft(coloured("hum", 16_000, 16_000, np.random.default_rng(2)))))
    mains = 50 if power[50] > power[60] else 60
    assert power[mains : 41 * mains : mains].sum() / power.sum() > 0.95


def test_silence_is_not_scaled_to_infinity() -> None:
    assert np.array_equal(unit_power(np.zeros(10)), np.zeros(10))
