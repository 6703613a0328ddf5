"""Time back ends and torch's layers in turn within one process, so that drift affects all alike."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from math import prod
from statistics import median

import torch
from torch import Tensor

from cello.bench.compiling import compiling
from cello.bench.flops import flops
from cello.bench.peers import peer
from cello.bench.record import FORMAT, Record, Row, summarise
from cello.bench.settings import BenchConfig, Size
from cello.cells.definition import Cell
from cello.cells.load import load_cell, zoo
from cello.cells.sizes import size as elements
from cello.compiler.backends import names as backend_names
from cello.compiler.scan import scan
from cello.errors import BackendError, ConfigError
from cello.machine import hardware, memory, versions

WARM_UP = 2
GEMM, GEMM_ROUNDS = 1024, 5
Step = Callable[[], Tensor]
"""One forward and backward pass; returns the outputs (B, T, H)."""
Times = dict[str, list[float]]
"""Milliseconds of every round of every side."""


@dataclass(frozen=True)
class Case:
    """A cell, by the name the user gave it, and what it is measured with."""

    name: str
    cell: Cell
    size: Size
    threads: int
    x_gradient: bool


def _nothing(*_: object) -> None:
    """The callback that ignores everything."""


def run(
    settings: BenchConfig,
    about: dict[str, str],
    *,
    on_start: Callable[[str, int], None] = _nothing,
    on_round: Callable[[], None] = _nothing,
    on_row: Callable[[Record], None] = _nothing,
) -> Record:
    """Measure everything that the settings name; ``about`` is what :func:`machine` says.

    ``on_start`` is called before each part, with its name and the number of rounds of all parts; ``on_round`` after
    every round, warm-up included; ``on_row`` after every row, with the record so far.

    Raises:
        CellError: a cell that does not exist, before anything is measured.
        ConfigError: a size that needs more memory than this machine has, before anything is measured.
        BackendError: a cell that cannot be compiled.
    """
    found = cases(settings)
    total = len(found) * (settings.rounds + WARM_UP)
    dtype = getattr(torch, settings.dtype)
    usable, unavailable = backends(dtype)
    compiled = [name for name in usable if name != "plain"]
    record = Record(
        format=FORMAT,
        machine=about,
        settings=settings,
        reference=compiled[0] if compiled else "plain",
        unavailable=unavailable,
        without_peer=tuple(dict.fromkeys(case.name for case in found if peer(case.cell) is None)),
    )
    for case in found:
        on_start(f"{case.name} {case.size}", total)
        row = measure(case, usable, record, on_round)
        record = replace(record, rows=(*record.rows, row))
        on_row(record)
    for backend in compiled:
        on_start(f"compiling for {backend}", total)
        record = replace(record, compiling=(*record.compiling, *compiling(settings.cells, backend, settings.dtype)))
        on_row(record)
    return record


def cases(settings: BenchConfig) -> list[Case]:
    """Every combination once, cells loaded.

    Raises:
        ConfigError: one that needs more memory than this machine has.
    """
    cells = {name: load_cell(name) for name in settings.cells}
    for name, cell in cells.items():
        for size in settings.sizes:
            _check_memory(name, cell, size, 8 if settings.dtype == "float64" else 4)
    return [
        Case(name, cell, size, threads, x_gradient)
        for threads in dict.fromkeys(settings.threads)
        for x_gradient in dict.fromkeys(settings.x_gradients)
        for name, cell in cells.items()
        for size in dict.fromkeys(settings.sizes)
    ]


def matrices_kept(cell: Cell, size: Size) -> int:
    """Elements of the matrices that plain evaluation keeps for its backward pass: nearly all of them, at every step."""
    shapes = [node.shape for node in cell.graph.nodes if len(node.shape) == 2 and node.op != "parameter"]
    return size.batch * size.frames * sum(prod(elements(each, size.inputs, size.hidden) for each in s) for s in shapes)


def _check_memory(name: str, cell: Cell, size: Size, item_bytes: int) -> None:
    needed, there = matrices_kept(cell, size) * item_bytes, memory()
    if there is not None and needed > there:
        raise ConfigError(
            f"cell {name!r} at size {size} keeps matrices of {needed / 1e9:,.0f} GB in plain evaluation, more than the "
            f"{there / 1e9:,.0f} GB of this machine; give a smaller size"
        )


def backends(dtype: torch.dtype) -> tuple[tuple[str, ...], dict[str, str]]:
    """The back ends that run here, and why the others do not."""
    cell = zoo()["rnn"]
    weights = {name: torch.zeros(shape, dtype=dtype) for name, shape in cell.parameters(1, 1).items()}
    usable, unavailable = [], {}
    for name in reversed(backend_names()):
        if name == "auto":
            continue
        try:
            scan(cell, torch.zeros(1, 1, 1, dtype=dtype), weights, backend=name)
            usable.append(name)
        except BackendError as error:
            unavailable[name] = str(error)
    return tuple(usable), unavailable


def machine(*, keeps_memory: bool) -> dict[str, str]:
    """What the figures depend on; ``load`` is how many processes wanted to run just before.

    ``keeps_memory``: the process keeps freed memory, as one that trains does (:mod:`cello.compiler.memory`).
    """
    about = {name: value for name, value in hardware().items() if name != "threads"}
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    allocator = "keeps freed memory" if keeps_memory else "as it comes"
    return about | versions() | {"date": now, "load": f"{os.getloadavg()[0]:.1f}", "allocator": allocator}


def measure(case: Case, usable: tuple[str, ...], record: Record, on_round: Callable[[], None] = _nothing) -> Row:
    """One row of the record."""
    dtype = getattr(torch, record.settings.dtype)
    with torch_threads(case.threads):
        steps = sides(case, usable, dtype)
        errors = _errors(steps)
        gemm = gemm_gflops(dtype)
        times = alternate(steps, record.settings.rounds, on_round)
    operations = flops(case.cell, case.size, x_gradient=case.x_gradient)
    return Row(
        cell=case.name,
        size=case.size,
        threads=case.threads,
        x_gradient=case.x_gradient,
        flops=operations,
        gemm_gflops=gemm,
        sides=summarise(times, errors, record.reference, (operations, gemm)),
    )


def sides(case: Case, usable: tuple[str, ...], dtype: torch.dtype) -> dict[str, Step]:
    """One step of every side, with the same frames, weights and gradient of the outputs."""
    size, draw = case.size, torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=dtype)

    shapes = case.cell.parameters(size.inputs, size.hidden).items()
    weights = {name: (normal(*shape) / size.hidden**0.5).requires_grad_() for name, shape in shapes}
    x = normal(size.batch, size.frames, size.inputs).requires_grad_(case.x_gradient)
    upstream = normal(size.batch, size.frames, case.cell.output_size(size.inputs, size.hidden))

    def step(forward: Callable[[], Tensor], parameters: list[Tensor]) -> Step:
        leaves = [x, *parameters] if case.x_gradient else parameters

        def both() -> Tensor:
            outputs = forward()
            torch.autograd.grad(outputs, leaves, upstream, allow_unused=True)
            return outputs

        return both

    def through(backend: str) -> Callable[[], Tensor]:
        return lambda: scan(case.cell, x, weights, backend=backend).outputs

    found = {backend: step(through(backend), [*weights.values()]) for backend in usable}
    if own := peer(case.cell):
        layer = own.loaded(weights)
        found[own.name] = step(lambda: layer(x)[0], [*layer.parameters()])
    return found


def alternate(
    steps: Mapping[str, Callable[[], object]],
    rounds: int,
    on_round: Callable[[], None] = _nothing,
    clock: Callable[[], float] = time.perf_counter,
) -> Times:
    """Milliseconds of every side in every round after those that warm up, by ``clock``, which gives seconds.

    The order changes from round to round, as a side finds in the processor's caches what the one before it left.
    """
    times: Times = {name: [] for name in steps}
    draw, order = random.Random(0), [*steps]
    for number in range(WARM_UP + rounds):
        draw.shuffle(order)
        for name in order:
            began = clock()
            steps[name]()
            if number >= WARM_UP:
                times[name].append(1000 * (clock() - began))
        on_round()
    return times


def gemm_gflops(dtype: torch.dtype) -> float:
    """What torch.mm reaches on square matrices of 1024: the median of some products after one to warm up."""
    a, b = torch.randn(GEMM, GEMM, dtype=dtype), torch.randn(GEMM, GEMM, dtype=dtype)
    seconds = []
    for _ in range(1 + GEMM_ROUNDS):
        began = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - began)
    return 2 * GEMM**3 / median(seconds[1:]) / 1e9


def _errors(steps: Mapping[str, Step]) -> dict[str, float]:
    """Largest relative error of each side's outputs against plain evaluation's: sides must compute the same."""
    meant = steps["plain"]().detach()
    scale = max(float(meant.abs().max()), torch.finfo(meant.dtype).tiny)
    return {name: float((step().detach() - meant).abs().max()) / scale for name, step in steps.items()}


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """torch on so many threads within."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
