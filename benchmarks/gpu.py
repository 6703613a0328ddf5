"""Measure everything that needs a GPU in one command of at most 8 minutes: right first, then the most wanted figures.

    python benchmarks/gpu.py [--corpus FOLDER] [--minutes 8] [--sections machine,check,lstm,...] [--out FILE]
    python benchmarks/gpu.py --dry        # no GPU: every section at tiny sizes, by Triton's interpreter

Sections, in order. Each figure is written to the file as soon as it is known, so what ends early loses no other; a
section that has used up its time is cut, which its last row says.

- machine: device, driver, versions, and the two rates that bound everything, copying and multiplying
- waiting: programs that wait for each other, as clusters and launched cooperatively, in CUDA graphs, and beside others
  on 8 streams; where clusters fail, or the driver refuses cooperative launches, all that follows is measured without,
  which the rows say
- check: a few cells against float64; a run by graphs, kernel by kernel and on the CPU; seeds together against alone
- lstm: the LSTM and torch.nn.LSTM at its fastest legal setting, padded and ragged; sizes where ours was slower first
- replicates: 16 LSTMs of 64 units at a batch of 64 in one launch beside one; whole training steps of 1, 5 and 16 seeds
- eager: the LSTM as a Python loop
- epoch: 84,843 made clips, LSTM of 64 units, batch 256, features and augmentation included
- gates: the gates study, 6 cells × 30 epochs × 5 seeds on 7,080 made clips, the seeds of a cell together
- cells: other cells' times for each operation beside the LSTM's
- accuracy: the LSTM of that study on the clips of --corpus, or of faint made tones, each seed on the GPU and on the CPU
- right: every cell of the zoo against float64
- tilings: only if named: the LSTM by tilings that might be taken, which tells whether the first is the fastest, and
  whether programs of 16, 32 or 64 clips are for many clips; its first rows are by the tiling that is taken
- holds: of each thing that a GPU is to do the worst figure, the bound, and whether it holds; null where not measured

A time of kernels is the median of replays of a CUDA graph that holds one call (or, where a call cannot be captured, of
calls), by device events, after warming up; a step is such a time divided by T.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import gpu_epoch
import gpu_waiting
import torch
from gpu_kernels import (
    FEATURES,
    PRECISIONS,
    Job,
    Row,
    Where,
    attempted,
    compile_all,
    cudnn_times,
    described,
    eager,
    in_processes,
    inputs_for,
    machine,
    products_in,
    right_in,
    run_job,
    times_of,
)

from cello.bench.flops import flops
from cello.bench.settings import Size
from cello.cells.load import load_cell, zoo
from cello.compiler.triton.clusters import VARIABLE as CLUSTERS
from cello.compiler.triton.cooperative import VARIABLE
from cello.compiler.triton.launch import Tiling
from cello.compiler.triton.scan import prepared
from cello.training.execution import ExecutionConfig

SLOWER = [(64, 64), (256, 64), (64, 128), (1024, 256)]
"""Batches and units at which torch's LSTM was faster in tf32 when it was last measured."""
OTHERS = [(1024, 64), (256, 128), (1024, 128), (64, 256), (256, 256)]


BOUNDS = {"highest": 1e-5, "high": 3e-3, "medium": 2e-2}
"""Of errors against float64, as shares of the largest value, by what torch calls the precision of products."""
FAILED = 1e9
"""In place of the error of what did not run."""


@dataclass(frozen=True)
class Plan:
    """What is to be measured, and how large."""

    dry: bool
    corpus: str
    seeds: int
    cells: tuple[str, ...]

    def size(self, whole: int, tiny: int) -> int:
        return tiny if self.dry else whole

    @property
    def precisions(self) -> dict[str, str]:
        """Of products, as kernels and as torch call them."""
        return {"tf32": PRECISIONS["tf32"]} if self.dry else PRECISIONS

    @property
    def fast(self) -> ExecutionConfig:
        """On the GPU, products in tf32; dry, what stands for it."""
        if self.dry:
            return ExecutionConfig(device="cpu", backend="plain")
        return ExecutionConfig(device="cuda", precision="tf32")


def about(plan: Plan) -> Iterator[Row]:
    yield machine()


