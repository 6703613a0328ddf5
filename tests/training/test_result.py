"""What hurts: an epoch whose sound, features and validation nobody counts, an old record that cannot be read."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from cello.files import DamagedFileError
from cello.training.config import CorpusRef, RunConfig
from cello.training.result import Epoch, RunResult, SplitMetrics, check_possible, warm

NEW = ("epoch_seconds", "epoch_cpu_seconds", "epoch_clips_per_second")


def epoch(number: int, **times: float) -> Epoch:
    usual = {"train_seconds": 1.0, "train_cpu_seconds": 0.9, "data_seconds": 2.0, "validation_seconds": 0.25}
    losses = dict.fromkeys(("learning_rate", "train_loss", "train_accuracy"), 0.5)
    return Epoch(epoch=number, **losses, validation_loss=0.5, validation_accuracy=0.5, **(usual | times))


def result(*history: Epoch, **values: Any) -> RunResult:
    metrics = SplitMetrics(clips=100, loss=0.5, accuracy=0.5, word_mean=0.5)
    config = RunConfig(corpus=CorpusRef(name="tones", checksum="0" * 64))
    usual = {
        "run": config.id, "config": config, "labels": ("a", "b"), "parameters": 1, "backend": "plain",
        "chosen_epoch": 1, "train": metrics, "validation": metrics, "test": metrics, "confusion": (),
        "seconds_per_epoch": 0.9, "wall_seconds_per_epoch": 1.0, "clips_per_second": 111.0, "total_seconds": 9.0,
        "hardware": {}, "versions": {}, "history": history,
    }  # fmt: skip
    return RunResult(**(usual | values))


def old(found: RunResult) -> bytes:
    """The record as it was before whole epochs were timed."""
    tree = msgspec.to_builtins(found)
    tree["history"] = [{name: value for name, value in one.items() if name not in NEW} for one in tree["history"]]
    return msgspec.json.encode({name: value for name, value in tree.items() if name not in NEW})


def test_the_whole_epoch_is_the_median_after_the_first() -> None:
    times = ((50.0, 60.0), (4.0, 5.0), (2.0, 7.0), (3.0, 9.0))
    history = [epoch(k, epoch_seconds=wall, epoch_cpu_seconds=cpu) for k, (wall, cpu) in enumerate(times, start=1)]
    found = result(*history)
    assert (found.epoch_seconds, found.epoch_cpu_seconds) == (3.0, 7.0)
    assert found.epoch_clips_per_second == pytest.approx(100 / 3)
    assert warm(history) == history[1:]
    alone = result(history[0])
    assert (alone.epoch_seconds, alone.epoch_cpu_seconds) == (50.0, 60.0)


def test_an_old_record_has_the_sum_of_its_phases_and_no_cpu_time() -> None:
    written = old(result(epoch(1, data_seconds=9.0), epoch(2), epoch(3, data_seconds=4.0), epoch(4)))
    assert b"epoch_seconds" not in written
    found = msgspec.json.decode(written, type=RunResult)
    assert [one.epoch_seconds for one in found.history] == [10.25, 3.25, 5.25, 3.25]
    assert {one.epoch_cpu_seconds for one in found.history} == {None}
    assert (found.epoch_seconds, found.epoch_cpu_seconds) == (3.25, None)
    assert found.epoch_clips_per_second == pytest.approx(100 / 3.25)


def test_a_record_reads_back_as_it_was_and_a_measured_time_is_never_replaced() -> None:
    found = result(epoch(1, epoch_seconds=2.5, epoch_cpu_seconds=3.5))  # shorter than its phases one after the other
    assert msgspec.json.decode(msgspec.json.encode(found), type=RunResult) == found
    assert found.history[0].epoch_seconds == found.epoch_seconds == 2.5
    without = msgspec.structs.replace(found, history=())
    assert [getattr(without, name) for name in NEW] == [2.5, 3.5, 40.0]


def test_without_a_history_nothing_is_made_up() -> None:
    assert [getattr(result(), name) for name in NEW] == [0.0, None, 0.0]


@pytest.mark.parametrize("name", NEW)
def test_a_time_below_0_is_damage(name: str) -> None:
    with pytest.raises(DamagedFileError, match="a time or a loss is below 0"):
        check_possible(result(**({"epoch_seconds": 1.0} | {name: -1.0})))
