"""The phases of a stream: looked up in tables, they are what counting hops and frames gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from cello.export.onnx import step_model
from cello.export.onnx_phases import first_hops, phase_tables, recent_weights
from cello.features.config import FeatureConfig
from cello.models.config import ModelConfig
from made_models import LABELS, made

OPTIONS: list[dict[str, Any]] = [{}, {"deltas": 0}, {"delta_width": 3, "hop_ms": 10.0}, {"hop_ms": 55.0}]


@pytest.mark.parametrize("option", OPTIONS, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_phases_are_what_counting_gives_for_any_order_of_hops_and_drains(option: dict[str, Any], seed: int) -> None:
    features = FeatureConfig(**option)
    width = features.delta_frames if features.deltas else 1
    tables, state, hops, read = phase_tables(features), 0, 0, 0
    draws = np.random.default_rng(seed)
    for drain in draws.random(60) < draws.random():
        entry, advance = state + int(drain), 1 - int(drain)
        hops += advance
        received = max(hops - first_hops(features) + 1, 0)
        known = received > max(advance * (width - 1), read)
        assert tables.known[entry] == known
        if known and features.deltas:
            row = recent_weights(features)[min(received, width) * width + read - received]
            assert (tables.weights[entry] == row).all()
        read += known
        state = int(tables.following[entry])


def test_a_hop_of_an_lstm_takes_few_operators_for_each_costs_more_to_begin_than_to_compute() -> None:
    features = FeatureConfig()
    _, parts = made(ModelConfig(cell="lstm", hidden=5), features)
    model = onnx.load_from_string(step_model(parts, features, LABELS, 1.0))
    assert len(model.graph.node) <= 47  # four of them are computed when the model is loaded
