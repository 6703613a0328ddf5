from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from cello.statistics.random_effects import (
    Components,
    between_speakers,
    components,
    hierarchical_bootstrap,
    hierarchical_draws,
    interval_estimate,
    p_value,
)

Floats = NDArray[np.float64]
seeds = st.integers(0, 2**32 - 1)


def made_up(seed: int, runs: int = 4, people: int = 12, sigmas: tuple[float, float, float] = (1, 1, 1)) -> Floats:
    """(R, S) of a normal crossed model, one clip a speaker: run + speaker + what is left."""
    rng = np.random.default_rng(seed)
    run, person, rest = sigmas
    return run * rng.normal(size=(runs, 1)) + person * rng.normal(size=people) + rest * rng.normal(size=(runs, people))


def answers(seed: int, runs: int = 5, people: int = 30, right: float = 0.9) -> tuple[NDArray[np.bool_], Floats]:
    """(R, K) answers of a model, some speakers harder than others, and the clips' (K,) speakers of unequal numbers."""
    rng = np.random.default_rng(seed)
    speakers = np.repeat(np.arange(people), rng.integers(1, 12, people))
    hard = np.clip(right + rng.normal(0, 0.1, people), 0, 1)[speakers]
    return rng.random((runs, len(speakers))) < hard, speakers


def test_components_are_the_mean_squares_of_two_way_analysis_of_variance() -> None:
    table = made_up(0)
    runs, people = table.shape
    rest = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
    square = (rest**2).sum() / ((runs - 1) * (people - 1))
    found = components([table], np.arange(people))
    assert found.value == pytest.approx(table.mean())
    assert found.runs[0] == pytest.approx(table.mean(1).var(ddof=1))
    assert found.speakers == pytest.approx(table.mean(0).var(ddof=1) / people)
    assert found.cells[0] == pytest.approx(square / people)
    assert found.effective == people


def test_components_estimate_the_variances_that_made_the_data() -> None:
    sigmas, runs, people = (0.3, 0.5, 2.0), 4, 12
    found = [components([made_up(seed, runs, people, sigmas)], np.arange(people)) for seed in range(3000)]
    truth = sigmas[0] ** 2 / runs + sigmas[1] ** 2 / people + sigmas[2] ** 2 / runs / people
    assert np.mean([f.runs[0] / runs + f.speakers - f.cells[0] / runs for f in found]) == pytest.approx(truth, rel=0.05)
    assert np.var([f.value for f in found]) == pytest.approx(truth, rel=0.1)


