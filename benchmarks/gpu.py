"""Measure everything that needs a GPU: right first, then times; one command, at most 8 minutes, one JSON file.

    python benchmarks/gpu.py [--minutes 8] [--sections machine,right,cudnn,scan,...] [--out FILE]

Sections, in order; one that the time left does not allow is named as left out:

- machine: device, driver, versions, and the two rates that bound everything, copying and multiplying
- right: every cell of the zoo, outputs and all derivatives, against torch's operations in float64 on the CPU
- cudnn: torch.nn.LSTM at its fastest legal setting (padded; tf32 and bfloat16), and packed
- scan: the same sizes by Cello's kernels, every other cell beside the LSTM, ragged lengths, replicates
- eager: the LSTM as a Python loop over steps

Each time is the median of replays of a CUDA graph that holds one call (or, where a call cannot be captured, of calls),
by device events, after warming up; a step is such a time divided by T.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cello.cells.definition import Cell
from cello.cells.load import load_cell, zoo
from cello.compiler.inputs import Inputs
from cello.compiler.scan import scan
from cello.compiler.triton.launch import Call, Tiling
from cello.compiler.triton.scan import LAYOUT, ScanFunction, prepared

FEATURES = 39
SIZES = [(b, t, h) for h in (64, 128, 256) for t in (49, 99) for b in (64, 256, 1024)]
PRECISIONS = {"tf32": "high", "bf16": "medium"}
Row = dict[str, Any]
SEEDS = 5
CELLS: list[str] = []
"""Only these, if any are named."""


@contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Products of float32 tensors in this precision, ours and cuBLAS's and cuDNN's."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = precision != "highest"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def timed(call: Callable[[], Any], *, graph: bool = True, repeats: int = 20) -> float:
    """Microseconds of one call, the median over rounds of several."""
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    run = captured(call) if graph else call
    found = []
    inner = 1
    while len(found) < repeats:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(inner):
            run()
        end.record()
        torch.cuda.synchronize()
        took = begin.elapsed_time(end) * 1e3
        if took < 1000 and not found and inner < 64:
            inner *= 2
            continue
        found.append(took / inner)
    return statistics.median(found)


def captured(call: Callable[[], Any]) -> Callable[[], Any]:
    """A graph of the call."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def machine() -> Row:
    """What this is, and how fast it copies and multiplies."""
    asked = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm", "--format=csv,noheader"]
    about = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    import triton

    big = torch.randn(1 << 28, device="cuda")
    other = torch.empty_like(big)
    copied = timed(lambda: other.copy_(big), repeats=5)
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    multiplied = timed(lambda: a @ a, repeats=5)
    return {
        "nvidia_smi": about,
        "torch": torch.__version__,
        "triton": triton.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "copy_TB_per_s": 2 * big.numel() * 4 / copied / 1e6,
        "bf16_TFLOP_per_s": 2 * 8192**3 / multiplied / 1e6,
    }


def weights_of(cell: Cell, hidden: int, features: int = FEATURES, **options: Any) -> dict[str, Tensor]:
    """Weights of a usual size, drawn on the CPU so that they are the same anywhere."""
    torch.manual_seed(0)
    return {
        name: (torch.rand(shape) * 2 - 1).mul(hidden**-0.5).to(**options)
        for name, shape in cell.parameters(features, hidden).items()
    }


