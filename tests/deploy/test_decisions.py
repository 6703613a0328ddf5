"""Decisions: a word counted twice, a decision for noise, or one long after its word makes a stream useless."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from cello.deploy.decisions import BACKGROUND, Decider, DecisionConfig, _softmax_of_step, softmax

LABELS = ("no", "yes", "_silence_")


def steps(*labels: int, sure: float = 9.0) -> np.ndarray:
    return np.float32(sure) * np.eye(3, dtype=np.float32)[list(labels)]


def decider(config: DecisionConfig) -> Decider:
    return Decider(LABELS, config, rate_hz=16_000, step_samples=1600)


def decide(config: DecisionConfig, *labels: int, sure: float = 9.0) -> list[tuple[float, str]]:
    times = [round(0.1 * (k + 1), 6) for k in range(len(labels))]
    found = decider(config).push(times, steps(*labels, sure=sure))
    return [(time, label) for time, label, _ in found]


def test_a_word_is_decided_once_within_the_refractory_time() -> None:
    config = DecisionConfig(threshold=0.9, smooth_s=0.1, refractory_s=0.3)
    assert decide(config, 1, 1, 1, 1, 1, 1, 1) == [(0.1, "yes"), (0.4, "yes"), (0.7, "yes")]
    assert decide(config, 1, 0, 0, 0) == [(0.1, "yes"), (0.4, "no")]


def test_one_step_alone_is_smoothed_away() -> None:
    assert decide(DecisionConfig(threshold=0.6, smooth_s=0.4, refractory_s=0), 2, 2, 2, 1, 2, 2) == []
    found = decide(DecisionConfig(threshold=0.6, smooth_s=0.4, refractory_s=9), 2, 2, 1, 1, 1)
    assert found == [(0.5, "yes")]  # three of the last four


def test_background_is_never_decided_for_and_ends_no_refractory_time() -> None:
    config = DecisionConfig(threshold=0.5, smooth_s=0, refractory_s=0)
    assert decide(config, 2, 2, 0) == [(0.3, "no")]
    assert decide(DecisionConfig(threshold=0.5, smooth_s=0, refractory_s=0, background=("no",)), 2, 0, 1) == [
        (0.1, "_silence_"),
        (0.3, "yes"),
    ]
    assert {"silence", "unknown", "_silence_", "_unknown_"} == set(BACKGROUND)


def test_below_the_threshold_nothing_is_decided() -> None:
    assert decide(DecisionConfig(threshold=0.8, smooth_s=0), 0, sure=1.0) == []
    assert decide(DecisionConfig(threshold=0.5, smooth_s=0), 0, sure=1.0) == [(0.1, "no")]


@pytest.mark.parametrize("piece", [1, 7])
@pytest.mark.parametrize("smooth_s", [0, 0.35, 3, 1e9])
def test_pieces_decide_as_the_whole(piece: int, smooth_s: float) -> None:
    config = DecisionConfig(threshold=0.4, smooth_s=smooth_s, refractory_s=0.25)
    scores = np.random.default_rng(0).normal((2, 0, 0), 2, (90, 3)).astype(np.float32)
    times = [0.1 * k for k in range(90)]
    whole, chopped = decider(config), decider(config)
    expected = whole.push(times, scores)
    parts = [one for k in range(0, 90, piece) for one in chopped.push(times[k : k + piece], scores[k : k + piece])]
    assert parts == expected != []
    assert chopped.highest == whole.highest


@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf])
def test_a_step_alone_has_the_probabilities_that_it_has_among_others(strange: float) -> None:
    scores = np.random.default_rng(1).normal(0, 3, (50, 3)).astype(np.float32)
    scores[20, 1], scores[30] = strange, strange
    found = np.array([_softmax_of_step(step) for step in scores])
    np.testing.assert_array_equal(found, softmax(scores))


def test_smoothing_and_refractory_time_are_whole_steps_and_samples() -> None:
    smooth = [DecisionConfig(smooth_s=s).smoothed_steps(16_000, 320) for s in (0, 0.009, 0.03, 0.05, 0.2)]
    assert smooth == [1, 1, 2, 2, 10]
    assert [DecisionConfig(refractory_s=s).refractory_samples(16_000) for s in (0, 0.02001, 0.1 + 0.2)] == [
        0,
        320,
        4800,
    ]
    exact, longer = (
        decide(DecisionConfig(threshold=0.5, smooth_s=0, refractory_s=s), 1, 1, 1) for s in (0.10001, 0.1001)
    )
    assert [time_s for time_s, _ in exact] == [0.1, 0.2, 0.3]
    assert [time_s for time_s, _ in longer] == [0.1, 0.3]


def test_softmax_of_large_scores_is_finite() -> None:
    assert softmax(np.array([[1e4, 0.0]])).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("module", ["decisions"])
def test_neither_torch_nor_the_workbench_is_loaded(module: str) -> None:
    code = (
        f"import sys, cello.deploy.{module}; print(*(m for m in sys.modules if m.split('.')[0] in ('torch', 'scipy')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
