"""One run's accuracy: an interval that leaves out how few speakers there were promises too much."""

from __future__ import annotations

import numpy as np
import pytest

from cello.statistics.one_run import reliability, share_over


def test_clips_of_few_speakers_who_differ_give_a_wider_interval_than_as_many_independent_clips() -> None:
    correct = np.repeat([1, 1, 1, 0, 1, 1, 0, 1], 25)
    by_speaker = share_over(correct, np.repeat(np.arange(8), 25))
    by_clip = share_over(correct, np.arange(200))
    assert by_speaker.value == by_clip.value == 0.75
    assert by_speaker.high - by_speaker.low > 3 * (by_clip.high - by_clip.low)
    assert (by_speaker.groups, by_clip.groups) == (8, 200)


def test_the_interval_stays_within_bounds_and_keeps_a_width_where_all_is_right_or_wrong() -> None:
    low = share_over(np.ones(40), np.repeat(np.arange(10), 4))
    high = share_over(np.zeros(40), np.repeat(np.arange(10), 4))
    assert (low.high, high.low) == (1.0, 0.0)
    assert 0.5 < low.low < 0.9
    assert high.high == pytest.approx(1 - low.low)


def test_most_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        rates = rng.beta(18, 2, 30)  # mean 0.9
        found = share_over(rng.random((30, 8)).ravel() < rates.repeat(8), np.repeat(np.arange(30), 8))
        held += found.low <= 0.9 <= found.high
    assert 0.92 <= held / 400 <= 0.985


def test_too_little_is_refused() -> None:
    with pytest.raises(ValueError, match="one group says nothing"):
        share_over([1, 0], [3, 3])
    with pytest.raises(ValueError, match=r"\(2,\) clips and \(3,\) groups"):
        share_over([1, 0], [1, 2, 3])


def test_bins_hold_every_clip_once_and_a_probability_of_one_too() -> None:
    rng = np.random.default_rng(1)
    given = np.append(rng.random(99), 1.0)
    found = reliability(given, given > 0.5, 15)
    assert sum(one.clips for one in found) == 100
    assert all(one.low <= one.confidence <= one.high for one in found)
    assert found[-1].accuracy == 1.0
