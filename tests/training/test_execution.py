"""How a run is computed: nothing of it is silently other than asked."""

from __future__ import annotations

import pytest

from cello.training import execution
from cello.training.execution import ExecutionConfig


def test_a_thread_for_batches_is_there_only_where_a_core_is_left_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "usable_cores", lambda: 4)
    found = [ExecutionConfig().beside(runs).data_threads for runs in (1, 2, 3, 4)]
    assert found == [1, 1, 0, 0]
    assert ExecutionConfig(threads=3).beside(1).data_threads == 1
    assert ExecutionConfig(threads=4).beside(1).data_threads == 0
    assert ExecutionConfig(data_threads=1).beside(4).data_threads == 1