def waiting(plan: Plan) -> Iterator[Row]:
    failed = False
    for row in gpu_waiting.in_a_process("clusters"):
        failed |= "failed" in row or row.get("apart", 0.0) > 0.0
        yield row
    if failed:
        os.environ[CLUSTERS] = "0"
        yield {"then": f"{CLUSTERS}=0"}
    found = []
    for row in gpu_waiting.in_a_process("in memory"):
        found.append(row)
        yield row
    refused = [row["failed"] for row in found if "failed" in row and "refuses a cooperative launch" in row["failed"]]
    if refused:
        os.environ[VARIABLE] = "0"
        yield {"then": f"{VARIABLE}=0"}


def check(plan: Plan) -> Iterator[Row]:
    jobs = [(n, h, p) for n in ("lstm", "gru") for h, p in ((33, "highest"), (64, "high"), (256, "medium"))]
    yield from compared([("lstm", 5, "highest")] if plan.dry else jobs)
    sizes = {"clips": 24, "samples": 3000, "epochs": 2} if plan.dry else {}
    for precision in ("float32",) if plan.dry else ("float32", "tf32"):
        how = plan.fast if plan.dry else ExecutionConfig(device="cuda", precision=precision)
        for call in (gpu_epoch.check, gpu_epoch.together):
            yield {"precision": precision} | attempted(lambda c=call, e=how: c(**sizes, execution=e))  # type: ignore[misc]


def compared(jobs: list[tuple[str, int, str]]) -> Iterator[Row]:
    for job, error in zip(jobs, in_processes(right_in, jobs), strict=True):
        yield {"cell": job[0], "hidden": job[1], "precision": job[2], "error": error}


def lstm(plan: Plan) -> Iterator[Row]:
    sizes = [(b, t, h) for t in (99, 49) for b, h in (*SLOWER, *OTHERS)]
    if plan.dry:
        sizes = [(2, 2, 4)]
    jobs: list[Job] = [
        ("lstm", b, t, h, p, None, r)
        for b, t, h in sizes
        for p in plan.precisions
        for r in ((False, True) if t != 49 else (False,))
    ]
    # those of the gates study too, so that its seconds are of training
    beside: list[Job] = [(cell, 16, 2, 64, "tf32", None, False) for cell in gpu_epoch.cells_of_gates()]
    yield compiled([] if plan.dry else [*jobs, *beside])
    for job in jobs:
        _, batch, steps, hidden, precision, _, ragged = job
        row = described(job) | attempted(lambda job=job: run_job(job))  # type: ignore[misc]
        if not ragged:
            with products_in(PRECISIONS[precision]):
                given = batch, steps, hidden, precision
                theirs = attempted(lambda given=given: cudnn_times(*given, packed=given[1] != 49))  # type: ignore[misc]
            row |= {f"torch_{name}": value for name, value in theirs.items()}
        yield row


def compiled(jobs: list[Job]) -> Row:
    began = time.monotonic()
    compile_all(jobs)
    return {"compiled": len({(job[0], job[3], job[4]) for job in jobs}), "seconds": time.monotonic() - began}


def replicates(plan: Plan) -> Iterator[Row]:
    batch, steps, hidden = (2, 2, 4) if plan.dry else (64, 49, 64)
    for precision, setting in plan.precisions.items():
        with products_in(setting):
            call, *tensors = prepared(inputs_for(load_cell("lstm"), batch, steps, hidden))
            for count in (1, plan.size(16, 2)):
                many = [part.detach().repeat(count, *[1] * (part.dim() - 1)) for part in tensors]
                row = attempted(lambda c=call, m=many: times_of(c, m))  # type: ignore[misc]
                yield {"kernels": count, "precision": precision} | row
    for count in (1, plan.size(5, 2), plan.size(16, 3)):
        sizes = {"clips": 24, "samples": 3000, "hidden": 4} if plan.dry else {"clips": 1500, "samples": 16_000}
        row = attempted(lambda n=count, s=sizes: gpu_epoch.seconds_of_seeds(n, execution=plan.fast, **s))  # type: ignore[misc]
        yield {"seeds": count} | row


def epoch(plan: Plan) -> Iterator[Row]:
    small = {"clips": 40, "samples": 3000, "batch": 16, "hidden": 4, "epochs": 2}
    yield gpu_epoch.epoch(execution=plan.fast, **(small if plan.dry else {"epochs": 6}))


def gates(plan: Plan) -> Iterator[Row]:
    small = {"clips": 28, "samples": 3000, "epochs": 1}
    for row, seconds in gpu_epoch.gates(seeds=plan.seeds, execution=plan.fast, **(small if plan.dry else {})):
        yield {"row": row, "seconds": seconds}


