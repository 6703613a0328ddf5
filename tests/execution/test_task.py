"""What hurts: a failure that an earlier version stored, and nobody can read any more."""

from __future__ import annotations

from pathlib import Path

from cello.execution.task import FailureRecord, last_failure


def test_a_failure_is_stored_as_it_always_was(tmp_path: Path) -> None:
    (tmp_path / "failure.json").write_text('{"sitting":"a","reason":"the loss became nan","diverged":true}')
    assert last_failure(tmp_path) == FailureRecord(session="a", reason="the loss became nan", diverged=True)
