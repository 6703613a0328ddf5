"""What hurts: a step that a graph makes twice or not at all, and one that is launched slowly without a word."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch

from cello.training import graphs
from cello.training.graphs import StepGraphs

Patch = pytest.MonkeyPatch
GPU = torch.device("cuda:0")


class Stream:
    def __init__(self, device: object = None) -> None:
        self.device = device

    def wait_stream(self, other: Stream) -> None: ...


class Cuda:
    """Stands for CUDA: what is called within a capture happens when the graph is replayed, not then."""

    def __init__(self, patch: Patch) -> None:
        self.done: list[str] = []
        self.capturing: list[str] | None = None
        self.captured_on: object = None
        self.fault: Exception | None = None
        self.end_fault: Exception | None = None
        outer = self

        class Graph:
            def __init__(self) -> None:
                self.holds: list[str] = []

            def replay(self) -> None:
                outer.done.extend(self.holds)

        @contextmanager
        def capture(graph: Graph, stream: Stream) -> Iterator[None]:
            outer.capturing, outer.captured_on = graph.holds, stream.device
            try:
                if outer.fault is not None:
                    raise outer.fault
                yield
            finally:
                outer.capturing = None
                if outer.end_fault is not None:
                    raise outer.end_fault

        for name, value in {
            "Stream": Stream, "stream": nullcontext, "current_stream": Stream, "set_stream": lambda stream: None,
            "CUDAGraph": Graph, "graph": capture, "get_sync_debug_mode": lambda: 0,
            "set_sync_debug_mode": lambda mode: None,
        }.items():  # fmt: skip
            patch.setattr(torch.cuda, name, value)

    def step(self, kind: str) -> None:
        (self.done if self.capturing is None else self.capturing).append(kind)


def test_every_call_is_one_step_and_kinds_are_captured_once_they_have_run(monkeypatch: Patch) -> None:
    cuda = Cuda(monkeypatch)
    steps: StepGraphs[str] = StepGraphs(GPU, capture=True)
    asked = ["a", "a", "b", "a", "a", "b", "b", "a", "c"]
    for kind in asked:
        steps(cuda.step, kind)
    assert cuda.done == asked
    assert list(steps.graphs) == ["a", "b"]


def test_further_kinds_run_as_they_are(monkeypatch: Patch) -> None:
    monkeypatch.setattr(graphs, "MOST_GRAPHS", 1)
    cuda = Cuda(monkeypatch)
    steps: StepGraphs[str] = StepGraphs(GPU, capture=True)
    asked = [*"aaaa", *"bbbb"]
    for kind in asked:
        steps(cuda.step, kind)
    assert (cuda.done, list(steps.graphs)) == (asked, ["a"])


def test_without_a_gpu_or_where_it_is_not_wanted_nothing_is_captured(monkeypatch: Patch) -> None:
    cuda = Cuda(monkeypatch)
    for device, capture in ((torch.device("cpu"), True), (GPU, False)):
        steps: StepGraphs[str] = StepGraphs(device, capture=capture)
        for _ in range(4):
            steps(cuda.step, "a")
        assert not steps.graphs
    assert cuda.done == ["a"] * 8


def test_a_step_that_waits_for_the_gpu_runs_as_it_is_and_a_warning_says_so(monkeypatch: Patch) -> None:
    cuda = Cuda(monkeypatch)
    modes: list[Any] = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def step(kind: str) -> None:
        if modes and modes[-1] == "error":
            raise RuntimeError("called a synchronizing CUDA operation")
        cuda.step(kind)

    steps: StepGraphs[str] = StepGraphs(GPU, capture=True)
    steps(step, "a")
    with pytest.warns(
        UserWarning, match=r"cannot be captured in a CUDA graph \(called a synchronizing CUDA operation\)"
    ):
        steps(step, "a")
    steps(step, "a")
    steps(step, "a")
    assert (cuda.done, modes, len(steps.graphs)) == (["a"] * 4, ["error", 0], 0)


def test_a_capture_that_fails_is_told_and_the_step_made_all_the_same(monkeypatch: Patch) -> None:
    cuda = Cuda(monkeypatch)
    steps: StepGraphs[str] = StepGraphs(GPU, capture=True)
    cuda.fault = RuntimeError("capture failed due to a previous error")
    cuda.fault.__context__ = RuntimeError("operation not permitted when stream is capturing.\nmore")
    steps(cuda.step, "a")
    steps(cuda.step, "a")
    with pytest.warns(
        UserWarning, match=r"\(operation not permitted when stream is capturing\), so its kernels are lau"
    ):
        steps(cuda.step, "a")
    steps(cuda.step, "a")
    assert (cuda.done, len(steps.graphs)) == (["a"] * 4, 0)


def test_a_gpu_that_is_full_is_no_reason_to_go_on_slowly(monkeypatch: Patch) -> None:
    cuda = Cuda(monkeypatch)
    steps: StepGraphs[str] = StepGraphs(GPU, capture=True)
    cuda.fault = torch.OutOfMemoryError("CUDA out of memory")
    steps(cuda.step, "a")
    steps(cuda.step, "a")
    with pytest.raises(torch.OutOfMemoryError):
        steps(cuda.step, "a")
    cuda.end_fault = RuntimeError("capture failed due to a previous error")
    with pytest.raises(torch.OutOfMemoryError):  # which that hides
        steps(cuda.step, "a")
    assert cuda.done == ["a", "a"]


def test_a_step_is_captured_on_the_gpu_that_it_runs_on(monkeypatch: Patch) -> None:
    """Torch's own stream for captures is of the GPU that was first; another one's graph would be empty."""
    cuda = Cuda(monkeypatch)
    for device in (GPU, torch.device("cuda:1")):
        steps: StepGraphs[str] = StepGraphs(device, capture=True)
        for _ in range(3):
            steps(cuda.step, "a")
        assert cuda.captured_on == device
