"""Write the tables and the C99 text of a front end."""

from __future__ import annotations

from importlib import resources

import numpy as np

from cello.export.c_text import chosen, macros, padded, static_array
from cello.features import mel
from cello.features.c.plan import circle, radices
from cello.features.config import FeatureConfig
from cello.features.transforms import dct, delta_weights, hann


def front_end_lines(config: FeatureConfig, lane_bytes: int = 4) -> list[str]:
    """Macros, tables and functions from samples to features; a vec of LANES numbers has ``lane_bytes`` for each."""
    window = config.window_samples
    even = window % 2 == 0
    points = window // 2 if even else window
    factors = radices(points) or [1]
    flags = {f"RADIX_{radix}": radix in factors for radix in (2, 3, 4, 5, 8)}
    flags |= {
        "RADIX_ANY": bool(set(factors) - {2, 3, 4, 5, 8}),
        "EVEN": even,
        "CEPSTRA": config.kind == "mfcc",
    }
    sizes: list[tuple[str, object]] = [
        ("POINTS", f"{points}    /* of the Fourier transform */"),
        ("PART", "(POINTS + 16)"),
        ("BINS", window // 2 + 1),
        ("MELS", config.n_mels),
        ("PADDED_MELS", -(-config.n_mels // 16) * 16),
        ("LOG_FLOOR", f"((model_real){config.log_floor!r})"),
    ]
    text = resources.files("cello.export.c").joinpath("front_end.h").read_text(encoding="utf-8")
    text = text.replace("LANE_BYTES", str(lane_bytes))
    return [*macros(sizes), "", *_tables(config, points, factors), "", chosen(text, flags)]


def _tables(config: FeatureConfig, points: int, factors: list[int]) -> list[str]:
    window = config.window_samples
    lines = static_array("int16_t", "radices", np.array(factors))
    lines += static_array("model_real", "circle", circle(points), inner=2)
    if window % 2 == 0:
        lines += static_array("model_real", "half_turn", circle(window)[: points // 2 + 1], inner=2)
    lines += static_array("model_real", "shape", hann(window) * (1.0 if window % 2 else 0.5))
    bands = mel.filterbank(config.band_edges_hz, config.rate_hz, window).T
    touched = [np.flatnonzero(band) for band in bands]
    narrow = [padded(band[bins[0] : bins[-1] + 1], 4) for band, bins in zip(bands, touched, strict=True)]
    lines += static_array("int32_t", "mel_first", np.array([bins[0] for bins in touched]))
    lines += static_array("int32_t", "mel_length", np.array([len(band) for band in narrow]))
    lines += static_array("model_real", "mel_weights", np.concatenate(narrow))
    if config.kind == "mfcc":
        cosines = dct(config.n_mels, config.n_mfcc)
        lines += static_array("model_real", "cosines", np.pad(cosines, ((0, 0), (0, -config.n_mfcc % 16))))
    if config.deltas:
        weights = [delta_weights(config.delta_frames, order + 1) for order in range(config.deltas)]
        lines += static_array("model_real", "delta_weights", np.concatenate(weights))
    return lines
