from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from cello.statistics.comparisons import detectable, pairwise, seeds_needed
from cello.statistics.cross_validation import FoldComponents, fold_components
from cello.statistics.random_effects import interval_estimate, p_value

Floats = NDArray[np.float64]
seeds = st.integers(0, 2**32 - 1)


def answers(seed: int, runs: int = 3, folds: int = 5, each: int = 40, right: float = 0.8) -> tuple[Floats, Floats]:
    """(R, K) right or wrong, some folds harder than others, and the clips' (K,) folds of equal numbers of clips."""
    rng = np.random.default_rng(seed)
    place = np.repeat(np.arange(folds), each)
    hard = np.clip(right + rng.normal(0, 0.08, folds), 0, 1)[place]
    return (rng.random((runs, len(place))) < hard).astype(np.float64), place


def test_equal_folds_give_nadeau_and_bengios_test() -> None:
    (a, place), (b, _) = answers(0), answers(1)
    by_fold = np.array([(a[:, place == f].mean() - b[:, place == f].mean()) for f in range(5)])
    error = np.sqrt((1 / 5 + 1 / 4) * by_fold.var(ddof=1))  # 1/k + n_test/n_train
    found = fold_components([a, b], place)
    assert found.value == pytest.approx(by_fold.mean())
    assert found.spread()[1] == pytest.approx(4)
    assert p_value(found) == pytest.approx(2 * stats.t.sf(abs(by_fold.mean()) / error, 4))
    assert interval_estimate(found).high == pytest.approx(by_fold.mean() + stats.t.ppf(0.975, 4) * error)


def test_training_on_part_of_the_other_folds_makes_the_overlap_count_as_said() -> None:
    right, place = answers(2)
    assert fold_components([right], place, ratio=0.25).spread() == pytest.approx(
        fold_components([right], place).spread()
    )
    by_fold = np.array([right[:, place == f].mean() for f in range(5)])
    assert fold_components([right], place, ratio=0.5).spread()[0] == pytest.approx(0.7 * by_fold.var(ddof=1))


def test_without_a_training_set_effect_it_is_careful_and_where_folds_alone_vary_it_is_right() -> None:
    """Training sets whose effects correlate by 1/k, as Nadeau & Bengio take them to."""
    rng = np.random.default_rng(3)
    own, common = rng.normal(size=(4000, 5)), rng.normal(size=(4000, 1))
    alarms = {}
    for correlation in (0.0, 0.2):
        drawn = np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own
        found = [fold_components([row[None]], np.arange(5)) for row in drawn]
        alarms[correlation] = np.mean([p_value(f) < 0.05 for f in found])
    assert 0.005 < alarms[0.0] < 0.025
    assert 0.04 < alarms[0.2] < 0.06


@given(seeds)
def test_the_order_of_clips_and_seeds_and_the_folds_names_do_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    right, place = answers(seed)
    order = rng.permutation(len(place))
    shuffled = fold_components([right[rng.permutation(3)][:, order]], rng.permutation(100)[place][order])
    plain = fold_components([right], place)
    assert (shuffled.value, *shuffled.spread()) == pytest.approx((plain.value, *plain.spread()))


@given(seeds)
def test_exchanging_the_models_turns_the_sign_and_nothing_else(seed: int) -> None:
    (a, place), (b, _) = answers(seed), answers(seed + 1, runs=2)
    one, other = fold_components([a, b], place), fold_components([b, a], place)
    assert other.value == pytest.approx(-one.value)
    assert p_value(other) == pytest.approx(p_value(one))


def test_unequal_folds_give_the_accuracy_of_all_clips() -> None:
    right = np.array([[1, 1, 1, 1, 0, 0, 1, 0]])
    found = fold_components([right], [1, 1, 1, 1, 2, 2, 3, 3])
    assert found.value == pytest.approx(right.mean())
    assert found.spread()[1] == pytest.approx(64 / 24 - 1)


def test_more_seeds_take_away_what_is_the_seeds_and_never_widen() -> None:
    found = FoldComponents(0.01, 6e-5, (4e-5, 2e-5), (3, 3), 2.25, 5.0)
    assert found.spread(3)[0] == pytest.approx(found.spread()[0])
    variances = [found.spread(n)[0] for n in (1, 2, 3, 10, 1000)]
    assert variances == sorted(variances, reverse=True)
    assert variances[-1] == pytest.approx(2.25 * 4e-5, rel=0.01)
    lucky = FoldComponents(0.01, 1e-6, (4e-5, 2e-5), (3, 3), 2.25, 5.0)  # folds that happen to agree
    assert 0 < lucky.spread(1000)[0] <= lucky.spread()[0]


def test_one_seed_a_fold_is_enough_for_a_test_but_tells_nothing_of_more() -> None:
    (a, place), (b, _) = answers(4, runs=1), answers(5, runs=1)
    found = fold_components([a, b], place)
    assert found.cells == (0, 0)
    assert found.spread(100) == found.spread()
    assert 0 < p_value(found) < 1


def test_pairs_of_models_are_compared_over_folds_where_there_are_folds() -> None:
    models = {name: answers(seed, right=share)[0] for seed, (name, share) in enumerate([("GRU", 0.95), ("RNN", 0.5)])}
    place = answers(0)[1]
    by_fold, by_speaker = pairwise(models, place, folds=place)[0], pairwise(models, np.arange(200))[0]
    assert by_fold.difference.value == pytest.approx(by_speaker.difference.value)
    assert by_fold.difference.df == pytest.approx(4)
    found = fold_components(list(models.values()), place)
    assert (by_fold.p, by_fold.detectable) == (p_value(found), detectable(found))
    assert by_fold.seeds_needed == seeds_needed(found, found.value)
    assert by_fold.verdict.startswith("GRU is better than RNN by ")


@pytest.mark.parametrize(
    ("correct", "folds", "message"),
    [
        ([np.ones((2, 3))], [0, 1], r"shapes \[\(2, 3\)\] do not fit the folds of 2 clips; give \(R, K\) and \(K,\)"),
        ([np.ones((0, 2))], [0, 1], r"shapes \[\(0, 2\)\] do not fit the folds of 2 clips"),
        ([np.ones((2, 2))], [0, 0], "1 fold: one says nothing of other training sets; use at least two"),
        ([np.ones((2, 2))] * 3, [0, 1], "of one model or of two, not of 3"),
    ],
)
def test_what_cannot_be_estimated_is_refused(correct: list[Floats], folds: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fold_components(correct, folds)
