"""Time one epoch of training: plain evaluation against a loop written with nn.Linear.

    python benchmarks/cells_plain.py [--json FILE]

Every figure is taken in a process of its own, and the sides take turns, so that a busy machine slows both: the loop as
published, then Cello as its study's worker trains it, then the loop once more with the worker's allocator setting. Time
is CPU time on one thread, float32: the median training step after a few to warm up, times the batches of an epoch.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import torch
from gate_loop import BATCH, CLASSES, FRAMES, GATES, HIDDEN, INPUTS, RATE, Loop, adam, time_steps
from torch import Tensor, nn

from cello.compiler.memory import keep_freed_memory
from cello.models.classifier import Classifier
from cello.models.config import ModelConfig
from cello.training.config import OptimiserConfig
from cello.training.optimiser import make_optimiser

CLIPS = 6_060
SIDES = ("loop", "cello", "loop kept")
ABOUT = f"""\
CPU seconds of forward, backward and update over {CLIPS:,} clips, without loading data; batches of {BATCH},
{FRAMES} frames of {INPUTS} numbers, H={HIDDEN}, Adam, float32, one thread. Equations and optimiser are alike.
What differs: "loop" is the student's nn.Linear per gate and step in a process without Cello, allocator as it comes,
read out at the last step. "cello" is the study's Classifier with backend "plain" (checks, clip lengths, all outputs
stacked) in a process that keeps freed memory, as study workers do. "loop kept" is the loop with that setting.
Each figure is the median over child processes; a ratio is taken between neighbours in time (min to max over pairs).
"""


class WholeClips(nn.Module):
    """The study's model on clips that all have every frame."""

    def __init__(self, cell: str) -> None:
        super().__init__()
        self.classifier = Classifier(ModelConfig(cell=cell, hidden=HIDDEN, backend="plain"), INPUTS, CLASSES)
        self.register_buffer("lengths", torch.full((BATCH,), FRAMES))

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.classifier(x, self.lengths)
        return scores


def child(side: str, cell: str, batches: int) -> None:
    """Time one of the sides that need Cello, in this process; prints CPU seconds of each step."""
    torch.set_num_threads(1)
    keep_freed_memory()
    if side == "cello":
        model: nn.Module = WholeClips(cell)
        optimiser = make_optimiser(OptimiserConfig(name="adam", learning_rate=RATE), model.parameters())
    else:
        model = Loop(cell)
        optimiser = adam(model.parameters())
    print(json.dumps(time_steps(model, optimiser, batches)))  # noqa: T201


def epoch_seconds(side: str, cell: str, batches: int) -> float:
    """CPU seconds of an epoch, from a new process."""
    here = Path(__file__)
    own = [str(here), "--child", side, "--cell", cell]
    command = [str(here.with_name("gate_loop.py")), cell] if side == "loop" else own
    run = subprocess.run(
        [sys.executable, *command, "--batches", str(batches)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=True,
    )
    return median(json.loads(run.stdout)) * CLIPS / BATCH


def measure(cell: str, children: int, batches: int) -> dict[str, Any]:
    """Every child's seconds an epoch for each side, their medians, and the ratios of neighbours."""
    rounds = [{side: epoch_seconds(side, cell, batches) for side in SIDES} for _ in range(children)]
    seconds = {side: [row[side] for row in rounds] for side in SIDES}
    ratios = {side: [row[side] / row["cello"] for row in rounds] for side in ("loop", "loop kept")}
    return {
        "cell": cell,
        "seconds": {side: median(values) for side, values in seconds.items()},
        "ratio": {side: median(values) for side, values in ratios.items()},
        "all_seconds": seconds,
        "all_ratios": ratios,
    }


def line(row: dict[str, Any]) -> str:
    seconds, ratio, ratios = row["seconds"], row["ratio"], row["all_ratios"]
    times = "".join(f"{seconds[side]:11.2f}" for side in SIDES)
    shown = [f"{ratio[k]:8.2f} ({min(ratios[k]):.2f} to {max(ratios[k]):.2f})" for k in ("loop", "loop kept")]
    return f"{row['cell']:20s}{times}{shown[0]:>24s}{shown[1]:>24s}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds per epoch: a student's loop against plain evaluation.")
    parser.add_argument("--cell", choices=list(GATES), action="append", help="default: all of them")
    parser.add_argument("--children", type=int, default=5, help="processes a side")
    parser.add_argument("--batches", type=int, default=40, help="batches a process")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--child", choices=SIDES[1:], help=argparse.SUPPRESS)
    options = parser.parse_args()
    cells = options.cell or list(GATES)
    if options.child:
        child(options.child, cells[0], options.batches)
        return
    print(ABOUT)  # noqa: T201
    heads = "".join(f"{side:>11s}" for side in SIDES)
    print(f"{'seconds an epoch':20s}{heads}{'loop / cello':>24s}{'loop kept / cello':>24s}")  # noqa: T201
    rows = []
    for cell in cells:
        rows.append(measure(cell, options.children, options.batches))
        print(line(rows[-1]), flush=True)  # noqa: T201
        if options.json:
            options.json.write_text(json.dumps({"torch": torch.__version__, "about": ABOUT, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
