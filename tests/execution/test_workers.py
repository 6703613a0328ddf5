"""A mistyped cluster must be answered at once, not after a corpus has been decoded."""

from __future__ import annotations

from pathlib import Path

import pytest

from cello.errors import StudyError
from cello.execution.workers import Workers, scheduler_address


def test_a_scheduler_is_found_by_address_or_by_the_file_it_wrote(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    file.write_text('{"type": "Scheduler", "id": "Scheduler-1", "address": "tcp://10.0.0.7:8786", "workers": {}}')
    assert scheduler_address(str(file)) == "tcp://10.0.0.7:8786"
    assert scheduler_address("tls://node:1") == "tls://node:1"
    assert Workers.of(3) == Workers(count=3)
    assert Workers.of(Workers(cluster="node7:8786")) == Workers(cluster="node7:8786")


def test_what_cannot_be_says_what_to_write(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    with pytest.raises(StudyError, match=r"scheduler\.json' is neither an address nor a scheduler file that is"):
        Workers(cluster=str(file))
    file.write_text("{}")
    with pytest.raises(
        StudyError, match=r"is not a scheduler file: .* `address`; give the one that dask scheduler wrote"
    ):
        Workers(cluster=str(file))
    file.write_bytes(b'{"address": "\xff"}')
    with pytest.raises(StudyError, match=r"is not a scheduler file: .*; give the one that dask scheduler wrote"):
        Workers(cluster=str(file))
    for address in ("tcp://", "tcp://node7", "tcp://:8786", "tcp://a b:1"):
        with pytest.raises(StudyError, match=r"' is neither an address nor a scheduler file that is there; write tcp"):
            Workers(cluster=address)
    with pytest.raises(StudyError, match=r"'node7' is neither .* write tcp://HOST:8786, or start one with dask"):
        Workers(cluster="node7")
    with pytest.raises(StudyError, match=r"workers=0 is invalid: it must be at least 1"):
        Workers.of(0)
    with pytest.raises(StudyError, match=r"stall_minutes=0 would restart every run at once; give minutes"):
        Workers(stall_minutes=0)
