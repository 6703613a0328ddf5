"""What hurts: the few minutes for which a GPU is at hand, lost to a benchmark that does not run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from as_device import as_device
from cello.training.execution import ExecutionConfig

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import gpu_epoch

CPU = ExecutionConfig(device="cpu", backend="plain")


@pytest.fixture(autouse=True)
def on_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same code as on a GPU, whole epochs on the device, which the CPU stands for."""
    as_device(monkeypatch)


def test_an_epoch_is_timed_with_its_parts() -> None:
    found = gpu_epoch.epoch(clips=40, samples=4000, batch=16, hidden=4, epochs=2, execution=CPU)
    assert found.keys() == {"epoch", "train", "data", "validation", "first", "before", "loss"}
    assert found["epoch"] == pytest.approx(found["train"] + found["data"] + found["validation"], abs=0.05)
    assert 0 < found["loss"] < 10


def test_the_gates_study_is_timed_by_its_rows() -> None:
    found = dict(gpu_epoch.gates(clips=28, samples=4000, epochs=1, seeds=1, execution=CPU))
    assert len(found) == 7
    assert 0 < sum(found.values()) - found["all"] <= found["all"]


def test_clips_are_alike_within_a_label_and_of_the_length_asked_for() -> None:
    corpus = gpu_epoch.synthetic(30, 10, 5, 800)
    assert {split: len(corpus.indices(split)) for split in ("train", "validation", "test")} == {
        "train": 30, "validation": 10, "test": 10,
    }  # fmt: skip
    assert set(corpus.lengths.tolist()) == {800}
    assert len(corpus.sound) == 50 * 800


def test_the_check_finds_the_same_run_three_times() -> None:
    found = gpu_epoch.check(clips=40, samples=3000, epochs=2, execution=CPU)
    assert found["graph - eager"] == found["graphs"] == 0
    assert found["graph - cpu"] < 1e-3
    assert found["last loss"] != found["first loss"]
