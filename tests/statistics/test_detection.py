"""Misses and false alarms: a word counted twice, or a wrong one that passes for right, flatters a detector."""

from __future__ import annotations

import pytest

from cello.statistics.detection import Event, Point, chosen, counted, rate_interval, rates

WORDS = [Event(1.0, 2.0, "yes", "a"), Event(3.0, 4.0, "no", "b"), Event(5.0, 6.0, "yes", "a")]


def test_a_decision_hits_its_word_once_from_its_start_to_the_tolerance_after_its_end() -> None:
    found = counted(WORDS, [(0.9, "yes"), (1.2, "yes"), (2.4, "yes"), (4.5, "no"), (6.6, "yes")], 0.5)
    assert found.hits.tolist() == [True, True, False]
    assert found.latencies_s.tolist() == pytest.approx([-0.8, 0.5])
    assert found.kinds == ("noise", "hit", "repeat", "hit", "noise")  # before the word, …, too late
    assert found.false_alarms == 2


def test_a_wrong_label_is_a_confusion_and_a_miss_but_no_false_alarm() -> None:
    found = counted(WORDS, [(3.5, "yes")], 0.5)
    assert (found.hits.any(), found.kinds, found.false_alarms) == (False, ("confusion",), 0)


def test_a_late_decision_is_the_earlier_words_though_the_next_has_begun() -> None:
    close = [Event(1.0, 2.0, "yes"), Event(2.1, 3.0, "no")]
    assert counted(close, [(2.3, "yes"), (2.9, "no")], 0.5).hits.tolist() == [True, True]
    assert counted([close[0], Event(2.1, 3.0, "")], [(2.3, "yes"), (2.4, "no")], 0.5).kinds == ("hit", "other")


def test_other_words_are_no_words_that_can_be_missed_and_latency_is_from_the_words_end() -> None:
    events = [Event(1.0, 2.0, "yes", "a", 1.4), Event(3.0, 4.0, ""), Event(5.0, 6.0, "no", "b", 5.5)]
    found = counted(events, [(1.6, "yes"), (3.2, "no"), (4.9, "no")], 0.5)
    assert (found.hits.tolist(), found.kinds) == ([True, False], ("hit", "other", "noise"))
    told = rates(0.7, found, ["a", "b"], 2.0, delay_s=0.1)
    assert (told.false_alarms, told.in_noise, told.in_other_words, told.false_alarms_an_hour) == (2, 1, 1, 1.0)
    assert (told.latency_s, told.latency_95_s) == pytest.approx((0.3, 0.3))
    assert told.miss_interval is not None
    assert told.miss_interval[0] < told.miss_rate == 0.5 < told.miss_interval[1]
    assert rates(0.7, found, ["a", "a"], 2.0).miss_interval is None  # one speaker says nothing of others


def test_the_threshold_is_the_lowest_from_which_on_false_alarms_are_few() -> None:
    points = [Point(0.9, 0.5, 0.3), Point(0.5, 0.5, 0.1), Point(0.7, 3.0, 0.2), Point(0.8, 1.0, 0.25)]
    assert chosen(points, 1.0) == Point(0.8, 1.0, 0.25)  # not 0.5, which a higher one contradicts
    assert chosen(points, 0.1) is None


def test_no_alarm_in_an_hour_may_still_be_three() -> None:
    assert rate_interval(0, 1.0) == (0.0, pytest.approx(3.689, abs=1e-3))
