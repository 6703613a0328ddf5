"""Time a cell's kernels, and torch's layers, on a GPU; dry, each call once on the CPU, by Triton's interpreter.

What ``gpu.py`` measures with.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, replace
from multiprocessing import get_context
from typing import Any

import torch
from torch import Tensor

from cello.cells.definition import Cell
from cello.cells.load import load_cell
from cello.compiler.inputs import Inputs
from cello.compiler.scan import scan
from cello.compiler.triton.build import kernels
from cello.compiler.triton.launch import Call, Tiling
from cello.compiler.triton.scan import LAYOUT, ScanFunction, prepared
from cello.compiler.triton.text import is_exact

FEATURES = 39
PRECISIONS = {"tf32": "high", "bf16": "medium"}
PROCESSES = 14
PATIENCE_SECONDS = 90.0
"""For what processes compute beside each other."""
Row = dict[str, Any]


class Where:
    """The device; without a GPU each call is made once, by the interpreter."""

    device = "cuda"
    dry = False


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


def wait() -> None:
    """Until the device is idle."""
    if not Where.dry:
        torch.cuda.synchronize()


def timed(call: Callable[[], Any], *, graph: bool = True, repeats: int = 20) -> float:
    """Microseconds of one call, the median over rounds of several."""
    if Where.dry:
        began = time.perf_counter()
        call()
        return (time.perf_counter() - began) * 1e6
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
    try:
        about = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        about = ""
    import triton

    size, wide = (1 << 10, 16) if Where.dry else (1 << 28, 8192)
    big = torch.randn(size, device=Where.device)
    other = torch.empty_like(big)
    copied = timed(lambda: other.copy_(big), repeats=5)
    a = torch.randn(wide, wide, device=Where.device, dtype=torch.bfloat16)
    multiplied = timed(lambda: a @ a, repeats=5)
    return {
        "nvidia_smi": about,
        "torch": torch.__version__,
        "triton": triton.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "copy_TB_per_s": 2 * size * 4 / copied / 1e6,
        "bf16_TFLOP_per_s": 2 * wide**3 / multiplied / 1e6,
    }


def weights_of(cell: Cell, hidden: int, features: int = FEATURES, **options: Any) -> dict[str, Tensor]:
    """Weights of a usual size, drawn on the CPU so that they are the same anywhere."""
    torch.manual_seed(0)
    return {
        name: (torch.rand(shape) * 2 - 1).mul(hidden**-0.5).to(**options)
        for name, shape in cell.parameters(features, hidden).items()
    }


def inputs_for(cell: Cell, batch: int, steps: int, hidden: int, *, ragged: bool = False, grad: bool = True) -> Inputs:
    weights = weights_of(cell, hidden, device=Where.device)
    for value in weights.values():
        value.requires_grad_(grad)
    lengths = torch.randint(steps // 2, steps + 1, (batch,)) if ragged else None
    x = torch.randn(batch, steps, FEATURES, device=Where.device)
    sizes = cell.state_sizes(FEATURES, hidden)
    state = tuple(torch.zeros(batch, *each, device=Where.device) for each in sizes)
    return Inputs(cell, x, weights, state, {}, lengths, False)


Job = tuple[str, int, int, int, str, Tiling | None, bool]
"""A cell, B, T, H, the precision, another tiling of the kernel, whether lengths differ."""


def run_job(job: Job) -> Row:
    cell, batch, steps, hidden, precision, tiling, ragged = job
    with products_in(PRECISIONS[precision]):
        return kernels_of(inputs_for(load_cell(cell), batch, steps, hidden, ragged=ragged), tiling)


def compile_job(job: Job) -> str | None:
    """Run a job's kernels once, so that its times need not wait for the compiler; what went wrong, if something did.

    Those of few clips too, which are other kernels where a program of many would not be.
    """
    cell, batch, _, hidden, precision, tiling, _ = job
    try:
        with products_in(PRECISIONS[precision]):
            for clips in dict.fromkeys((min(16, batch), batch)):
                given = inputs_for(load_cell(cell), clips, 2, hidden)
                call, *tensors = prepared(given)
                call = call if tiling is None else tiled(call, tiling)
                values = [part.detach() for part in tensors]
                ScanFunction.apply(replace(call, keep=False), *values)  # type: ignore[no-untyped-call]
                values[LAYOUT + 1].requires_grad_()
                ScanFunction.apply(call, *values)[0].sum().backward()  # type: ignore[no-untyped-call]
        wait()
    except Exception as error:
        return repr(error)[-200:]
    return None


def compile_all(jobs: list[Job]) -> None:
    """In as many processes as there are cores, each kernel once: of alike jobs that of the most clips."""
    once = list({(job[0], job[3], job[4], job[5]): job for job in sorted(jobs, key=lambda job: job[1])}.values())
    for job, fault in zip(once, in_processes(compile_job, once), strict=True):
        if fault:
            sys.stderr.write(f"does not compile: {job} {fault}\n")


def in_processes(function: Callable[[Any], Any], jobs: list[Any]) -> list[Any]:
    """What the function gives of each, in processes of their own, for compiling takes a core each.

    Of a job that gives nothing in time, or whose process ends, it is why; those that a process takes with it are begun
    once more.
    """
    if Where.dry:
        return [function(job) for job in jobs]
    until = time.monotonic() + PATIENCE_SECONDS
    found: dict[int, Any] = {}
    for _ in range(2):
        left = [number for number in range(len(jobs)) if number not in found]
        if not left:
            break
        pool = ProcessPoolExecutor(min(PROCESSES, len(left)), get_context("spawn"))
        waiting = {number: pool.submit(function, jobs[number]) for number in left}
        for number, one in waiting.items():
            try:
                found[number] = one.result(max(0.0, until - time.monotonic()))
            except BrokenProcessPool:
                continue
            except TimeoutError:
                found[number] = f"nothing after {PATIENCE_SECONDS:.0f} s"
        pool.shutdown(wait=False, cancel_futures=True)
    return [found.get(number, "its process ended") for number in range(len(jobs))]


def described(job: Job) -> Row:
    """A job in a row's words."""
    cell, batch, steps, hidden, precision, tiling, ragged = job
    row: Row = {"cell": cell, "batch": batch, "steps": steps, "hidden": hidden, "precision": precision}
    return row | ({"ragged": True} if ragged else {}) | ({} if tiling is None else asdict(tiling))


