from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cello.statistics.ranks import critical_difference, friedman, groups, letters

# AUC of C4.5 with m and cf tuned inside or not, on 14 data sets: Demšar 2006, table 6. On the last but one the third
# and fourth figure are alike to three digits; the mean ranks that the paper prints need the third to be above.
DEMSAR = {
    "C4.5": [0.763, 0.599, 0.954, 0.628, 0.882, 0.936, 0.661, 0.583, 0.775, 1.0, 0.940, 0.619, 0.972, 0.957],
    "C4.5+m": [0.768, 0.591, 0.971, 0.661, 0.888, 0.931, 0.668, 0.583, 0.838, 1.0, 0.962, 0.666, 0.981, 0.978],
    "C4.5+cf": [0.771, 0.590, 0.968, 0.654, 0.886, 0.916, 0.609, 0.563, 0.866, 1.0, 0.965, 0.614, 0.9751, 0.946],
    "C4.5+m+cf": [0.798, 0.569, 0.967, 0.657, 0.898, 0.931, 0.685, 0.625, 0.875, 1.0, 0.962, 0.669, 0.975, 0.970],
}
tables = st.integers(2, 5).flatmap(
    lambda n: st.lists(st.lists(st.integers(0, 9), min_size=n, max_size=n), min_size=3, max_size=6)
)


def named(rows: list[list[int]]) -> dict[str, list[int]]:
    return {f"m{i}": row for i, row in enumerate(rows)}


def test_demsars_example_comes_out_as_in_his_paper() -> None:
    found = friedman(DEMSAR)
    assert {name: round(rank, 3) for name, rank in found.ranks.items()} == {
        "C4.5+m+cf": 1.964, "C4.5+m": 2.000, "C4.5+cf": 2.893, "C4.5": 3.143,
    }  # fmt: skip
    uncorrected = 12 * 14 / (4 * 5) * (sum(r**2 for r in found.ranks.values()) - 4 * 25 / 4)
    assert round(uncorrected, 2) == 9.28
    assert round(found.critical_difference, 2) == 1.25
    assert found.groups == (("C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"),)
    assert round(critical_difference(4, 14, confidence=0.9), 2) == 1.12
    assert "C4.5" not in friedman(DEMSAR, confidence=0.9).groups[0]


@pytest.mark.parametrize(("models", "quantile"), [(2, 1.960), (3, 2.343), (4, 2.569), (6, 2.850), (10, 3.164)])
def test_nemenyis_quantiles_are_those_of_the_table(models: int, quantile: float) -> None:
    assert critical_difference(models, 10) == pytest.approx(
        quantile * (models * (models + 1) / 60) ** 0.5, abs=0.0006 * models
    )


@given(tables)
def test_the_statistic_is_scipys_ties_included(rows: list[list[int]]) -> None:
    if all(len(set(block)) == 1 for block in zip(*rows, strict=True)):
        assert friedman(named(rows)).p_chi2 == 1
        return
    theirs = stats.friedmanchisquare(*rows)
    ours = friedman(named(rows))
    assert (ours.chi2, ours.p_chi2) == pytest.approx((theirs.statistic, theirs.pvalue), abs=1e-9)


@given(tables, st.randoms(use_true_random=False))
def test_the_models_order_and_a_blocks_scale_do_not_matter(rows: list[list[int]], random: object) -> None:
    plain = friedman(named(rows))
    items = list(named(rows).items())
    random.shuffle(items)  # type: ignore[attr-defined]
    factors = np.arange(1, len(rows[0]) + 1)
    again = friedman({name: factors * np.array(row) + 7 for name, row in items})
    assert again.ranks == pytest.approx(plain.ranks)
    assert (again.p, again.chi2) == pytest.approx((plain.p, plain.chi2))


def test_the_best_model_has_rank_one_and_stands_first() -> None:
    found = friedman({"worse": [1, 2, 3], "better": [4, 5, 6]})
    assert list(found.ranks.items()) == [("better", 1.0), ("worse", 2.0)]
    assert found.p == 0.25  # three blocks of two models are alike in one of four cases


def test_iman_and_davenports_p_is_the_f_distributions() -> None:
    found = friedman(DEMSAR)
    f = 13 * found.chi2 / (14 * 3 - found.chi2)
    assert found.p == pytest.approx(stats.f.sf(f, 3, 39))


def test_letters_of_overlapping_groups() -> None:
    apart = [("a", "d"), ("a", "c"), ("b", "d")]
    assert letters("abcd", apart) == {"a": "a", "b": "ab", "c": "bc", "d": "c"}
    assert groups("abcd", apart) == (("a", "b"), ("b", "c"), ("c", "d"))


@given(st.integers(1, 7).flatmap(lambda n: st.sets(st.sampled_from(sorted(combinations("abcdefg"[:n], 2)) or [()]))))
def test_models_share_a_letter_if_and_only_if_they_do_not_differ(apart: set[tuple[str, str]]) -> None:
    apart = {pair for pair in apart if pair}
    found = letters("abcdefg", apart)
    sets = [set(group) for group in groups("abcdefg", apart)]
    assert not any(one < other for one in sets for other in sets)
    for a, b in combinations("abcdefg", 2):
        assert bool(set(found[a]) & set(found[b])) is ((a, b) not in apart)


def test_more_groups_than_the_alphabet_still_have_a_sign_each() -> None:
    names = [f"m{i}" for i in range(30)]
    found = letters(names, combinations(names, 2))
    assert len(set(found.values())) == 30
    assert (found["m25"], found["m26"]) == ("z", "a′")


@pytest.mark.parametrize(
    "scores", [{"a": [1, 2]}, {"a": [1, 2], "b": [1]}, {"a": [1], "b": [2]}, {"a": [1, 2], "b": [1, float("nan")]}]
)
def test_what_cannot_be_ranked_is_refused(scores: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match="ranks need"):
        friedman(scores)