def accuracy(plan: Plan) -> Iterator[Row]:
    made = (28, 14, 14, 3000, 3000.0) if plan.dry else gpu_epoch.FAINT
    yield {"clips of": plan.corpus or "made sound"}
    yield from gpu_epoch.accuracy(plan.corpus or made, plan.seeds, plan.fast, epochs=plan.size(30, 1))


def cells(plan: Plan) -> Iterator[Row]:
    names = plan.cells or ("lstm", *(name for name in zoo() if name != "lstm"))
    batch, steps, sizes = (2, 2, (4,)) if plan.dry else (256, 49, (64, 128))
    for hidden in sizes:
        jobs: list[Job] = [
            (name, batch, steps, hidden, "bf16", None, False) for name in (names[1:2] if plan.dry else names)
        ]
        yield compiled([] if plan.dry else jobs)
        yield from beside_lstm(jobs)


def beside_lstm(jobs: list[Job]) -> Iterator[Row]:
    """Times for each operation, and how many of the LSTM's, which is the first, they are."""
    of_lstm = float("nan")
    for job in jobs:
        row = described(job) | attempted(lambda job=job: run_job(job))  # type: ignore[misc]
        size = Size(batch=job[1], frames=job[2], inputs=FEATURES, hidden=job[3])
        row["flops"] = flops(load_cell(job[0]), size, x_gradient=False)
        if "both_us" in row:
            row["ns_per_Mflop"] = row["both_us"] * 1e9 / row["flops"]
            of_lstm = row["ns_per_Mflop"] if job[0] == "lstm" else of_lstm
            row |= {} if math.isnan(of_lstm) else {"times_of_lstm": row["ns_per_Mflop"] / of_lstm}
        yield row


def right(plan: Plan) -> Iterator[Row]:
    names = plan.cells or (("rnn",) if plan.dry else tuple(zoo()))
    sizes = [(5, "highest")] if plan.dry else [(33, "highest"), (64, "high"), (256, "medium")]
    fitting = {name: load_cell(name).multiple for name in names}  # heads divide the units
    yield from compared([(n, h + -h % fitting[n], precision) for n in names for h, precision in sizes])


def loop(plan: Plan) -> Iterator[Row]:
    yield eager(*((2, 3, 4) if plan.dry else (64, 49, 64)))


def tilings(plan: Plan) -> Iterator[Row]:
    ways = [(reread, stages) for reread in ("held", "") for stages in (2, 1)]
    cut = [(64, Tiling(16, 64, 8, 1, s, True, r)) for r, s in ways]
    cut += [(64, Tiling(rows, 64, 8, 1, 2, True)) for rows in (8, 32)]
    cut += [(128, Tiling(16, 128, w, d, 2, True, r)) for w, d in ((8, 1), (16, 1), (8, 2)) for r in ("held", "")]
    cut += [(256, Tiling(16, 256, 8, d, 2, True, r)) for d in (4, 8) for r in ("held", "")]
    wait = [(128, 8, 2, "held"), (128, 8, 2, ""), (256, 8, 4, ""), (256, 4, 8, "held"), (256, 4, 8, "")]
    wait += [(256, 8, 4, "scatter"), (256, 4, 8, "scatter")]
    cut += [(h, Tiling(16, h, w, d, 2, True, r, cluster=c)) for h, w, d, r in wait for c in (True, False)]
    cut = list(dict.fromkeys(cut))
    cut = [(5, Tiling(16, 16, 4, 1, 2, reread="held"))] if plan.dry else cut
    steps, batches = (2, (2,)) if plan.dry else (49, (64, 1024))
    jobs: list[Job] = [
        ("lstm", b, steps, h, p, each, False) for h, each in cut for p in plan.precisions for b in batches
    ]
    many = [(35, 5, Tiling(32, 16, 4, 1, 2, True, "packs"))] if plan.dry else of_many_clips()
    jobs = [("lstm", b, steps, h, p, each, False) for b, h, each in many for p in plan.precisions] + jobs
    compile_all([] if plan.dry else jobs)
    for job in jobs:
        yield described(job) | attempted(lambda job=job: run_job(job))  # type: ignore[misc]