def uneven(people: int, draws: int, sigma: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """(draws, S) clips of each speaker, log-normal, and their deviations from the speakers' common rate."""
    sizes = rng.lognormal(0, sigma, (draws, people))
    return sizes, rng.normal(size=(draws, people))


@pytest.mark.parametrize("people", [2, 3, 6, 30])
def test_the_variance_between_speakers_is_right_however_unequal_their_clips_are(people: int) -> None:
    sizes, rates = uneven(people, 4000, 0.7, np.random.default_rng(people))
    share = sizes / sizes.sum(1, keepdims=True)
    values = (share * rates).sum(1)
    found = [between_speakers(n * r - v * n, n) for n, r, v in zip(sizes, rates, values, strict=True)]
    assert np.mean(found) == pytest.approx((share**2).sum(1).mean(), rel=0.06)  # S/(S − 1) Σ e² is 0.6 to 0.9 of it


def test_thirty_speakers_of_very_unequal_numbers_of_clips_raise_no_more_false_alarms_than_promised() -> None:
    sizes, rates = uneven(30, 8000, 1.2, np.random.default_rng(0))
    alarms = 0
    for n, r in zip(sizes, rates, strict=True):
        value = float((n * r).sum() / n.sum())
        shown = float(between_speakers(n * r - value * n, n))
        effective = float(n.sum() ** 2 / (n**2).sum())
        alarms += p_value(Components(value, (0.0,), (0.0,), (5,), shown, effective)) < 0.05
    assert 0.04 < alarms / len(sizes) < 0.065  # 7.2 % with S/(S − 1) Σ e²


def test_with_nothing_shared_the_test_is_welchs_over_seeds() -> None:
    first, second = made_up(1, 5, 40, (1, 0, 1)), made_up(2, 4, 40, (1, 0, 1))
    # each run's mean over speakers stays as it is, and what runs have in common on a speaker is taken away
    first = first - first.mean(0) + first.mean()
    second = second - second.mean(0) + second.mean()
    found = components([first, second], np.arange(40))
    assert found.shared == 0
    theirs = stats.ttest_ind(first.mean(1), second.mean(1), equal_var=False)
    assert p_value(found) == pytest.approx(theirs.pvalue)
    interval = theirs.confidence_interval(0.95)
    assert interval_estimate(found)[1:3] == pytest.approx((interval.low, interval.high))


def test_where_runs_agree_to_the_clip_speakers_are_all_the_chance() -> None:
    per_person = np.random.default_rng(3).normal(size=20)
    found = components([np.tile(per_person, (3, 1))], np.arange(20))
    theirs = stats.ttest_1samp(per_person, 0)
    assert p_value(found) == pytest.approx(theirs.pvalue)


def test_runs_that_differ_only_in_which_clips_they_miss_leave_the_speakers_test() -> None:
    runs = np.array([[1, 0, 1, 0], [0, 1, 1, 0]])
    found = components([runs], np.arange(4))
    assert (found.runs[0], found.shared) == (0, 0)
    assert p_value(found) == pytest.approx(stats.ttest_1samp(runs.mean(0), 0).pvalue)


@pytest.mark.parametrize("clips", [7, 9, 10])
def test_rounding_of_equal_accuracies_is_not_taken_for_certainty(clips: int) -> None:
    # three runs, each wrong on one other clip: equal accuracies, whose mean need not be equal in the last digit
    runs = np.tile(np.arange(clips), (3, 1)) != np.array([[0], [1], [2]])
    found = components([runs, ~runs[:, ::-1]], np.arange(clips))
    variance, df = found.spread()
    assert (variance, df) == pytest.approx((found.speakers, clips - 1))
    assert variance > 1e-3


def test_six_speakers_are_six_however_many_seeds() -> None:
    rng = np.random.default_rng(10)
    table = rng.normal(size=6) + 0.01 * rng.normal(size=(100, 6))
    assert components([table], np.arange(6)).spread()[1] == pytest.approx(5, rel=0.01)


def test_runs_that_happen_to_agree_leave_the_degrees_of_freedom_of_few_seeds() -> None:
    found = Components(0.0105, (2e-7, 3e-7), (8.8e-6, 9.6e-6), (3, 3), 6.3e-6, 152.0)  # GRU and LSTM at 40 ms
    estimate = interval_estimate(found)
    assert estimate.df == 2
    assert estimate.high - estimate.low < 0.01


def test_clips_of_one_speaker_do_not_count_as_many_speakers() -> None:
    rng = np.random.default_rng(4)
    by_person = rng.random((1, 20)) < 0.5
    clips = np.repeat(np.repeat(by_person, 50, axis=1), 3, axis=0)
    together = interval_estimate(components([clips], np.repeat(np.arange(20), 50)))
    as_if_alone = interval_estimate(components([clips], np.arange(1000)))
    assert together.error > 6 * as_if_alone.error


@given(seeds)
def test_exchanging_the_models_turns_the_sign_and_nothing_else(seed: int) -> None:
    (a, speakers), (b, _) = answers(seed), answers(seed, runs=3)
    one, other = components([a, b], speakers), components([b, a], speakers)
    assert other.value == pytest.approx(-one.value)
    assert p_value(other) == pytest.approx(p_value(one))
    assert interval_estimate(other).high == pytest.approx(-interval_estimate(one).low)


@given(seeds)
def test_the_order_of_clips_seeds_and_speakers_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    right, speakers = answers(seed)
    order = rng.permutation(len(speakers))
    names = rng.permutation(1000)[speakers]
    shuffled = components([right[rng.permutation(len(right))][:, order]], names[order])
    plain = components([right], speakers)
    assert (shuffled.value, shuffled.speakers) == pytest.approx((plain.value, plain.speakers))
    assert (*shuffled.runs, *shuffled.cells) == pytest.approx((*plain.runs, *plain.cells))


@given(seeds, st.floats(0.1, 10), st.floats(-5, 5))
def test_another_unit_scales_the_interval_and_a_common_shift_leaves_a_difference(
    seed: int, scale: float, shift: float
) -> None:
    a, b, people = made_up(seed), made_up(seed + 1), np.arange(12)
    plain, moved = components([a, b], people), components([scale * a + shift, scale * b + shift], people)
    assert p_value(moved) == pytest.approx(p_value(plain), rel=1e-6, abs=1e-12)
    assert interval_estimate(moved).error == pytest.approx(scale * interval_estimate(plain).error)


def test_a_model_does_not_differ_from_itself() -> None:
    right, speakers = answers(5)
    assert p_value(components([right, right], speakers)) == 1


def test_more_seeds_never_widen_and_the_speakers_part_stays() -> None:
    found = Components(0.01, (4e-5, 1e-5), (1e-5, 1e-5), (5, 5), 1.4e-5, 150.0)
    variances = [found.spread(n)[0] for n in (2, 3, 5, 10, 100, 10**6)]
    assert variances == sorted(variances, reverse=True)
    assert variances[-1] == pytest.approx(found.shared, rel=1e-3)


def test_draws_are_of_whole_speakers_and_whole_runs() -> None:
    right, speakers = answers(6, runs=3, people=2)
    sizes = np.bincount(speakers)
    sums = np.stack([np.bincount(speakers, run) for run in right])
    possible = {
        round(float(sums[list(rows)][:, list(people)].mean(0).sum() / sizes[list(people)].sum()), 9)
        for rows in np.ndindex(3, 3, 3)
        for people in np.ndindex(2, 2)
    }
    drawn = hierarchical_draws([right], speakers, np.random.default_rng(0), 500)
    assert {round(value, 9) for value in drawn} <= possible
    assert len(set(drawn.round(9))) > 6


def test_draws_over_speakers_alone_are_scipys_bootstrap() -> None:
    per_person = np.random.default_rng(7).normal(size=15)
    ours = hierarchical_draws([np.tile(per_person, (2, 1))], np.arange(15), np.random.default_rng(0), 20_000)
    theirs = stats.bootstrap((per_person,), np.mean, n_resamples=20_000, rng=np.random.default_rng(1))
    assert ours.std(ddof=1) == pytest.approx(theirs.standard_error, rel=0.03)


def test_the_bootstraps_width_is_the_tests_and_its_shape_the_datas() -> None:
    right, speakers = answers(8, right=0.985)
    found = hierarchical_bootstrap([right], speakers, np.random.default_rng(0))
    plain = interval_estimate(components([right], speakers))
    assert found.high - found.low == pytest.approx(plain.high - plain.low, rel=0.1)
    assert found.value - found.low > found.high - found.value
    assert found.high <= 1


def test_an_accuracys_interval_ends_where_accuracies_do() -> None:
    people = np.arange(40) // 10
    missed = np.zeros((2, 40), dtype=bool)
    missed[0, 3] = missed[1, 17] = missed[1, 18] = True
    plain = interval_estimate(components([~missed], people))
    assert plain.high > 1
    assert hierarchical_bootstrap([~missed], people, np.random.default_rng(0)).high == 1
    assert hierarchical_bootstrap([missed], people, np.random.default_rng(0)).low == 0


@given(seeds)
def test_the_bootstrap_comes_from_its_generator_alone(seed: int) -> None:
    right, speakers = answers(9, people=5)
    once, again = (hierarchical_bootstrap([right], speakers, np.random.default_rng(seed), 50) for _ in range(2))
    assert once == again


@pytest.mark.parametrize(
    ("correct", "speakers", "message"),
    [
        ([np.ones((2, 3))], [0, 1], r"shapes \[\(2, 3\)\] do not fit 2 speakers; give \(R, K\) arrays"),
        ([np.ones((1, 2))], [0, 1], "one run says nothing of the variability of training; run more seeds"),
        ([np.ones((2, 2))], [0, 0], "1 speaker: one says nothing of other speakers; test on clips of several"),
        ([np.ones((2, 2))] * 3, [0, 1], "of one model or of two, not of 3"),
    ],
)
def test_what_cannot_be_estimated_is_refused(correct: list[Floats], speakers: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        components(correct, speakers)
