"""What hurts: workers that each import again what all of them need, or torch loaded for a trainer that has none."""

from __future__ import annotations

import importlib.util
from multiprocessing import forkserver

import pytest

from cello.execution.forkserver import IN_FIRST_STEP, METHOD, start_forkserver


@pytest.mark.skipif(METHOD != "forkserver", reason="there is none on this system")
def test_what_the_first_step_imports_is_loaded_once_for_all_workers_of_a_study_and_for_no_other_trainer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(forkserver, "set_forkserver_preload", asked.append)
    monkeypatch.setattr(forkserver, "ensure_running", lambda: None)
    start_forkserver()
    start_forkserver("fake_training")
    common = ["distributed.nanny", "cello.execution.worker"]
    assert asked == [[*common, "cello.training.run", IN_FIRST_STEP], [*common, "fake_training"]]
    assert importlib.util.find_spec(IN_FIRST_STEP) is not None
