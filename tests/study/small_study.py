"""A small study and its corpus, as fixtures."""

from __future__ import annotations

import pytest

from cello.study.config import StudyConfig
from cello.study.store import CorpusSource
from cello.study.study_file import parse_study

SMALL = """
name = "small"
seeds = [0, 1]
[base.optimiser]
epochs = 5
learning_rate = 0.01
[[rows]]
name = "A"
[rows.model]
hidden = 1
[[rows]]
name = "B"
[rows.model]
hidden = 2
[[rows]]
name = "C"
[rows.model]
hidden = 3
"""


@pytest.fixture
def small() -> StudyConfig:
    """Three rows, two seeds, five epochs each."""
    return parse_study(SMALL, "small.toml")


@pytest.fixture
def source() -> CorpusSource:
    return CorpusSource(spec="fake", opener="fake_training:open_fake")
