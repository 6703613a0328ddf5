"""What hurts: a front end whose tables are not those of the features, or differ once they are computed at loading."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from cello.compiler.onnx.writer import Writer
from cello.export import onnx_tables as tables
from cello.export.onnx_front_end import delta_table, factors
from cello.export.onnx_phases import recent_weights
from cello.features import mel
from cello.features.config import FeatureConfig
from cello.features.transforms import dct, hann

WINDOWS = (2, 3, 199, 201, 320, 400, 640, 1102)


def computed(write: Callable[[Writer], str], *, int8: bool, kind: str = "double") -> Any:
    """A table as the runtime has it."""
    writer = Writer(int8=int8)
    table = write(writer)
    writer.reshape(table, -1, to="table")
    writer.write("Shape", table, to="shape")
    model = writer.model({}, {"table": (kind, ("size",)), "shape": ("int64", ("rank",))}, "table", "", {})
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    found, shape = onnxruntime.InferenceSession(model, options).run(["table", "shape"], {})
    return found.reshape(shape)


def spectrum(window: int, *, int8: bool) -> tuple[NDArray[np.float32], ...]:
    n1, n2 = factors(window)
    write: list[Callable[[Writer], str]] = [
        lambda writer: tables.first_stage(writer, n1),
        lambda writer: tables.twiddles(writer, n1, n2),
        lambda writer: tables.second_stage(writer, n2),
    ]
    return tuple(computed(each, int8=int8) for each in write)


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("window", WINDOWS)
def test_the_spectrum_has_exactly_the_points_of_the_window(window: int, int8: bool) -> None:
    samples, (n1, n2) = np.random.default_rng(window).normal(size=window), factors(window)
    first, twiddle, second = spectrum(window, int8=int8)
    found = ((first.astype(float) @ samples.reshape(n1, n2)) * twiddle).reshape(-1, 4 * n2) @ second
    power = (found[:, :n2] ** 2 + found[:, n2:] ** 2).reshape(-1)
    bins = tables.spectral_bins(n1, n2)
    expected = np.abs(np.fft.rfft(samples))[bins] ** 2
    np.testing.assert_allclose(power, expected, rtol=1e-9, atol=1e-12 * expected.max())
    assert set(bins) == set(range(window // 2 + 1))


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("option", [{"window_ms": 25}, {"window_ms": 24.875, "n_mels": 12}, {"rate_hz": 8000}], ids=str)
def test_the_tables_are_those_of_the_features(option: dict[str, Any], int8: bool) -> None:
    config = FeatureConfig(**({"n_mfcc": 12} | option))
    window, (n1, n2) = config.window_samples, factors(config.window_samples)
    filters = computed(lambda writer: tables.mel_filters(writer, config, n1, n2), int8=int8, kind="float")
    expected = mel.filterbank(config.band_edges_hz, config.rate_hz, window)
    rows = np.repeat(tables.spectral_bins(n1, n2).reshape(-1, 1, n2), 2, axis=1).reshape(-1)
    _, first = np.unique(rows.reshape(-1, 2, n2)[:, 0].reshape(-1), return_index=True)
    kept = np.zeros((len(rows) // 2, 1))
    kept[first] = 1  # a bin found twice counts once
    kept = np.repeat(kept.reshape(-1, 1, n2), 2, axis=1).reshape(-1, 1)
    np.testing.assert_allclose(filters, expected[rows] * kept, rtol=2e-7, atol=1e-12)
    found = computed(lambda writer: tables.hann_window(writer, window), int8=int8)
    np.testing.assert_allclose(found, hann(window), rtol=1e-12, atol=1e-15)
    found = computed(lambda writer: tables.cosine_transform(writer, config), int8=int8)
    np.testing.assert_allclose(found, dct(config.n_mels, config.n_mfcc), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("option", [{}, {"deltas": 1, "delta_width": 3}, {"delta_width": 15}], ids=str)
def test_weights_of_recent_frames_are_the_same_bits_once_computed(option: dict[str, Any]) -> None:
    config = FeatureConfig(**option)
    weights = recent_weights(config)
    found = computed(lambda writer: tables.recent_weights(writer, delta_table(config), weights), int8=True)
    assert found.tobytes() == weights.tobytes()


def test_computed_tables_take_less_room() -> None:
    config = FeatureConfig()
    sizes = []
    for int8 in (False, True):
        writer = Writer(int8=int8)
        writer.write("Identity", tables.mel_filters(writer, config, *factors(config.window_samples)), to="table")
        sizes.append(len(writer.model({}, {"table": ("float", ("rows", "columns"))}, "table", "", {})))
    assert sizes[1] < 0.35 * sizes[0]
