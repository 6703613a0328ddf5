"""One epoch of training, plain evaluation against a hand-written loop: python benchmarks/cells_plain.py [--json FILE].

The loop is what a student writes from a paper: for every gate and every step, ``W(x) + U(h)`` with an nn.Linear each,
then the equations. Both read the last step out through a linear head and train with cross-entropy and Adam on the
same random clips, one thread, float32, alternating, so that a busy machine slows both. Times are CPU time of an epoch
of 6,060 clips in a process that keeps freed memory, the median over rounds, each scaled up from a few batches of 64
clips, 49 frames of 39 numbers.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from cello.cells.load import load_cell
from cello.compiler.memory import keep_freed_memory
from cello.compiler.scan import scan

CLIPS, BATCH, FRAMES, INPUTS, HIDDEN, CLASSES = 6_060, 64, 49, 39, 64, 12
GATES = {
    "lstm": "ifgo",
    "lstm-peephole-full": "ifgo",
    "lstm-coupled": "igo",
    "lstm-no-forget": "igo",
    "lstm-no-input": "fgo",
    "lstm-no-output": "ifg",
}
PEEPHOLES = {"lstm-peephole-full": "ifo"}


class Loop(nn.Module):
    """The hand-written loop of one variant."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.W = nn.ModuleDict({gate: nn.Linear(INPUTS, HIDDEN) for gate in GATES[name]})
        self.U = nn.ModuleDict({gate: nn.Linear(HIDDEN, HIDDEN, bias=False) for gate in GATES[name]})
        self.V = nn.ModuleDict({gate: nn.Linear(HIDDEN, HIDDEN, bias=False) for gate in PEEPHOLES.get(name, "")})
        self.head = nn.Linear(HIDDEN, CLASSES)

    def gate(self, gate: str, x: Tensor, h: Tensor, c: Tensor) -> Tensor:
        total = self.W[gate](x) + self.U[gate](h)
        return total + self.V[gate](c) if gate in self.V else total

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(len(x), HIDDEN)
        for t in range(x.shape[1]):
            h, c = self.step(x[:, t], h, c)
        scores: Tensor = self.head(h)
        return scores

    def step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        g = torch.tanh(self.gate("g", x, h, c))
        i = torch.sigmoid(self.gate("i", x, h, c)) if "i" in self.W else None
        f = torch.sigmoid(self.gate("f", x, h, c)) if "f" in self.W else None
        kept = (1 - i) * c if self.name == "lstm-coupled" and i is not None else c if f is None else f * c
        c = kept + (g if i is None else i * g)
        if "o" not in self.W:
            return torch.tanh(c), c
        return torch.sigmoid(self.gate("o", x, h, c)) * torch.tanh(c), c


class Scan(nn.Module):
    """The same model through Cello."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.cell = load_cell(name)
        shapes = self.cell.parameters(INPUTS, HIDDEN)
        self.weights = nn.ParameterList(torch.empty(shape).uniform_(-0.125, 0.125) for shape in shapes.values())
        self.names = tuple(shapes)
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        weights = dict(zip(self.names, self.weights, strict=True))
        scores: Tensor = self.head(scan(self.cell, x, weights, backend="plain").state[0])
        return scores


def trainer(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], float]:
    """One training step a call; returns its CPU seconds."""
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-4)

    def train() -> float:
        start = time.process_time()
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
        return time.process_time() - start

    return train


def measure(name: str, rounds: int, batches: int) -> dict[str, float | str]:
    """Seconds per epoch of both, alternating batch by batch."""
    torch.manual_seed(0)
    x, y = torch.randn(BATCH, FRAMES, INPUTS), torch.randint(CLASSES, (BATCH,))
    loop, own = trainer(Loop(name), x, y), trainer(Scan(name), x, y)
    for _ in range(3):
        loop(), own()
    pairs = [[(loop(), own()) for _ in range(batches)] for _ in range(rounds)]
    epoch = CLIPS / BATCH / batches
    by_loop = [epoch * sum(a for a, _ in round_) for round_ in pairs]
    by_scan = [epoch * sum(b for _, b in round_) for round_ in pairs]
    return {
        "cell": name,
        "loop_seconds": statistics.median(by_loop),
        "scan_seconds": statistics.median(by_scan),
        "ratio": statistics.median(a / b for a, b in zip(by_loop, by_scan, strict=True)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds per epoch: a hand-written loop against plain evaluation.")
    parser.add_argument("--cell", choices=list(GATES), action="append", help="default: all of them")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batches", type=int, default=8, help="batches a round")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    print(f"{'cell':20s} {'loop s/epoch':>13s} {'plain s/epoch':>14s} {'ratio':>6s}")  # noqa: T201
    rows = []
    for name in options.cell or GATES:
        row = measure(name, options.rounds, options.batches)
        rows.append(row)
        print(f"{name:20s} {row['loop_seconds']:13.2f} {row['scan_seconds']:14.2f} {row['ratio']:6.2f}")  # noqa: T201
    if options.json:
        options.json.write_text(json.dumps({"torch": torch.__version__, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
