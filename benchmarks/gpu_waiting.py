"""Check on a GPU that programs wait for each other: as clusters, or launched cooperatively; in CUDA graphs, on streams.

What could hang is in a process of its own, one for each way to wait, which is ended after a while.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import torch
from gpu_kernels import LAYOUT, Row, Where, captured, inputs_for, products_in, timed
from torch import Tensor

from cello.cells.load import load_cell
from cello.compiler.triton.cooperative import VARIABLE
from cello.compiler.triton.launch import Call
from cello.compiler.triton.scan import ScanFunction, prepared

SIZES = [(64, 256, "high"), (1024, 256, "medium")]
"""Batches, units and the precision of products: programs share units in both, and are more than run at once in the
second."""
OF_CLUSTERS = [(64, 128, "high"), *SIZES]
STREAMS = 8
PATIENCE_SECONDS = {"in memory": 75.0, "clusters": 60.0}
"""For each way to wait."""
END = "end"

Results = list[Tensor]


def rows() -> Iterator[Row]:
    """Each with whether what was computed has the same bits as in launches one after the other."""
    for batch, hidden, precision in [(2, 5, "highest")] if Where.dry else SIZES:
        about: Row = {"batch": batch, "hidden": hidden, "precision": precision}
        with products_in(precision):
            call, tensors = _prepared(batch, hidden)
            call = _in_memory(call)
            first = _computed(call, tensors)
            divided = call.of_clips("forward")
            about |= {"programs share": divided.tiling.split, "clips": divided.tiling.rows}
            about |= {"launches": len(divided.parts)}
            with _plainly():
                plainly = _computed(replace(call, at_once=(None, None)), tensors)
            yield {**about, "way": "launched", "apart": _apart(first, plainly)}
            if Where.dry:
                continue
            yield {**about, "way": "in a graph", "apart": _apart(first, _in_graph(call, tensors))}
            yield {**about, "way": "times", **_times(call, tensors)}
    if Where.dry:
        return
    with products_in("medium"):
        each = [_prepared(1024, 256, seed) for seed in range(STREAMS)]
        yield from _beside_each_other([(_in_memory(call), tensors) for call, tensors in each])


def rows_of_clusters() -> Iterator[Row]:
    """The same of programs that are clusters: whether they compute the same bits as those that wait in memory.

    Each by the tiling of few clips: by that of many, which may be no cluster, sums are added in another order.
    """
    for batch, hidden, precision in [(2, 5, "highest")] if Where.dry else OF_CLUSTERS:
        about: Row = {"batch": batch, "hidden": hidden, "precision": precision}
        with products_in(precision):
            call, tensors = _prepared(batch, hidden)
            call = replace(call, by_clips=None)
            both = call.tiling, call.backward().tiling
            about |= {"programs share": [each.split for each in both], "clusters": [each.cluster for each in both]}
            first = _computed(call, tensors)
            yield {**about, "way": "as clusters", "apart": _apart(first, _computed(_in_memory(call), tensors))}
            if Where.dry:
                continue
            yield {**about, "way": "as clusters in a graph", "apart": _apart(first, _in_graph(call, tensors))}
            yield {
                **about,
                "way": "times",
                "us": _time(call, tensors),
                "in_memory_us": _time(_in_memory(call), tensors),
            }
    if Where.dry:
        return
    with products_in("medium"):
        each = [_prepared(1024, 256, seed) for seed in range(STREAMS)]
        yield from _beside_each_other([(replace(call, by_clips=None), tensors) for call, tensors in each])


def _beside_each_other(each: list[tuple[Call, list[Tensor]]]) -> Iterator[Row]:
    """Whether what several streams compute at the same time is what they do one after the other."""
    expected = [_computed(*one) for one in each]
    yield {"way": f"on {STREAMS} streams", "apart": _worst(expected, _on_streams(each))}
    kept: list[Results] = []

    def branches() -> None:
        kept[:] = _on_streams(each)

    replay = captured(branches)
    for _ in range(3):
        replay()
    torch.cuda.synchronize()
    yield {"way": f"in {STREAMS} branches of a graph", "apart": _worst(expected, kept)}


def _in_memory(call: Call) -> Call:
    """The same by programs that wait for each other in the GPU's memory."""
    both = (replace(each, cluster=False) for each in (call.tiling, call.backward().tiling))
    most = [call.surely if each.split > 1 else None for each in (call.tiling, call.backward().tiling)]
    return replace(call, **dict(zip(("tiling", "of_backward"), both, strict=True)), at_once=(most[0], most[1]))


