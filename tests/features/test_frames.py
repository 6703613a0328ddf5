from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cello.features import frames


@given(st.integers(0, 5000), st.integers(1, 600), st.integers(1, 600))
def test_frames_are_exactly_those_that_fit_whole(samples, window, hop):
    fitting = sum(1 for start in range(0, samples, hop) if start + window <= samples)
    assert frames.frame_count(samples, window, hop) == fitting


@pytest.mark.parametrize(("window_ms", "expected"), [(20, 99), (40, 49), (80, 24), (120, 15)])
def test_a_second_gives_the_study_s_frames(window_ms, expected):
    window, hop = frames.samples_of(window_ms, 16_000), frames.samples_of(window_ms / 2, 16_000)
    assert frames.frame_count(16_000, window, hop) == expected
