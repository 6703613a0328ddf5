"""Launch a training step on a GPU at once: each kind of step is captured in a CUDA graph and replayed."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import torch

from cello.training.device import out_of_memory

Kind = TypeVar("Kind", bound=Hashable)

WARM_UP = 2
"""Steps of a kind that run before it is captured: they compile kernels and choose algorithms, a capture cannot."""
MOST_GRAPHS = 16
"""Kinds that are captured; a graph keeps its memory, and further kinds run as they are."""


class StepGraphs(Generic[Kind]):
    """Called with a step and its kind, calls ``step(kind)``; on a GPU by replaying a graph once a kind has been seen.

    A step reads and writes tensors at fixed addresses alone, and reads none of them back on the CPU; one that does is
    never captured, and a warning says so. Every call is one step, whichever way it goes.
    """

    def __init__(self, device: torch.device, *, capture: bool) -> None:
        self._capture = capture and device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if self._capture else None  # type: ignore[no-untyped-call]
        self._seen: Counter[Kind] = Counter()
        self.graphs: dict[Kind, torch.cuda.CUDAGraph] = {}

    def __call__(self, step: Callable[[Kind], None], kind: Kind) -> None:
        """One step."""
        graph = self.graphs.get(kind)
        if graph is not None:
            graph.replay()
            return
        self._seen[kind] += 1
        if not self._capture or len(self.graphs) >= MOST_GRAPHS:
            step(kind)
        elif self._seen[kind] <= WARM_UP:
            self._aside(step, kind, last=self._seen[kind] == WARM_UP)
        else:
            self._captured(step, kind)

    def _aside(self, step: Callable[[Kind], None], kind: Kind, *, last: bool) -> None:
        """A step beside the stream of everything else, as what is to be captured must have run before."""
        assert self._stream is not None
        before = torch.cuda.current_stream()
        self._stream.wait_stream(before)
        with torch.cuda.stream(self._stream):
            if not last or self._reads_back(step, kind):
                step(kind)
        before.wait_stream(self._stream)

    def _reads_back(self, step: Callable[[Kind], None], kind: Kind) -> bool:
        """Make a step; whether that failed because it waits for the GPU, before it has changed anything."""
        try:
            with _no_synchronisation():
                step(kind)
        except RuntimeError as error:
            if "synchronizing" not in str(error):
                raise
            self._refuse(error)
            return True
        return False

    def _captured(self, step: Callable[[Kind], None], kind: Kind) -> None:
        graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            # by itself torch captures on a stream of the GPU on which a process captured first
            with torch.cuda.graph(graph, stream=self._stream):
                step(kind)
        except RuntimeError as error:
            torch.cuda.set_stream(before)  # which a failed capture may leave on its own
            for each in (error, error.__context__):  # the end of a failed capture fails too
                if isinstance(each, RuntimeError) and out_of_memory(each):
                    raise each from None
            self._refuse(error)
            step(kind)
            return
        self.graphs[kind] = graph
        graph.replay()

    def _refuse(self, error: BaseException) -> None:
        self._capture = False
        error = error.__context__ or error  # the end of a failed capture fails too, and says less
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        warnings.warn(
            f"the training step cannot be captured in a CUDA graph ({reason}), so its kernels are launched one by one: "
            "the same numbers, but slower",
            stacklevel=2,
        )


@contextmanager
def _no_synchronisation() -> Iterator[None]:
    """Raise a RuntimeError where torch would wait for the GPU within."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that it does not find all of them yet
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