def of_many_clips() -> list[tuple[int, int, Tiling | None]]:
    """Batches and units at which programs of 16 clips come in several rounds, and how they may be divided."""
    of_256 = [(16, 8, 4, 2, ""), (16, 8, 8, 2, ""), (16, 4, 8, 2, ""), (32, 8, 8, 2, "packs"), (32, 4, 8, 2, "")]
    of_256 += [(32, 4, 8, 1, "packs"), (64, 8, 8, 1, "packs"), (64, 8, 8, 1, "")]
    of_128 = [(16, 1, 8, 2, "held"), (16, 2, 8, 2, ""), (32, 1, 16, 1, ""), (32, 2, 8, 2, ""), (32, 2, 8, 2, "packs")]
    of_128 += [(64, 2, 8, 1, ""), (64, 2, 8, 1, "packs")]
    found: list[tuple[int, int, Tiling | None]] = [(1024, 256, None), (4096, 128, None)]
    for batch, hidden, ways in ((1024, 256, of_256), (4096, 128, of_128)):
        found += [(batch, hidden, Tiling(r, hidden, w, d, s, True, again)) for r, d, w, s, again in ways]
    of_sums = [Tiling(r, 256, w, d, s, True, "scatter") for r, d, w, s in ((16, 8, 4, 2), (32, 8, 8, 2), (32, 4, 8, 1))]
    return [*found, *((1024, 256, replace(each, cluster=c)) for each in of_sums for c in (True, False))]


Section = Callable[[Plan], Iterator[Row]]
SECTIONS: dict[str, tuple[Section, float]] = {
    "machine": (about, 20),
    "waiting": (waiting, 140),
    "check": (check, 60),
    "lstm": (lstm, 100),
    "replicates": (replicates, 40),
    "eager": (loop, 20),
    "epoch": (epoch, 60),
    "gates": (gates, 75),
    "cells": (cells, 110),
    "accuracy": (accuracy, 150),
    "right": (right, 90),
    "tilings": (tilings, 150),
}
"""Each with the seconds after which it is cut."""
LEAST_SECONDS = 10.0
"""Left of the whole time, for a section to be begun."""
ASKED = tuple(name for name in SECTIONS if name != "tilings")


def verdicts(found: dict[str, Any]) -> Iterator[Row]:
    """Of what a GPU is to do, what the figures say: the worst of them, the bound, and whether it holds."""

    def rows(section: str, **alike: Any) -> list[Row]:
        return [row for row in found.get(section, []) if all(row.get(name) == value for name, value in alike.items())]

    def verdict(what: str, figures: list[float], most: float) -> Row:
        worst = max(figures, default=None)
        return {"what": what, "worst": worst, "at_most": most, "holds": None if worst is None else worst <= most}

    def both(section: str, name: str = "both_us", **alike: Any) -> list[Row]:
        return [row for row in rows(section, **alike) if "both_us" in row and name in row]

    waits = [row["apart"] for row in rows("waiting") if "apart" in row]
    waits += [1.0 for row in rows("waiting") if "failed" in row]
    yield verdict("programs that wait for each other: differences from plain launches", waits, 0.0)
    checked = [row for row in rows("check") if "graphs" in row]
    yield verdict("a step as a graph: differences from its kernels", [row["graph - eager"] for row in checked], 0.0)
    yield verdict("steps that no graph holds", [float(not row["graphs"]) for row in checked], 0.0)
    for section in ("check", "right"):
        told = [(row["error"], BOUNDS[row["precision"]]) for row in rows(section) if "hidden" in row]
        shares = [error / bound if isinstance(error, float) else FAILED for error, bound in told]
        yield verdict(f"errors against float64, of the bound of each precision ({section})", shares, 1.0)
    same = ("batch", "steps", "hidden", "precision")
    whole, padded = both("lstm", ragged=None), both("lstm", "torch_both_us", ragged=None)
    packed_too = both("lstm", "torch_packed_both_us", ragged=None)
    ragged = [(a, b) for a in both("lstm", ragged=True) for b in packed_too if all(a[x] == b[x] for x in same)]
    for way, a_step in (("forward", 2.0), ("both", 4.0)):
        narrow = [row[f"{way}_us"] / row[f"torch_{way}_us"] for row in padded if row["hidden"] <= 128]
        wide = [row[f"{way}_us"] / row[f"torch_{way}_us"] for row in padded if row["hidden"] > 128]
        name = f"torch_packed_{way}_us"
        packed = [one[f"{way}_us"] / other[name] for one, other in ragged if name in other]
        steps = [row[f"{way}_us"] / row["steps"] for row in whole if row["hidden"] <= 128]
        yield verdict(f"LSTM, H to 128, {way}: times of torch's, padded", narrow, 1.0)
        yield verdict(f"LSTM, H 256, {way}: times of torch's, padded", wide, 0.5)
        yield verdict(f"LSTM, ragged, {way}: times of torch's, packed", packed, 0.5)
        yield verdict(f"LSTM, H to 128, {way}: microseconds of a step", steps, a_step)
    others = [row["times_of_lstm"] for row in found.get("cells", []) if "times_of_lstm" in row]
    yield verdict("other cells: times of the LSTM for each operation", others, 1.3)
    ours = [row["both_us"] for row in whole if (row["batch"], row["steps"], row["hidden"]) == (64, 49, 64)]
    loops = [row["both_us"] for row in both("eager")]
    yield verdict("LSTM, 64 clips: times of a loop of torch's operations", [o / e for o in ours for e in loops], 1 / 30)
    pairs = [(one, many) for one in both("replicates", kernels=1) for many in both("replicates", kernels=16)]
    times = [many["both_us"] / one["both_us"] for one, many in pairs if one["precision"] == many["precision"]]
    yield verdict("16 replicates: times of one", times, 1.5)
    yield verdict("seconds of an epoch", [row["epoch"] for row in rows("epoch") if "epoch" in row], 0.5)
    yield verdict("seconds of the gates study", [row["seconds"] for row in rows("gates", row="all")], 60.0)
    apart = [row for row in rows("accuracy") if row.get("standard error")]
    seeds = [abs(row["mean difference"]) / row["standard error"] for row in apart]
    yield verdict("accuracy of GPU and CPU: standard errors between them", seeds, 2.0)


