from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cello.statistics.means import bca_interval, mean_over_seeds, t_interval

ACCURACIES = [94.0, 94.4, 94.7, 95.1, 95.2, 95.4, 95.5, 95.9, 96.0, 96.1, 96.2, 96.3]
distinct = st.lists(st.integers(0, 1000), min_size=3, max_size=9, unique=True)


def drawn(values: list[float], seed: int = 0) -> tuple[float, float]:
    return bca_interval(values, np.random.default_rng(seed), 999)


def test_bca_is_scipys_up_to_the_draw() -> None:
    theirs = stats.bootstrap(
        (ACCURACIES,), np.mean, n_resamples=50_000, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval
    ours = bca_interval(ACCURACIES, np.random.default_rng(2), 50_000)
    assert ours == pytest.approx(tuple(theirs), abs=0.02)


def test_bca_leans_to_the_long_tail_and_the_percentiles_do_not() -> None:
    skewed = [0.0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.5, 1.0, 4.0]
    low, high = drawn(skewed)
    mean = float(np.mean(skewed))
    draws = np.random.default_rng(0).choice(skewed, (999, len(skewed))).mean(axis=1)
    percentile = np.quantile(draws, [0.025, 0.975])
    assert (high - mean) / (mean - low) > 1.3 * (percentile[1] - mean) / (mean - percentile[0])


def test_t_is_scipys() -> None:
    mean, half = t_interval(ACCURACIES)
    theirs = stats.t.interval(0.95, len(ACCURACIES) - 1, mean, stats.sem(ACCURACIES))
    assert half is not None
    assert (mean - half, mean + half) == pytest.approx(theirs)


@given(distinct, st.floats(-1e3, 1e3), st.floats(1e-2, 1e2))
def test_another_unit_or_origin_moves_the_interval_with_the_values(
    values: list[float], shift: float, scale: float
) -> None:
    plain = np.array(drawn(values))
    moved = drawn([scale * v + shift for v in values])
    assert moved == pytest.approx(scale * plain + shift, rel=1e-6, abs=1e-6 * scale)


@given(distinct)
def test_the_interval_stays_within_the_values_and_holds_the_mean(values: list[float]) -> None:
    low, high = drawn(values)
    rounding = 1e-9
    assert min(values) - rounding <= low <= np.mean(values) <= high <= max(values) + rounding


@pytest.mark.parametrize("n", [1, 2, 4, 5])
def test_few_seeds_are_said_to_be_indicative(n: int) -> None:
    found = mean_over_seeds(ACCURACIES[:n], np.random.default_rng(0))
    assert found.indicative is (n < 5)
    assert (found.t is None) is (found.bca is None) is (n == 1)


def test_equal_values_have_an_interval_of_no_width() -> None:
    assert drawn([95.1] * 5) == pytest.approx((95.1, 95.1))


def test_the_same_generator_gives_the_same_interval() -> None:
    assert drawn(ACCURACIES, 3) == drawn(ACCURACIES, 3) != drawn(ACCURACIES, 4)


def test_a_diverged_run_is_refused_not_averaged() -> None:
    with pytest.raises(ValueError, match=r"finite values, not \[0.5, nan\]; leave diverged runs out"):
        mean_over_seeds([0.5, float("nan")], np.random.default_rng(0))


def test_one_value_has_no_bootstrap() -> None:
    with pytest.raises(ValueError, match="at least two values, not 1; run more seeds"):
        drawn([95.0])
