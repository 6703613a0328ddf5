"""Times a layer, forward and backward, through C kernels, plain evaluation and torch's own, alternating in one process.

    python benchmarks/kernels.py [--rounds 15] [--json FILE]

One thread, float32, wall time, medians; the ratio is torch's own (or plain, where torch has no such cell) over C.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from cello.cells.load import load_cell
from cello.compiler.memory import keep_freed_memory
from cello.compiler.scan import scan
from cello.files import write_whole

SIZES = ((64, 49, 39, 64), (128, 49, 39, 128))
TORCH = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}
CELLS = (*TORCH, "lstm-peephole-full", "lstm-coupled")


def sides(name: str, size: tuple[int, int, int, int]) -> dict[str, Callable[[], object]]:
    """One step of every side on the same frames."""
    batch, frames, inputs, hidden = size
    cell = load_cell(name)
    shapes = cell.parameters(inputs, hidden).items()
    weights = {key: (torch.randn(shape) / hidden**0.5).requires_grad_() for key, shape in shapes}
    x, upstream = torch.randn(batch, frames, inputs, requires_grad=True), torch.randn(batch, frames, hidden)

    def through(backend: str) -> Callable[[], object]:
        def step() -> tuple[Tensor, ...]:
            outputs = scan(cell, x, weights, backend=backend).outputs
            return torch.autograd.grad(outputs, [x, *weights.values()], upstream)

        return step

    found = {"c": through("c"), "plain": through("plain")}
    if name in TORCH:
        layer = TORCH[name](inputs, hidden, batch_first=True)
        found["torch"] = lambda: torch.autograd.grad(layer(x)[0], [x, *layer.parameters()], upstream)
    return found


def measure(steps: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median milliseconds of every side, after two rounds that warm up."""
    times: dict[str, list[float]] = {side: [] for side in steps}
    for number in range(rounds + 2):
        for side, step in steps.items():
            began = time.perf_counter()
            step()
            if number > 1:
                times[side].append(1000 * (time.perf_counter() - began))
    return {side: statistics.median(values) for side, values in times.items()}


def main() -> None:
    """Print the table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    keep_freed_memory()
    rows = []
    print(f"{'cell':20}{'B×T×D×H':>18}{'c ms':>9}{'plain ms':>10}{'torch ms':>10}{'ratio':>7}")  # noqa: T201
    for name in CELLS:
        for size in SIZES:
            found = measure(sides(name, size), options.rounds)
            ratio = found.get("torch", found["plain"]) / found["c"]
            rows.append({"cell": name, "size": size, "milliseconds": found, "ratio": ratio})
            torch_ms = f"{found['torch']:.2f}" if "torch" in found else "–"
            shape = "×".join(map(str, size))
            print(f"{name:20}{shape:>18}{found['c']:9.2f}{found['plain']:10.2f}{torch_ms:>10}{ratio:7.2f}")  # noqa: T201
    if options.json:
        write_whole(options.json, json.dumps({"torch": str(torch.__version__), "rows": rows}, indent=1).encode())


if __name__ == "__main__":
    main()
