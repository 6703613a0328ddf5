"""Finished runs made in a moment, as a fixture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import made_runs
from cello.audio.corpus import Corpus


@pytest.fixture
def make_run(tmp_path: Path, tone_corpus: Corpus) -> Callable[..., Path]:
    """A function that makes the folder of a finished run with these settings of model and features."""

    def make(name: str = "run", **settings: Any) -> Path:
        return made_runs.make_run(tmp_path / name, tone_corpus.manifest, **settings)

    return make
