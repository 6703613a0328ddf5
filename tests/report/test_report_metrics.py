from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cello.report.metrics import BY_KEY, Interval, interval, text
from cello.report.results import StudyResults


@given(st.lists(st.floats(0, 100), min_size=2, max_size=20))
def test_interval_is_the_t_interval_of_scipy(values: list[float]) -> None:
    found = interval(values)
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    half = stats.t.ppf(0.975, len(values) - 1) * error
    assert found.mean == pytest.approx(np.mean(values))
    assert found.half == pytest.approx(half, abs=1e-9)


def test_one_seed_has_no_interval() -> None:
    assert interval([94.0]) == Interval(94.0, None, 1)
    assert text(interval([94.0]), 2) == "94.00"


@pytest.mark.parametrize(("n", "indicative"), [(1, True), (4, True), (5, False)])
def test_fewer_than_five_seeds_are_indicative(n: int, indicative: bool) -> None:
    assert interval([1.0] * n).indicative is indicative


def test_a_diverged_run_is_not_shown_as_a_number() -> None:
    assert text(interval([float("nan"), 0.5]), 3) == "not finite"


def test_no_value_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        interval([])


def test_train_validation_and_test_each_have_their_own_figure() -> None:
    assert {"train_accuracy", "validation_accuracy", "test_accuracy", "test_word_mean"} <= BY_KEY.keys()
    assert "accuracy" not in BY_KEY


def test_training_and_the_whole_epoch_each_have_seconds_and_clips(gates: StudyResults) -> None:
    runs = gates.cell("lstm", "40 ms")
    (seconds, wall), data, validation = (runs[0].seconds_per_epoch, runs[0].wall_seconds_per_epoch), 0.2, 0.1
    assert BY_KEY["seconds_per_epoch"].over(runs).mean == pytest.approx(seconds)
    assert BY_KEY["epoch_seconds"].over(runs).mean == pytest.approx(wall + data + validation)
    clips = runs[0].train.clips / (wall + data + validation)
    assert BY_KEY["epoch_clips_per_second"].over(runs).mean == pytest.approx(clips)
    assert [BY_KEY[key].group for key in ("clips_per_second", "epoch_clips_per_second")] == [
        "Training",
        "Whole epoch",
    ]


NEW = ("epoch_seconds", "epoch_clips_per_second", "epoch_cpu_seconds")


def test_a_whole_epoch_that_nobody_recorded_is_a_dash(gates: StudyResults) -> None:
    run = msgspec.structs.replace(gates.runs[0].result, history=(), epoch_seconds=0.0, epoch_clips_per_second=0.0)
    assert [BY_KEY[key].text([run]) for key in NEW] == ["–", "–", "–"]
    assert BY_KEY["seconds_per_epoch"].text([run]) != "–"
