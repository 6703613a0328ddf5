"""Time a recurrent classifier written gate by gate and step by step.

    python benchmarks/gate_loop.py CELL

What one writes from a paper: for every gate and every step ``W(x) + U(h)`` with an nn.Linear each, then the equations.
Imports nothing of Cello, so that a process of its own is the student's. Prints the CPU seconds of each training step.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable

import torch
from torch import Tensor, nn

BATCH, FRAMES, INPUTS, HIDDEN, CLASSES = 64, 49, 39, 64, 12
RATE, WARM_UP = 3e-4, 5
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
    """The hand-written loop of one variant, read out at the last step."""

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
        new = kept + (g if i is None else i * g)
        if "o" not in self.W:
            return torch.tanh(new), new
        # the output gate's full peephole sees the new memory, the other gates' the old one
        return torch.sigmoid(self.gate("o", x, h, new)) * torch.tanh(new), new


def time_steps(model: nn.Module, optimiser: torch.optim.Optimizer, batches: int) -> list[float]:
    """CPU seconds of each training step on one made-up batch, after the first few."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(BATCH, FRAMES, INPUTS, generator=draw)
    y = torch.randint(CLASSES, (BATCH,), generator=draw)
    seconds = []
    for _ in range(WARM_UP + batches):
        start = time.process_time()
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
        seconds.append(time.process_time() - start)
    return seconds[WARM_UP:]


def adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=RATE)


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU seconds of each training step of the hand-written loop.")
    parser.add_argument("cell", choices=list(GATES))
    parser.add_argument("--batches", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = Loop(options.cell)
    print(json.dumps(time_steps(model, adam(model.parameters()), options.batches)))  # noqa: T201


if __name__ == "__main__":
    main()
