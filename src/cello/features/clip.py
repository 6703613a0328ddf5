"""Compute the frames of one clip as arrays, by the compiled pass, or by numpy where it cannot run. Needs no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cello.errors import FeatureError
from cello.features import mel
from cello.features.c import library
from cello.features.config import FeatureConfig
from cello.features.frames import frame_count
from cello.features.transforms import SMALLEST_DEVIATION, dct, delta_weights, hann

Floats = NDArray[np.float32]


def frames_of_clip(samples: Floats, config: FeatureConfig) -> Floats:
    """The frames (T, D) of a clip of (N,) samples in [−1, 1] at the config's rate; none where it fills no window.

    They are those of :func:`cello.features.front_end.extract`: to the bit where the pass is compiled, else up to
    rounding.

    Raises:
        FeatureError: samples of another shape or type.

    >>> frames_of_clip(np.zeros(16_000, dtype=np.float32), FeatureConfig()).shape
    (49, 39)
    """
    if samples.ndim != 1 or samples.dtype != np.float32:
        raise FeatureError(f"a clip must be (N,) float32, not {samples.shape} {samples.dtype}; convert it")
    count = frame_count(len(samples), config.window_samples, config.hop_samples)
    if not count:
        return np.empty((0, config.dimensions), dtype=np.float32)
    if library.unsupported(config) is None and library.unavailable() is None:
        return _compiled(np.ascontiguousarray(samples), count, config)
    return by_numpy(samples, config)


def _compiled(samples: Floats, count: int, config: FeatureConfig) -> Floats:
    out = np.empty((count, config.dimensions), dtype=np.float32)
    clips = np.zeros(1, dtype=library.CLIP)
    clips["samples"], clips["out"] = samples.ctypes.data, out.ctypes.data
    clips["kind"] = library.KINDS[samples.dtype]
    clips["length"] = clips["kept"] = len(samples)
    clips["frames"] = clips["out_frames"] = count
    library.frames_into(config, clips)
    return out


def by_numpy(samples: Floats, config: FeatureConfig) -> Floats:
    """The same by numpy, in double precision, of a clip that fills at least one window."""
    sound = samples.astype(np.float64)
    if config.pre_emphasis:
        sound[1:] -= config.pre_emphasis * sound[:-1].copy()
        sound = sound.astype(np.float32).astype(np.float64)
    window = config.window_samples
    views = np.lib.stride_tricks.sliding_window_view(sound, window)[:: config.hop_samples]
    power = np.abs(np.fft.rfft(views * hann(window))) ** 2
    energy = power @ mel.filterbank(config.band_edges_hz, config.rate_hz, window)
    static = np.log(np.maximum(energy, config.log_floor))
    if config.kind == "mfcc":
        static = static @ dct(config.n_mels, config.n_mfcc)
    out = np.concatenate([static, *_deltas(static, config)], axis=1)
    if config.normalisation == "clip":
        out = out.astype(np.float32).astype(np.float64)
        out = (out - out.mean(axis=0)) / np.maximum(out.std(axis=0), SMALLEST_DEVIATION)
    return out.astype(np.float32)


def _deltas(static: NDArray[np.float64], config: FeatureConfig) -> list[NDArray[np.float64]]:
    """Each order's derivative of (T, S) frames, as ``deltas.append_deltas`` has it."""
    time = len(static)
    width = min(config.delta_frames, (time - 1) // 2 * 2 + 1)
    if width < 3:
        return [np.zeros_like(static)] * config.deltas
    nearest = np.clip(np.arange(time) - width // 2, 0, time - width)
    windows = np.lib.stride_tricks.sliding_window_view(static, width, axis=0)
    return [(windows @ delta_weights(width, order))[nearest] for order in range(1, config.deltas + 1)]
