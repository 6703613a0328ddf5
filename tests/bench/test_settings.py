"""What hurts: minutes of measuring that measure nothing, a size read in another order than it was written."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

from cello.bench.settings import FAIR, BenchConfig, FeatureBenchConfig, Size, parse_size
from cello.errors import ConfigError
from cello.study.study_file import load_study


@pytest.mark.parametrize("text", ["2x3x4x5", "2×3×4×5"])
def test_a_size_is_batch_frames_inputs_hidden(text: str) -> None:
    assert parse_size(text) == Size(batch=2, frames=3, inputs=4, hidden=5)


@pytest.mark.parametrize(
    "text", ["", "64", "64x49x39", "64x49x39x64x2", "64x49x39x", "64x0x39x64", "-1x2x3x4", "axbxcxd"]
)
def test_another_text_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"^size {re.escape(repr(text))} is not BxTxDxH.*Write it like 64x49x39x64\.$"
    ):
        parse_size(text)


@pytest.mark.parametrize("text", ["1000000x1000000x1x1", "1x1x1x9999999"])
def test_a_size_that_no_machine_holds_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"elements, more than any machine holds; give a smaller one"):
        parse_size(text)


@pytest.mark.parametrize("rounds", [0, -3])
def test_no_rounds_measure_nothing(rounds: int) -> None:
    with pytest.raises(ConfigError, match=f"^rounds={rounds} is invalid: it must be at least 1"):
        BenchConfig(rounds=rounds)


@pytest.mark.parametrize("threads", [0, 10**6])
def test_threads_that_the_machine_does_not_have_are_refused(threads: int) -> None:
    with pytest.raises(
        ConfigError, match=f"^threads={threads} is invalid: it must be 1 to {os.cpu_count()}, the cores"
    ):
        BenchConfig(threads=(1, threads))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rounds": 0}, "rounds=0 is invalid: it must be at least 1"),
        ({"clips": 0}, "clips=0 is invalid: it must be 1 to 100,000, clips of one second"),
        ({"windows_ms": (40.0, 1200.0)}, "window=1200 is invalid: it must be at most 1000 ms, as long as a clip"),
        ({"windows_ms": (0.0,)}, "features.window_ms=0.0 is invalid"),
    ],
)
def test_features_that_cannot_be_measured_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        FeatureBenchConfig(**values)


def test_sound_is_changed_as_the_fair_protocol_does() -> None:
    stated = load_study("gates", "fair").base.augment
    assert (FAIR.speed, FAIR.shift_ms, FAIR.noise_share) == tuple(
        stated[name] for name in ("speed", "shift_ms", "noise_share")
    )
