"""Weights of 8 bits: what hurts is a row that another row makes coarse, and a size that is not what is stated."""

from __future__ import annotations

import numpy as np

from c99_program import SMALL, model_of
from cello.export.quantise import dequantised, quantise, weight_bytes
from cello.features.config import FeatureConfig
from cello.models.config import ModelConfig


def test_each_row_is_off_by_at_most_half_a_step_of_its_own() -> None:
    matrix = (
        np.random.default_rng(0).normal(size=(5, 40)).astype(np.float32) * np.float32(10.0) ** np.arange(-3, 2)[:, None]
    )
    rounded = quantise(matrix.astype(np.float32))
    steps = np.abs(matrix).max(1, keepdims=True) / 127
    assert (np.abs(rounded.matrix() - matrix) <= 0.501 * steps).all()
    assert (np.abs(rounded.values).max(1) == 127).all()


def test_rows_of_zeros_or_of_the_smallest_numbers_stay_finite() -> None:
    matrix = np.array([[0, 0], [1e-45, -1e-45], [3e38, 1]], np.float32)
    assert np.isfinite(quantise(matrix).matrix()).all()


def test_only_matrices_are_rounded_and_rounding_twice_changes_nothing() -> None:
    _, parts = model_of(ModelConfig(cell="lstm", hidden=8))
    once = dequantised(parts)
    weights, before = once.layers[0][0].weights, parts.layers[0][0].weights
    assert (weights["b.f"] == before["b.f"]).all()
    assert (weights["U.f"] != before["U.f"]).any()
    twice = dequantised(once).layers[0][0].weights
    np.testing.assert_allclose(twice["U.f"], weights["U.f"], rtol=1e-6)


def test_an_lstm_of_64_units_takes_30_percent_of_the_bytes() -> None:
    _, parts = model_of(ModelConfig(cell="lstm", hidden=64), FeatureConfig())
    assert weight_bytes(parts, int8=False) == 4 * (4 * (64 * 39 + 64 * 64 + 64) + 3 * 64 + 3 + 64 + 1)
    assert weight_bytes(parts, int8=True) <= 0.3 * weight_bytes(parts, int8=False)
    assert SMALL.dimensions == 12