def _prepared(batch: int, hidden: int, seed: int = 0) -> tuple[Call, list[Tensor]]:
    torch.manual_seed(seed)
    call, *tensors = prepared(inputs_for(load_cell("lstm"), batch, 3 if Where.dry else 49, hidden))
    values = [part.detach() for part in tensors]
    for part in values[LAYOUT + 1 : LAYOUT + 4]:
        part.requires_grad_()
    return call, values


def _computed(call: Call, tensors: list[Tensor]) -> Results:
    """Outputs, last states and the derivatives of the weights."""
    outputs, last, _ = ScanFunction.apply(call, *tensors)  # type: ignore[no-untyped-call]
    leaves = tensors[LAYOUT + 1 : LAYOUT + 4]
    return [outputs.detach(), last.detach(), *torch.autograd.grad(outputs.sum(), leaves)]


@contextmanager
def _plainly() -> Iterator[None]:
    """Launches are plain within."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = "0"
    try:
        yield
    finally:
        os.environ.pop(VARIABLE)
        os.environ.update({} if before is None else {VARIABLE: before})


def _in_graph(call: Call, tensors: list[Tensor]) -> Results:
    kept: Results = []

    def compute() -> None:
        kept[:] = _computed(call, tensors)

    replay = captured(compute)
    for _ in range(3):
        replay()
    torch.cuda.synchronize()
    return kept


def _time(call: Call, tensors: list[Tensor]) -> float:
    """Microseconds of both passes."""
    return timed(lambda: _computed(call, tensors), repeats=5)


def _times(call: Call, tensors: list[Tensor]) -> Row:
    """Of both launches, of which the plain one is all programs at once."""
    found = {"us": _time(call, tensors)}
    with _plainly():
        return found | {"plainly_us": _time(replace(call, at_once=(None, None)), tensors)}


def _on_streams(each: list[tuple[Call, list[Tensor]]]) -> list[Results]:
    """All at the same time, as far as the GPU has room."""
    main = torch.cuda.current_stream()
    streams = [torch.cuda.Stream() for _ in each]
    found = []
    for stream, one in zip(streams, each, strict=True):
        stream.wait_stream(main)
        with torch.cuda.stream(stream):
            found.append(_computed(*one))
    for stream in streams:
        main.wait_stream(stream)
    return found


def _apart(one: Results, other: Results) -> float:
    """The largest difference of values, as a share of the largest value of each tensor; 0: the same bits."""
    pairs = zip(one, other, strict=True)
    return max(float((a - b).abs().max() / a.abs().max().clamp_min(1e-9)) for a, b in pairs)


def _worst(some: list[Results], others: list[Results]) -> float:
    return max(_apart(one, other) for one, other in zip(some, others, strict=True))


ROWS = {"in memory": rows, "clusters": rows_of_clusters}


def in_a_process(way: str) -> Iterator[Row]:
    """``ROWS`` of a process of its own; a last row says why it ended, if it was not by itself."""
    if Where.dry:
        yield from ROWS[way]()
        return
    child = subprocess.Popen([sys.executable, str(Path(__file__)), way], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    lines: queue.Queue[str] = queue.Queue()

    def read(out: Iterator[str]) -> None:
        for line in out:
            lines.put(line)
        lines.put("")

    reader = threading.Thread(target=read, args=(child.stdout,), daemon=True)
    reader.start()
    until = time.monotonic() + PATIENCE_SECONDS[way]
    last = ""
    try:
        while (last := lines.get(timeout=max(0.1, until - time.monotonic()))).strip() not in ("", END):
            yield json.loads(last)
    except queue.Empty:
        patience = f"{PATIENCE_SECONDS[way]:.0f}"
        yield {"failed": f"no answer after {patience} s: programs wait for ever, or the machine is slow"}
    else:
        if last.strip() != END:
            yield {"failed": f"it ended with {child.wait()}"}
    finally:
        child.kill()
        with suppress(subprocess.TimeoutExpired):  # a GPU may keep it for a while
            child.wait(10)
            reader.join()
            child.stdout.close()


def main() -> None:
    try:
        for row in ROWS[sys.argv[1]]():
            sys.stdout.write(json.dumps(row) + "\n")
            sys.stdout.flush()
    except Exception as error:
        sys.stdout.write(json.dumps({"failed": repr(error)[-500:]}) + "\n")
    sys.stdout.write(END + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