def attempted(call: Callable[[], Row]) -> Row:
    """What a call gives, or why it gives nothing: one row that fails must not hide the others."""
    try:
        return call()
    except Exception as error:
        return {"error": repr(error)[-300:]}


def right_in(job: tuple[str, int, str]) -> float | str:
    """The largest error of outputs, states and derivatives, relative to the largest value of each."""
    name, hidden, precision = job
    try:
        with products_in(precision):
            return error_of(load_cell(name), hidden, *((3, 4) if Where.dry else ()))
    except Exception as error:
        return repr(error)[-300:]


def error_of(cell: Cell, hidden: int, batch: int = 37, steps: int = 20) -> float:
    lengths = [(7 * clip) % (steps + 1) for clip in range(batch)]
    torch.manual_seed(1)
    x = torch.randn(batch, steps, FEATURES)
    firsts = [torch.randn(batch, *each) * 0.3 for each in cell.state_sizes(FEATURES, hidden)]
    results = []
    for device, dtype, backend in (("cpu", torch.float64, "plain"), (Where.device, torch.float32, "triton")):
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


def cudnn_times(batch: int, steps: int, hidden: int, precision: str, *, packed: bool) -> Row:
    """torch.nn.LSTM, padded and, if asked for, packed."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    layer = torch.nn.LSTM(FEATURES, hidden, batch_first=True).to(Where.device, dtype)
    x = torch.randn(batch, steps, FEATURES, device=Where.device, dtype=dtype)
    parameters: list[Tensor] = list(layer.parameters())
    row = forward_and_backward(lambda: layer(x)[0], parameters)
    if packed:
        lengths = torch.randint(steps // 2, steps + 1, (batch,))
        sequence = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        found = forward_and_backward(lambda: layer(sequence)[0].data, parameters)
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
            wait()
            found[name] = timed(run, graph=False, repeats=repeats)
            found[f"{name}_without_graph"] = True
    return found


def kernels_of(inputs: Inputs, tiling: Tiling | None = None) -> Row:
    call, *tensors = prepared(inputs)
    return times_of(call if tiling is None else tiled(call, tiling), tensors)


def tiled(call: Call, tiling: Tiling) -> Call:
    """The same by another tiling, of whose programs nothing is known."""
    made = kernels(call.sizes.cell, tiling.reread, interpreted=Where.dry, exact=is_exact(call.precision))
    most = call.surely if tiling.split > 1 else None
    return replace(call, kernels=made, tiling=tiling, of_backward=tiling, at_once=(most, most), by_clips=None)


def times_of(call: Call, tensors: list[Tensor]) -> Row:
    """Of what a scan prepared: forward alone, and with the derivatives of all weights."""
    first = LAYOUT + 1  # after where clips stand, and their frames
    values = [part.detach() for part in tensors]
    leaves = [part.requires_grad_() for part in values[first : first + 3]]

    def run(call: Call) -> Tensor:
        return ScanFunction.apply(call, *values)[0]  # type: ignore[no-untyped-call,no-any-return]

    return forward_and_backward(lambda: run(call), leaves, forward=lambda: run(replace(call, keep=False)))


def eager(batch: int, steps: int, hidden: int) -> Row:
    """The LSTM as a loop of torch's operations over the steps."""
    inputs = inputs_for(load_cell("lstm"), batch, steps, hidden)
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
    like = torch.randn(batch, steps, hidden, device=Where.device)

    def both() -> None:
        torch.autograd.grad(loop(), parameters, like)

    return {"both_us": timed(both, graph=False, repeats=5), "as_a_graph_both_us": timed(both, repeats=5)}