class Record:
    """The file that the figures go to, whole after each of them."""

    def __init__(self, path: Path) -> None:
        self.path, self.found = path, dict[str, Any](date=str(date.today()))

    def put(self, section: str, row: Row) -> None:
        self.found.setdefault(section, []).append(row)
        beside = self.path.with_suffix(".new")
        beside.write_text(json.dumps(self.found, indent=1))
        beside.replace(self.path)


def measure(section: str, plan: Plan, record: Record, until: float) -> None:
    """All rows of a section, or those that there is time for."""
    function, seconds = SECTIONS[section]
    began = time.monotonic()
    end = min(until, began + seconds * (10 if plan.dry else 1))
    try:
        if until - began < LEAST_SECONDS:
            record.put(section, {"left out": "no time"})
            return
        for row in function(plan):
            record.put(section, row)
            if time.monotonic() > end:
                record.put(section, {"cut": f"after {time.monotonic() - began:.0f} s"})
                break
    except Exception:
        record.put(section, {"failed": traceback.format_exc()[-2000:]})
    sys.stderr.write(f"{section}: {time.monotonic() - began:.1f} s\n")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--sections", default=",".join(ASKED))
    parser.add_argument("--corpus", default="", help="a folder of clips, or what else cello train takes, for accuracy")
    parser.add_argument("--cells", default="", help="only these, of cells and right")
    parser.add_argument("--seeds", type=int, default=5, help="of gates and accuracy")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--dry", action="store_true", help="without a GPU, at tiny sizes: do all sections run?")
    options = parser.parse_args(arguments)
    if not options.dry and not torch.cuda.is_available():
        sys.exit(
            "benchmarks/gpu.py needs a GPU: torch.cuda.is_available() is false here. Run it where there is one, or "
            "with --dry"
        )
    cells = tuple(filter(None, options.cells.split(",")))
    plan = Plan(options.dry, options.corpus, min(options.seeds, 2) if options.dry else options.seeds, cells)
    name = "dry" if options.dry else torch.cuda.get_device_name().split(" ", 1)[-1].replace(" ", "-").lower()
    results = Path(__file__).parent / "results"
    record = Record(options.out or (Path() if options.dry else results) / f"gpu-{name}-{date.today()}.json")
    if options.dry:
        os.environ["TRITON_INTERPRET"] = "1"
        Where.device, Where.dry = "cpu", True
        gpu_epoch.stand_in()
    until = time.monotonic() + options.minutes * 60
    for section in options.sections.split(","):
        measure(section, plan, record, until)
    for row in verdicts(record.found):
        record.put("holds", row)
    sys.stdout.write(f"{record.path}\n")


if __name__ == "__main__":
    main()
