"""Measure what gradients in bfloat16 lose by what forward keeps for backward, in Triton's interpreter, without a GPU.

    nice python benchmarks/gpu_digits.py [--cells lstm gru] [--frames 99] [--initial] [--hidden 16]

Operands of products are rounded to bfloat16 in all columns; what forward keeps is float32, is bfloat16, and is as the
kernels keep it. An error is the largest of all gradients against float64, as a share of the tensor's largest value.
Weights are a layer's first ones, and vectors are then fitted so that states last 5 to 500 frames, as those of a trained
network may; without that with --initial.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from rich.console import Console
from torch import Tensor

from cello.cells.load import load_cell, zoo
from cello.compiler.scan import scan
from cello.compiler.triton import launch
from cello.compiler.triton import scan as back_end
from cello.models.config import ModelConfig
from cello.models.direction import CellLayer, within_bounds
from cello.models.initialise import begun, draw

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from scans import Case, errors, everything, wider

INPUTS, CLIPS = 7, 4
FIT_FRAMES, FIT_STEPS = 12, 25
KEPT = ("float32", "bfloat16", "as kernels do")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", default=[*zoo()])
    parser.add_argument("--frames", type=int, default=99)
    parser.add_argument("--hidden", type=int, default=16)
    parser.add_argument("--initial", action="store_true", help="a layer's first weights")
    options = parser.parse_args()
    os.environ["TRITON_INTERPRET"] = "1"
    console = Console()
    for line in ("| cell | " + " | ".join(KEPT) + " |", "|---" + "|---:" * len(KEPT) + "|"):
        console.print(line, soft_wrap=True)
    for name in options.cells:
        layer = first_weights(name, options.hidden)
        if not options.initial:
            fit(layer)
        row = " | ".join(f"{error:.1e}" for error in measured(layer.float(), options.frames))
        console.print(f"| {name} | {row} |", soft_wrap=True, markup=False)


def first_weights(name: str, hidden: int) -> CellLayer:
    cell = load_cell(name)
    layer = CellLayer(cell, INPUTS, -(-hidden // cell.multiple) * cell.multiple)
    generator, config = torch.Generator().manual_seed(1), ModelConfig(hidden=layer.hidden)
    with torch.no_grad():
        for attribute, weight in layer.named_parameters():
            name = layer.equation_names[attribute]
            if not begun(layer, attribute, weight, generator):
                draw(weight, name, cell, config, generator)
                if name == "b.f":
                    weight.add_(config.forget_bias)
    return layer.double()


def weights_of(layer: CellLayer) -> dict[str, Tensor]:
    known = {name: getattr(layer, attribute) for attribute, name in layer.equation_names.items()}
    known |= {name: within_bounds(one, known[name]) for name, one in layer.bounded.items()}
    return {name: known[name] for name in layer.cell.parameters(layer.inputs, layer.hidden)}


def states_of(layer: CellLayer, clips: int, seed: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    drawn = (torch.randn(clips, *size, generator=generator) for size in layer.state_sizes)
    return tuple((each.abs() * 0.3 + 0.1).double().requires_grad_() for each in drawn)


def fit(layer: CellLayer) -> None:
    """Let vectors be such that the derivative of a last state by the first falls to 1/e in 5 to 500 frames."""
    learned = [weight for weight in layer.parameters() if weight.ndim < 2]
    frames = torch.randn(2, FIT_FRAMES, layer.inputs, generator=torch.Generator().manual_seed(2)).double()
    lasting = torch.exp(-FIT_FRAMES / torch.logspace(math.log10(5), math.log10(500), layer.hidden).double())
    optimiser = torch.optim.Adam(learned, lr=0.25) if learned else None
    best: tuple[float, list[Tensor]] | None = None
    for _ in range(FIT_STEPS if optimiser else 0):
        first = states_of(layer, 2, 3)
        last = scan(layer.cell, frames, weights_of(layer), state=first, backend="plain").state
        losses = []
        for one, other in zip(first, last, strict=True):
            (found,) = torch.autograd.grad(other.sum(), one, create_graph=True, allow_unused=True)
            if found is not None and found.requires_grad:
                goal = lasting if found.shape[1:] == lasting.shape else lasting.mean()
                losses.append((found.abs().clamp_min(1e-6).mean(0).log() - goal.log()).square().clamp_max(100).mean())
        loss = torch.stack(losses).sum() if losses else torch.tensor(math.nan)
        if optimiser is None or not math.isfinite(float(loss.detach())):
            break
        if best is None or float(loss.detach()) < best[0]:
            best = float(loss.detach()), [weight.detach().clone() for weight in learned]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        for weight, value in zip(learned, best[1] if best else (), strict=False):
            weight.copy_(value)


def measured(layer: CellLayer, frames: int) -> Iterator[float]:
    x = torch.randn(CLIPS, frames, layer.inputs, generator=torch.Generator().manual_seed(4)).requires_grad_()
    states = tuple(state.detach().float().requires_grad_() for state in states_of(layer, CLIPS, 5))
    weights = {name: weight.detach().clone().requires_grad_() for name, weight in weights_of(layer).items()}
    given: Case = x, states, weights
    exact = {k: value.detach() for k, value in everything(layer.cell, wider(given, torch.float64), "plain").items()}
    torch.set_float32_matmul_precision("medium")
    for kept in KEPT:
        with keeping(kept):
            found = everything(layer.cell, given, "triton")
        yield max(error for key, error in errors(found, exact).items() if key.startswith("d "))
    torch.set_float32_matmul_precision("highest")


@contextmanager
def keeping(kept: str) -> Iterator[None]:
    """Let what forward keeps be float32, of which each value may be one of bfloat16."""
    new_rows, forward = launch.BatchLayout.new_rows, launch.run_forward

    def kept_in_float32(*args: Any, **more: Any) -> Any:
        wide = lambda layout, shape, dtype: new_rows(layout, shape, torch.float32)  # noqa: E731
        with patch.object(launch.BatchLayout, "new_rows", wide):
            outputs, last, saved = forward(*args, **more)
        return outputs, last, saved.bfloat16().float() if kept == "bfloat16" else saved

    with ExitStack() as stack:
        if kept != KEPT[-1]:
            stack.enter_context(patch.object(back_end, "run_forward", kept_in_float32))
        yield


if __name__ == "__main__":
    main()
