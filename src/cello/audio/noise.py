"""Generate white, pink and brown noise."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

MadeColour = Literal["white", "pink", "brown", "hum"]
MADE: tuple[MadeColour, ...] = ("white", "pink", "brown", "hum")
_SLOPES: dict[MadeColour, float] = {"white": 0.0, "pink": 1.0, "brown": 2.0}
_LOWEST_HZ = 30.0


def coloured(colour: MadeColour, samples: int, rate_hz: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise of unit power, (N,): power density ∝ 1/f⁰, 1/f¹ or 1/f² above 30 Hz, or the hum of a machine on the mains.

    >>> rng = np.random.default_rng(0)
    >>> float(np.round(np.mean(np.square(coloured("pink", 16_000, 16_000, rng))), 3))
    1.0
    """
    if colour == "hum":
        return unit_power(_hum(samples, rate_hz, rng))
    return unit_power(_sloped(_SLOPES[colour], samples, rate_hz, rng))


def unit_power(wave: NDArray[np.floating]) -> NDArray[np.float32]:
    """The sound scaled to a mean square of one; silence stays silence."""
    power = float(np.mean(np.square(wave, dtype=np.float64)))
    return (wave / np.sqrt(power) if power > 0 else wave).astype(np.float32)


def _sloped(slope: float, samples: int, rate_hz: int, rng: np.random.Generator) -> NDArray[np.float64]:
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    hz = np.fft.rfftfreq(samples, 1 / rate_hz)
    wave: NDArray[np.float64] = np.fft.irfft(spectrum * np.maximum(hz, _LOWEST_HZ) ** (-slope / 2), samples)
    return wave


def _hum(samples: int, rate_hz: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Harmonics of 50 or 60 Hz, weaker the higher, each at its own phase, over a little pink noise."""
    mains_hz = float(rng.choice([50.0, 60.0]))
    order = np.arange(1, 41)
    weight = rng.uniform(0.2, 1.0, order.size) / order**0.7
    phase = rng.uniform(0, 2 * np.pi, order.size)
    spectrum = np.zeros(samples // 2 + 1, dtype=np.complex128)
    spectrum[np.round(order * mains_hz * samples / rate_hz).astype(int)] = weight * np.exp(1j * phase)
    return unit_power(np.fft.irfft(spectrum, samples)) + 0.1 * unit_power(_sloped(1.0, samples, rate_hz, rng))