def inputs_for(cell: Cell, batch: int, steps: int, hidden: int, *, ragged: bool = False, grad: bool = True) -> Inputs:
    weights = weights_of(cell, hidden, device="cuda")
    for value in weights.values():
        value.requires_grad_(grad)
    lengths = torch.randint(steps // 2, steps + 1, (batch,)) if ragged else None
    x = torch.randn(batch, steps, FEATURES, device="cuda")
    state = tuple(torch.zeros(batch, hidden, device="cuda") for _ in cell.states)
    return Inputs(cell, x, weights, state, {}, lengths, False)


Job = tuple[str, int, int, int, str, Tiling | None, bool]
"""A cell, B, T, H, the precision, another tiling of the kernel, whether lengths differ."""


def run_job(job: Job) -> Row:
    cell, batch, steps, hidden, precision, tiling, ragged = job
    with products_in(PRECISIONS[precision]):
        return kernels_of(inputs_for(load_cell(cell), batch, steps, hidden, ragged=ragged), tiling)


def compile_job(job: Job) -> str | None:
    """Run a job's kernels once, so that its times need not wait for the compiler; what went wrong, if something did."""
    cell, _, _, hidden, precision, tiling, _ = job
    try:
        with products_in(PRECISIONS[precision]):
            given = inputs_for(load_cell(cell), 16, 2, hidden)
            call, *tensors = prepared(given)
            call = call if tiling is None else replace(call, tiling=tiling)
            values = [part.detach() for part in tensors]
            ScanFunction.apply(replace(call, keep=False), *values)  # type: ignore[no-untyped-call]
            values[LAYOUT + 1].requires_grad_()
            ScanFunction.apply(call, *values)[0].sum().backward()  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
    except Exception as error:
        return repr(error)[-200:]
    return None


def compile_all(jobs: list[Job]) -> None:
    """In as many processes as there are cores, each kernel once."""
    once = list({(job[0], job[3], job[4], job[5]): job for job in jobs}.values())
    with multiprocessing.get_context("spawn").Pool(min(14, len(once))) as pool:
        for job, fault in zip(once, pool.map(compile_job, once, chunksize=1), strict=True):
            if fault:
                sys.stderr.write(f"does not compile: {job} {fault}\n")


def timed_jobs(jobs: list[Job]) -> list[Row]:
    compile_all(jobs)
    rows = []
    for job in jobs:
        cell, batch, steps, hidden, precision, tiling, ragged = job
        row: Row = {"cell": cell, "batch": batch, "steps": steps, "hidden": hidden, "precision": precision}
        row |= {"ragged": ragged} if ragged else {}
        row |= {} if tiling is None else asdict(tiling)
        try:
            row |= run_job(job)
        except Exception as error:
            row["error"] = repr(error)[-200:]
        rows.append(row)
    return rows


def right_in(job: tuple[str, int, str]) -> float | str:
    name, hidden, precision = job
    try:
        with products_in(precision):
            return error_of(load_cell(name), hidden)
    except Exception as error:  # one cell that fails must not hide the others
        return repr(error)[-300:]


def right() -> Row:
    """The largest error of outputs, states and derivatives, relative to the largest value of each, cell by cell."""
    jobs = [(n, h, p) for n in CELLS or zoo() for h, p in ((33, "highest"), (64, "high"), (256, "medium"))]
    with multiprocessing.get_context("spawn").Pool(14) as pool:
        found = pool.map(right_in, jobs, chunksize=1)
    return {" ".join(map(str, job)): value for job, value in zip(jobs, found, strict=True)}


def error_of(cell: Cell, hidden: int, batch: int = 37, steps: int = 20) -> float:
    lengths = [0, 20, *range(1, 20), *range(1, 17)]
    torch.manual_seed(1)
    x = torch.randn(batch, steps, FEATURES)
    firsts = [torch.randn(batch, hidden) * 0.3 for _ in cell.states]
    results = []
    for device, dtype, backend in (("cpu", torch.float64, "plain"), ("cuda", torch.float32, "triton")):
        weights = weights_of(cell, hidden, device=device, dtype=dtype)
        leaves = [x.to(device, dtype), *weights.values(), *(part.to(device, dtype) for part in firsts)]
        for leaf in leaves:
            leaf.requires_grad_()
        of_state = leaves[1 + len(weights) :]
        found = scan(cell, leaves[0], weights, state=of_state, lengths=lengths, reverse=True, backend=backend)
        loss = sum((part * part.cos()).sum() for part in (found.outputs, *found.state))
        grads = torch.autograd.grad(loss, leaves, allow_unused=True)  # type: ignore[arg-type]
        results.append(
            [part.detach().cpu().double() for part in (found.outputs, *found.state, *grads) if part is not None]
        )
    return max(float((b - a).abs().max() / a.abs().max().clamp_min(1e-3)) for a, b in zip(*results, strict=True))


def cudnn() -> list[Row]:
    """torch.nn.LSTM: padded, and at 99 frames packed."""
    rows = []
    for batch, steps, hidden in SIZES:
        for precision, setting in PRECISIONS.items():
            with products_in(setting):
                row: Row = {"batch": batch, "steps": steps, "hidden": hidden, "precision": precision}
                rows.append(row | cudnn_times(batch, steps, hidden, precision))
    return rows


def cudnn_times(batch: int, steps: int, hidden: int, precision: str) -> Row:
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    layer = torch.nn.LSTM(FEATURES, hidden, batch_first=True).to("cuda", dtype)
    x = torch.randn(batch, steps, FEATURES, device="cuda", dtype=dtype)
    parameters: list[Tensor] = list(layer.parameters())
    row = forward_and_backward(lambda: layer(x)[0], parameters)
    if steps == 99:
        lengths = torch.randint(steps // 2, steps + 1, (batch,))
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        found = forward_and_backward(lambda: layer(packed)[0].data, parameters)
        row |= {f"packed_{name}": value for name, value in found.items()}
    return row


def forward_and_backward(
    call: Callable[[], Tensor],
    parameters: list[Tensor],
    repeats: int = 10,
    forward: Callable[[], Tensor] | None = None,
) -> Row:
    """Both times; as graphs where they can be captured."""

    def without() -> None:
        with torch.no_grad():
            (forward or call)()

    like = torch.randn_like(call())

    def both() -> None:
        torch.autograd.grad(call(), parameters, like)

    found: Row = {}
    for name, run in (("forward_us", without), ("both_us", both)):
        try:
            found[name] = timed(run, repeats=repeats)
        except Exception:
            torch.cuda.synchronize()
            found[name] = timed(run, graph=False, repeats=repeats)
            found[f"{name}_without_graph"] = True
    return found


def kernels_of(inputs: Inputs, tiling: Tiling | None = None) -> Row:
    call, *tensors = prepared(inputs)
    return times_of(call if tiling is None else replace(call, tiling=tiling), tensors)


def times_of(call: Call, tensors: list[Tensor]) -> Row:
    """Of what a scan prepared: forward alone, and with the derivatives of all weights."""
    first = LAYOUT + 1  # after where clips stand, and their frames
    values = [part.detach() for part in tensors]
    leaves = [part.requires_grad_() for part in values[first : first + 3]]

    def run(call: Call) -> Tensor:
        return ScanFunction.apply(call, *values)[0]  # type: ignore[no-untyped-call,no-any-return]

    return forward_and_backward(lambda: run(call), leaves, forward=lambda: run(replace(call, keep=False)))


def ours() -> list[Row]:
    """The LSTM at every size, whole and ragged."""
    jobs = [
        ("lstm", b, t, h, p, None, r)
        for b, t, h in SIZES
        for p in PRECISIONS
        for r in (False, True)
        if t == 99 or not r
    ]
    return timed_jobs(jobs)


def tilings() -> list[Row]:
    """The LSTM under other tilings of the kernel."""
    cut = [(64, 16, 4, 2, 3), (64, 16, 8, 1, 4), (128, 16, 16, 1, 2), (128, 16, 4, 4, 3)]
    cut += [(256, 16, 8, 4, 3), (256, 16, 8, 8, 3), (256, 32, 8, 8, 3), (256, 64, 8, 8, 2)]
    jobs = [
        ("lstm", b, 49, h, p, Tiling(r, h, w, d, s), False)
        for h, r, w, d, s in cut
        for p in PRECISIONS
        for b in (64, 1024)
    ]
    return timed_jobs(jobs)


def cells() -> list[Row]:
    """Every cell of the zoo, in bfloat16."""
    return timed_jobs([(name, 256, 49, h, "bf16", None, False) for name in CELLS or zoo() for h in (64, 128)])


def replicates() -> Row:
    """One LSTM of 64 units at a batch of 64, and 16 of them in one launch."""
    row: Row = {}
    with products_in("high"):
        call, *tensors = prepared(inputs_for(load_cell("lstm"), 64, 49, 64))
        for count in (1, 16):
            many = [part.detach().repeat(count, *[1] * (part.dim() - 1)) for part in tensors]
            row |= {f"{count}_{name}": value for name, value in times_of(call, many).items()}
    return row


def epochs() -> Row:
    """A whole epoch of 84,843 made clips, and the gates study on 7,080."""
    sys.path.insert(0, str(Path(__file__).parent))
    import gpu_epoch

    fast = gpu_epoch.ExecutionConfig(device="cuda", precision="tf32")
    return {"epoch": gpu_epoch.epoch(execution=fast), "gates": gpu_epoch.gates(seeds=SEEDS, execution=fast)}


def eager() -> Row:
    """The LSTM as a loop of torch's operations over the steps, 64 x 49 x 39 x 64."""
    inputs = inputs_for(load_cell("lstm"), 64, 49, 64)
    given = inputs.weights

    def loop() -> Tensor:
        h, c = inputs.state
        out = []
        for frame in inputs.frames.unbind(1):
            i, f, g, o = (frame @ given[f"W.{n}"].t() + h @ given[f"U.{n}"].t() + given[f"b.{n}"] for n in "ifgo")
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            out.append(h)
        return torch.stack(out, 1)

    parameters = list(given.values())
    like = torch.randn(64, 49, 64, device="cuda")

    def both() -> None:
        torch.autograd.grad(loop(), parameters, like)

    return {"both_us": timed(both, graph=False, repeats=5), "as_a_graph_both_us": timed(both, repeats=5)}


SECTIONS: dict[str, Callable[[], Any]] = {
    "machine": machine,
    "right": right,
    "cudnn": cudnn,
    "scan": ours,
    "cells": cells,
    "replicates": replicates,
    "eager": eager,
    "epochs": epochs,
    "tilings": tilings,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--sections", default=",".join(SECTIONS))
    parser.add_argument("--cells", default="")
    parser.add_argument("--seeds", type=int, default=5, help="of the gates study")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    CELLS.extend(filter(None, options.cells.split(",")))
    global SEEDS  # noqa: PLW0603 - a section takes no arguments
    SEEDS = options.seeds
    if not torch.cuda.is_available():
        sys.exit("benchmarks/gpu.py needs a GPU: torch.cuda.is_available() is false here. Run it where there is one.")
    name = torch.cuda.get_device_name().split(" ", 1)[-1].replace(" ", "-").lower()
    out = options.out or Path(f"benchmarks/results/gpu-{name}-{date.today()}.json")
    begin, found = time.monotonic(), dict[str, Any]()
    for section in options.sections.split(","):
        if time.monotonic() - begin > options.minutes * 60:
            found[section] = "left out: no time"
            continue
        started = time.monotonic()
        try:
            found[section] = SECTIONS[section]()
        except Exception:
            found[section] = traceback.format_exc()[-2000:]
        sys.stderr.write(f"{section}: {time.monotonic() - started:.1f} s\n")
        out.write_text(json.dumps({"date": str(date.today()), **found}, indent=1))
    sys.stdout.write(f"{out}\n")


if __name__ == "__main__":
    main()
