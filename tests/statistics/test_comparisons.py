from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from cello.statistics import comparisons
from cello.statistics.comparisons import Comparison, detectable, holm, pairwise, power, seeds_needed, superiority
from cello.statistics.random_effects import Components, Estimate

FAIR = Components(0.003, (1.6e-5, 1.6e-5), (1.2e-5, 1.2e-5), (5, 5), 6e-6, 150.0)
SPEAKERS = np.arange(2000) // 8


def right(share: float, seed: int, runs: int = 5) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random((runs, len(SPEAKERS))) < share


def compared(**changes: object) -> Comparison:
    plain = Comparison(
        first="GRU", second="LSTM", difference=Estimate(0.012, 0.004, 0.02, 0.003, 8.0), p=0.002, p_holm=0.03,
        superiority=0.9, seeds=(5, 5), seeds_needed=9, detectable=0.011, pairs=15,
    )  # fmt: skip
    return plain._replace(**changes)  # type: ignore[arg-type]


def test_holm_gives_the_textbook_numbers() -> None:
    # Wright 1992 (Biometrics 48:1005) and R's p.adjust use 0.01, 0.02, 0.03, 0.04 and 0.05 alike
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx((0.05, 0.08, 0.09, 0.09, 0.09))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.2))
def test_holm_rejects_what_the_steps_reject(p_values: list[float], level: float) -> None:
    adjusted = holm(p_values)
    rejected = set()
    for step, i in enumerate(np.argsort(p_values, kind="stable")):
        if (len(p_values) - step) * p_values[i] >= level:
            break
        rejected.add(i)
    assert rejected == {i for i, p in enumerate(adjusted) if p < level}
    assert all(p <= a <= min(1, len(p_values) * p) + 1e-12 for p, a in zip(p_values, adjusted, strict=True))


@given(st.permutations([0.001, 0.01, 0.02, 0.2, 0.6]))
def test_holm_does_not_depend_on_the_order(p_values: list[float]) -> None:
    by_value = dict(zip([0.001, 0.01, 0.02, 0.2, 0.6], holm([0.001, 0.01, 0.02, 0.2, 0.6]), strict=True))
    assert holm(p_values) == tuple(by_value[p] for p in p_values)


@given(*(st.lists(st.integers(0, 9), min_size=2, max_size=6) for _ in range(2)))
def test_superiority_is_mann_and_whitneys(a: list[int], b: list[int]) -> None:
    assert superiority(a, b) == pytest.approx(stats.mannwhitneyu(a, b).statistic / len(a) / len(b))


def test_power_is_the_noncentral_ts() -> None:
    variance, df = FAIR.spread()
    for difference in (0.0, 0.001, 0.005, 0.01):
        shift, t = difference / variance**0.5, stats.t.ppf(0.975, df)
        theirs = stats.nct.sf(t, df, shift) + stats.nct.cdf(-t, df, shift)
        assert power(FAIR, difference) == pytest.approx(theirs, abs=1e-4)


def test_power_of_no_difference_is_the_false_alarm_rate() -> None:
    assert power(FAIR, 0.0, 5) == pytest.approx(0.05, abs=1e-4)
    assert power(FAIR, 0.0, 2, confidence=0.99) == pytest.approx(0.01, abs=1e-4)


@given(st.floats(0.002, 0.02))
def test_the_number_of_seeds_is_the_fewest_that_reach_the_power(difference: float) -> None:
    n = seeds_needed(FAIR, difference)
    if n is None:
        assert power(FAIR, difference, comparisons.MOST_SEEDS) < 0.8
    else:
        assert power(FAIR, difference, n) >= 0.8
        assert n == 2 or power(FAIR, difference, n - 1) < 0.8


def test_a_detectable_difference_is_detected_with_the_power_said() -> None:
    for confidence in (0.95, 0.99, 1 - 0.05 / 820):
        assert power(FAIR, detectable(FAIR, confidence), None, confidence) == pytest.approx(0.8, abs=1e-9)


