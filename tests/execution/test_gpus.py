"""What hurts: runs of a study that all crowd onto one GPU, and a missing GPU that every run finds out alone."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch

from cello.errors import StudyError
from cello.execution import gpus
from cello.execution.gpus import runs_at_once, shared_devices
from cello.execution.session import Session
from cello.execution.task import Task
from cello.execution.workers import Workers
from cello.training import device
from cello.training.execution import ExecutionConfig

Patch = pytest.MonkeyPatch


def answering(patch: Patch, answer: bytes = b"", fault: Exception | None = None) -> list[ExecutionConfig]:
    """Stand for the process that is asked; what it was asked."""
    asked: list[ExecutionConfig] = []

    def run(command: list[str], **settings: Any) -> SimpleNamespace:
        asked.append(msgspec.json.decode(settings["input"], type=ExecutionConfig))
        assert command[0] == sys.executable
        assert settings["env"]["PYTHONSAFEPATH"] == "1"
        if fault is not None:
            raise fault
        return SimpleNamespace(stdout=answer)

    patch.setattr(gpus.subprocess, "run", run)
    patch.setattr(gpus.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return asked


def test_a_study_has_a_run_for_each_gpu_unless_told_otherwise(monkeypatch: Patch) -> None:
    asked = answering(monkeypatch, b'some noise\n{"devices":["cuda:0","cuda:1"]}\n')
    found = shared_devices(ExecutionConfig(precision="bf16"))
    assert found == ("cuda:0", "cuda:1")
    assert asked == [ExecutionConfig(precision="bf16")]
    assert [runs_at_once(count, found) for count in (None, 1, 6)] == [2, 1, 6]
    with pytest.raises(StudyError, match=r"workers=0 is invalid"):
        runs_at_once(0, found)


def test_a_gpu_that_cannot_be_used_stops_the_study_before_its_first_run(monkeypatch: Patch) -> None:
    answering(monkeypatch, b'{"fault":"execution.device=cuda cannot be used: why. Do this"}\n')
    with pytest.raises(StudyError, match=r"^execution\.device=cuda cannot be used: why\. Do this$"):
        shared_devices(ExecutionConfig(device="cuda"))
    for fault, said in (
        (
            subprocess.CalledProcessError(1, "python", stderr=b"Traceback\nImportError: torch is broken\n"),
            "torch is bro",
        ),
        (subprocess.TimeoutExpired("python", 300), "TimeoutExpired: "),
    ):
        answering(monkeypatch, fault=fault)
        with pytest.raises(
            StudyError, match=rf"cannot be listed \(.*{said}.*\); mend that, or write execution\.device"
        ):
            shared_devices(ExecutionConfig())
    answering(monkeypatch, b"")
    with pytest.raises(StudyError, match=r"cannot be listed \(IndexError"):
        shared_devices(ExecutionConfig())


def test_no_process_is_asked_where_no_gpu_can_be(monkeypatch: Patch) -> None:
    asked = answering(monkeypatch)
    assert shared_devices(ExecutionConfig(device="cpu")) == ()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert shared_devices(ExecutionConfig()) == ()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(gpus.shutil, "which", lambda name: None)
    monkeypatch.setattr(gpus, "Path", lambda path: Path("/nowhere"))
    assert shared_devices(ExecutionConfig()) == ()
    assert asked == []


def test_the_process_that_is_asked_tells_all_gpus_that_can_be_used(
    monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    capability = {0: (9, 0), 1: (7, 0), 2: (8, 0)}
    for name, value in {
        "is_available": lambda: True,
        "device_count": lambda: 3,
        "get_device_capability": capability.__getitem__,
        "get_device_name": str,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(device, "import_module", lambda name: None)
    monkeypatch.setattr(device, "driver", lambda: "")

    def told(**settings: Any) -> dict[str, Any]:
        asked = io.TextIOWrapper(io.BytesIO(msgspec.json.encode(ExecutionConfig(**settings))))
        monkeypatch.setattr(sys, "stdin", asked)
        device.tell_devices()
        found: dict[str, Any] = msgspec.json.decode(capsys.readouterr().out.splitlines()[-1])
        return found

    assert told() == told(device="cuda") == {"devices": ["cuda:0", "cuda:2"]}
    assert told(device="cuda:2") == {"devices": ["cuda:2"]}
    assert told(device="cuda:1")["fault"].startswith("execution.device=cuda:1 cannot be used: 1 has compute capability")
    capability[1] = (7, 5)
    assert told() == {"devices": ["cuda:0", "cuda:1", "cuda:2"]}
    assert told(precision="bf16") == {"devices": ["cuda:0", "cuda:2"]}
    assert told(precision="bf16", device="cuda:1")["fault"].startswith("execution.precision=bf16 needs compute capabil")
    assert told(backend="c") == {}


def test_a_worker_keeps_its_gpu_and_one_that_dies_gives_it_back() -> None:
    unused: Any = None
    setup: Any = SimpleNamespace(devices=("cuda:0", "cuda:1"), remote=False)
    there = Session(unused, setup, Workers(), unused, unused, unused)
    assert [there._device_of(name) for name in "abcd"] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert [there._device_of(name) for name in "dcba"] == ["cuda:1", "cuda:0", "cuda:1", "cuda:0"]
    there._left("b")
    assert there._device_of("e") == "cuda:1"


def test_a_task_is_computed_on_its_workers_gpu() -> None:
    asked = ExecutionConfig(precision="tf32")
    unused: Any = None
    setup: Any = SimpleNamespace(execution=asked)
    task = Task(run=unused, folder=Path(), setup=setup, device="cuda:1")
    assert task.execution == ExecutionConfig(precision="tf32", device="cuda:1")
    assert msgspec.structs.replace(task, device="").execution is asked


def test_a_run_takes_the_gpu_that_its_worker_announces_to_dask() -> None:
    """So that no other task that asks for one is put beside it."""
    submitted: list[Any] = []

    def submit(*_: Any, **settings: Any) -> SimpleNamespace:
        submitted.append((settings["workers"], settings["resources"]))
        return SimpleNamespace(add_done_callback=lambda call: None)

    unused: Any = None
    client: Any = SimpleNamespace(submit=submit)
    setup: Any = SimpleNamespace(devices=(), remote=True, session="s", replicates=1)
    there = Session(client, setup, Workers(), unused, unused, unused)
    runs: list[Any] = [SimpleNamespace(id=name) for name in "ab"]
    there.waiting = [Task(run=run, folder=Path(), setup=setup) for run in runs]
    for worker, gpu in (("tcp://a", True), ("tcp://b", False)):
        there.states[worker] = "preparing"
        there._prepared(worker, "", "Example", gpu)
    there._start_runs()
    assert submitted == [(["tcp://a"], {"GPU": 1}), (["tcp://b"], None)]
