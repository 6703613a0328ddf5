"""What hurts: a larger difference that is called chance beside a smaller one that is not, and nobody says why."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from cello.report import ranking
from cello.report.comparisons import compare_models
from cello.report.results import StudyResults
from cello.report.surprise import Surprise

CLIPS = 4000
SPEAKERS = np.arange(CLIPS) // 40
Answers = Callable[[float], np.ndarray]


def steady(accuracy: float) -> np.ndarray:
    """Five runs that are right on the same clips but for a few."""
    rng = np.random.default_rng(7)
    ease = rng.permutation(np.arange(CLIPS) / CLIPS)
    noise = np.random.default_rng(int(1000 * accuracy)).normal(0, 0.005, (5, CLIPS))
    return ease + noise < accuracy


def by_seed(accuracy: float) -> np.ndarray:
    """Five runs, one of which failed."""
    runs = steady(accuracy)
    runs[0] &= np.random.default_rng(1).random(CLIPS) < 0.6
    return runs


def by_speaker(accuracy: float) -> np.ndarray:
    """Five runs that all fail for the same few speakers."""
    runs = steady(accuracy)
    runs[:, np.isin(SPEAKERS, (3, 50))] = False
    return runs


@pytest.mark.parametrize(("worse", "reason"), [(by_seed, "seeds"), (by_speaker, "speakers")])
def test_the_part_that_varies_more_is_named(gates: StudyResults, worse: Answers, reason: str) -> None:
    found = compare_models("40 ms", {"GRU": steady(0.9), "LSTM": steady(0.89), "RNN": worse(0.895)}, SPEAKERS)
    assert found.surprise is not None
    assert found.surprise.reason == reason
    assert found.surprise.larger == ("GRU", "RNN")
    assert found.surprise.smaller == ("GRU", "LSTM")
    assert found.surprise.differences[0] > found.surprise.differences[1] > 0
    assert found.surprise.errors[0] > found.surprise.errors[1]
    study = msgspec.structs.replace(gates, comparisons=(found,))
    (text,) = [text for text in ranking.verdicts(study) if text.startswith("The larger difference")]
    assert "GRU over RNN" in text
    assert "GRU over LSTM (1.0" in text
    assert f"varies more between {reason} (standard error" in text
    assert ("most with RNN" in text) == (reason == "seeds")


PLACE = np.arange(CLIPS) % 40  # of a clip among its speaker's


def alike(*right: int) -> np.ndarray:
    """Runs that are right on so many clips of every speaker."""
    return np.stack([n > PLACE for n in right])


def told(gates: StudyResults, answers: dict[str, np.ndarray]) -> tuple[Surprise, str]:
    found = compare_models("40 ms", answers, SPEAKERS)
    assert found.surprise is not None
    assert (found.surprise.larger, found.surprise.smaller) == (("GRU", "RNN"), ("GRU", "LSTM"))
    return found.surprise, ranking.surprise_text(found.surprise, gates)


def test_a_variance_that_few_runs_tell_is_said_to_be_uncertain(gates: StudyResults) -> None:
    some_fail = alike(*[36] * 5)
    some_fail[:, np.isin(SPEAKERS, range(12)) & (PLACE < 18)] = False
    answers = {"GRU": alike(*[36] * 5), "LSTM": some_fail, "RNN": alike(34, 33)}
    found, text = told(gates, answers)
    assert found.reason == "few"
    assert found.errors[0] < found.errors[1]
    assert text == (
        "The larger difference of GRU over RNN (6.25 points) is not significant, the smaller one of GRU over LSTM "
        "(5.40 points) is: the standard error of the larger one (1.25 against 1.47 points) rests on fewer seeds or "
        "speakers and is itself uncertain; more of them would help."
    )


def test_a_difference_that_never_varies_is_said_to_tell_nothing_of_chance(gates: StudyResults) -> None:
    found, text = told(gates, {"GRU": alike(*[36] * 5), "LSTM": steady(0.87), "RNN": alike(*[32] * 5)})
    assert found.reason == "constant"
    assert found.errors[0] == 0
    assert "GRU over RNN (10.00 points) is not significant" in text
    assert text.endswith(
        "the larger one is the same in every run and for all speakers, so that its variability cannot be estimated."
    )


def test_where_larger_differences_are_the_surer_ones_nothing_is_explained() -> None:
    found = compare_models("", {"GRU": steady(0.9), "LSTM": steady(0.85), "RNN": steady(0.8)}, SPEAKERS)
    assert all(pair.differs for pair in found.comparisons)
    assert found.surprise is None


def test_the_names_of_a_surprise_are_shown_as_others_are(gates: StudyResults) -> None:
    found = compare_models("40 ms", {"GRU": steady(0.9), "LSTM": steady(0.89), "RNN": by_seed(0.895)}, SPEAKERS)
    assert found.surprise is not None
    assert ranking.surprise_text(found.surprise, gates).count("RNN") == 2