def test_two_seeds_and_many_pairs_have_a_finite_answer() -> None:
    few = Components(0.003, (1.6e-5, 0.0), (1.2e-5, 1.2e-5), (2, 2), 0.0, 150.0)
    assert 0.05 < detectable(few, 1 - 0.05 / 820) < 100


def test_where_speakers_are_the_limit_no_number_of_seeds_is_promised() -> None:
    spoken = FAIR._replace(speakers=1e-4)
    assert seeds_needed(spoken, 0.003) is None
    assert "even 1,000 seeds would not show it on these test clips" in compared(p_holm=0.6, seeds_needed=None).verdict


def test_every_pair_is_compared_once_with_one_correction() -> None:
    models = {"a": right(0.95, 0), "b": right(0.94, 1), "c": right(0.8, 2)}
    found = pairwise(models, SPEAKERS)
    assert [(c.first, c.second) for c in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert tuple(c.p_holm for c in found) == holm([c.p for c in found])
    assert [c.differs for c in found[1:]] == [True, True]
    assert found[1].superiority == 1


@given(st.permutations(["a", "b", "c"]))
def test_the_models_order_does_not_change_what_is_found(order: list[str]) -> None:
    models = {"a": right(0.95, 0), "b": right(0.94, 1), "c": right(0.8, 2)}
    plain = {frozenset((c.first, c.second)): c for c in pairwise(models, SPEAKERS)}
    for again in pairwise({name: models[name] for name in order}, SPEAKERS):
        before = plain[frozenset((again.first, again.second))]
        assert (again.p, again.p_holm) == pytest.approx((before.p, before.p_holm))
        assert (again.verdict, again.seeds_needed) == (before.verdict, before.seeds_needed)


def test_a_difference_is_said_with_the_better_model_first() -> None:
    assert compared().verdict == "GRU is better than LSTM by 1.20 points (95 % 0.40 to 2.00)."
    turned = compared(difference=Estimate(-0.012, -0.02, -0.004, 0.003, 8.0))
    assert turned.verdict == "LSTM is better than GRU by 1.20 points (95 % 0.40 to 2.00)."


def test_no_evidence_is_said_with_what_it_would_take() -> None:
    small = compared(difference=Estimate(-0.003, -0.011, 0.005, 0.003, 8.0), p_holm=1.0, seeds_needed=40)
    assert small.verdict == (
        "No significant difference between LSTM and GRU: 0.30 points (95 % −0.50 to 1.10); "
        "you would need about 40 seeds."
    )


def test_an_interval_without_zero_that_falls_to_the_correction_says_so() -> None:
    assert compared(p_holm=0.2).verdict == (
        "GRU may be better than LSTM by 1.20 points (95 % 0.40 to 2.00), but the difference is not significant among "
        "15 comparisons; you would need about 9 seeds."
    )


@pytest.mark.parametrize("p_holm", [0.01, 0.9])
def test_few_seeds_are_never_passed_over(p_holm: float) -> None:
    assert compared(p_holm=p_holm, seeds=(5, 3)).verdict.endswith("; indicative only, from 3 seeds.")


@given(st.integers(0, 2**32 - 1), st.integers(2, 4))
def test_where_nothing_was_found_more_seeds_than_there_were_are_asked_for(seed: int, runs: int) -> None:
    rng = np.random.default_rng(seed)
    speakers = np.arange(120) // 4
    models = {name: rng.random((runs, 120)) < share for name, share in (("a", 0.9), ("b", 0.85), ("c", 0.8))}
    for found in pairwise(models, speakers):
        assert found.differs or found.seeds_needed is None or found.seeds_needed > runs


def test_equal_models_are_told_what_would_have_been_seen() -> None:
    same = right(0.9, 0)
    (found,) = pairwise({"a": same, "b": same}, SPEAKERS)
    assert (found.p, found.superiority) == (1, 0.5)
    assert "these seeds would show one of" in found.verdict


def test_one_model_is_no_comparison() -> None:
    with pytest.raises(ValueError, match=r"two models, not 1 \(a\); add another"):
        pairwise({"a": right(0.9, 0)}, SPEAKERS)
