"""What hurts: a library timed with other work than Cello, a difference nobody sees, a batch size that flatters."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from cello.bench import features
from cello.bench.features import BATCHES, BY_TORCH, OWN, run
from cello.bench.front_ends import FrontEnd, Sound, librosa_front_end
from cello.bench.measure import WARM_UP
from cello.bench.record import FeatureRecord, summarise_features
from cello.bench.settings import FeatureBenchConfig
from cello.features.config import FeatureConfig

ABOUT = {"processor": "any"}


def measured(monkeypatch: pytest.MonkeyPatch, **libraries: Callable[[FeatureConfig], FrontEnd]) -> FeatureRecord:
    monkeypatch.setattr(features, "LIBRARIES", libraries)
    monkeypatch.setattr(features, "installed", lambda: (tuple(libraries), {}))
    return run(FeatureBenchConfig(windows_ms=(80.0,), clips=9, rounds=1), ABOUT)


def test_every_library_is_measured_alone_and_with_augmentation_and_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    record = measured(monkeypatch, librosa=librosa_front_end)
    assert [(row.window_ms, row.augmented) for row in record.rows] == [(80.0, False), (80.0, True)]
    for row in record.rows:
        assert [side.name for side in row.sides] == [OWN, BY_TORCH, "librosa, batched", "librosa, clip by clip"]
        assert [side.difference < 1e-4 for side in row.sides] == [True] * 4
        assert not any(side.static for side in row.sides)
        assert row.sides[0].ratio == 1.0
        assert all(len(side.all_milliseconds) == 1 for side in row.sides)


def test_a_side_that_computes_something_else_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def louder(config: FeatureConfig) -> FrontEnd:
        frames = librosa_front_end(config)
        return lambda sound: frames(2 * sound)

    def shorter(config: FeatureConfig) -> FrontEnd:
        frames = librosa_front_end(config)
        return lambda sound: frames(sound)[:, 1:]

    for row in measured(monkeypatch, louder=louder, shorter=shorter).rows:
        found = {side.name: side.difference for side in row.sides}
        assert found["louder, clip by clip"] > 0.1
        assert found["shorter, batched"] == float("inf")


def test_deltas_of_another_formula_do_not_count_as_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    def other_deltas(config: FeatureConfig) -> FrontEnd:
        frames = librosa_front_end(config)
        return lambda sound: frames(sound) + (np.arange(39) >= 13).astype(np.float32)

    for row in measured(monkeypatch, torchaudio=other_deltas).rows:
        assert [side.static for side in row.sides] == [False, False, True, True]
        assert max(side.difference for side in row.sides) < 1e-4


def test_the_same_clips_go_through_in_several_batch_sizes_and_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def counting(config: FeatureConfig) -> FrontEnd:
        def frames(sound: Sound) -> Sound:
            sizes.append(len(sound))
            return np.zeros((len(sound), 1 + (sound.shape[1] - 1280) // 640, 39), np.float32)

        return frames

    measured(monkeypatch, counting=counting)
    turns = 2 * (1 + WARM_UP)
    alone = 2 * 9  # the clips whose difference is looked at
    assert sizes.count(BATCHES[0]) == turns  # 9 clips as 8 and 1; no larger size
    assert sizes.count(1) == turns + 9 * turns + alone
    assert sum(sizes) == 2 * 9 * turns + alone


def test_the_fastest_batch_size_of_each_round_counts() -> None:
    times = {OWN: [1.0, 1.0], "x 8": [5.0, 2.0], "x 16": [3.0, 4.0], "x, clip by clip": [9.0, 9.0]}
    found = features._best(times, {"x, batched": ["x 8", "x 16"]})
    assert found == {OWN: [1.0, 1.0], "x, batched": [3.0, 2.0], "x, clip by clip": [9.0, 9.0]}


def test_rates_are_of_medians_and_ratios_of_rounds() -> None:
    times = {OWN: [1.0, 10.0, 2.0], "x": [3.0, 20.0, 6.0]}
    own, other = summarise_features(times, {OWN: 0.0, "x": 0.5}, {"x"}, clips=64)
    assert (own.clips_per_second, other.clips_per_second) == (32_000, pytest.approx(64_000 / 6))
    assert (own.ratio, other.ratio) == (1.0, 3.0)
    assert (other.difference, other.static, own.static) == (0.5, True, False)


def test_it_runs_on_one_thread_by_cpu_time_and_leaves_threads_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = features.alternate

    def watched(*arguments: object, clock: Callable[[], float]) -> object:
        seen.append((torch.get_num_threads(), clock))
        return real(*arguments, clock=clock)  # type: ignore[arg-type]

    monkeypatch.setattr(features, "alternate", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        measured(monkeypatch)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [(1, time.process_time)] * 2
