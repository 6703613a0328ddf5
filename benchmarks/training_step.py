"""Time the parts of a training step, beside the same step by torch's operations weight by weight, as it was before.

    python benchmarks/training_step.py [--cell lstm] [--hidden 64] [--bidirectional] [--steps 200] [--json]

Made clips of 49 frames of 39 coefficients, one in ten shorter; batches of 64; the settings of the gates study's fair
protocol. The two take turns, a step each, on one thread, in CPU time; a ratio is the median of the steps' ratios, so
that a busy machine slows both sides of it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from cello.audio.augment import AugmentConfig
from cello.compiler.c.launch import Call
from cello.features.cache import FeatureSet
from cello.features.config import FeatureConfig
from cello.features.masks import draw_masks
from cello.features.prepare import prepared_batch
from cello.models.classifier import Classifier
from cello.models.config import ModelConfig
from cello.models.loss import cross_entropy
from cello.training.config import OptimiserConfig
from cello.training.optimiser import Average, make_optimiser

BATCH, CLIPS, CLASSES = 64, 7080, 14
FEATURES = FeatureConfig(window_ms=40)
AUGMENT = AugmentConfig(time_masks=2, time_mask_ms=100, band_masks=1, band_mask_width=2)
OPTIMISER = OptimiserConfig(
    name="adamw", learning_rate=4e-3, weight_decay=0.01, clip_norm=1.0, label_smoothing=0.1, ema=0.99
)
Mark = Callable[[str], None]


def made_clips() -> tuple[FeatureSet, Tensor]:
    generator = torch.Generator().manual_seed(0)
    counts = torch.full((CLIPS,), 49)
    counts[torch.rand(CLIPS, generator=generator) < 0.1] = 37
    flat = torch.randn(int(counts.sum()), FEATURES.dimensions, generator=generator)
    return FeatureSet(flat, counts), torch.randint(0, CLASSES, (CLIPS,), generator=generator)


class Now:
    """A step as a run takes it."""

    name, backend = "now", "auto"

    def __init__(self, config: ModelConfig) -> None:
        self.features, self.targets = made_clips()
        self.model = Classifier(config, FEATURES.dimensions, CLASSES, backend=self.backend).train()
        self.generator = torch.Generator().manual_seed(0)
        self.prepare_training()

    def prepare_training(self) -> None:
        self.optimiser = make_optimiser(OPTIMISER, self.model.parameters())
        self.average = Average(self.model, OPTIMISER.ema)

    def step(self, rows: Tensor, mark: Mark) -> None:
        self.optimiser.zero_grad()
        targets = self.targets[rows]
        frames, counts = self.batch(rows)
        mark("batch, standardised and masked")
        outputs, last = self.model.encoder(frames, counts)
        mark("cell forward")
        scores = self.model.head(self.model.dropout(self.pool(outputs, last, counts)))
        mark("pooling, dropout, scores")
        self.backward(scores, targets, mark)
        self.update()
        mark("clipping, optimiser, average")

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        masks = draw_masks(len(rows), AUGMENT, FEATURES, self.generator)
        made = prepared_batch(self.features, rows, self.model.mean, self.model.deviation, masks)
        assert made is not None, "there is no C compiler here"
        return made

    def pool(self, outputs: Tensor, last: Tensor, counts: Tensor) -> Tensor:
        pooled: Tensor = self.model.pooling(outputs, last, counts)
        return pooled

    def backward(self, scores: Tensor, targets: Tensor, mark: Mark) -> None:
        found = cross_entropy(scores, targets, OPTIMISER.label_smoothing)
        mark("loss")
        scores.backward(found.slope)  # type: ignore[no-untyped-call]
        mark("backward")

    def update(self) -> None:
        self.optimiser.step()
        self.average.update()


class Before(Now):
    """The same by torch's operations, each weight by itself."""

    name = "before"

    def prepare_training(self) -> None:
        self.weights = list(self.model.parameters())
        self.means = [weight.detach().clone() for weight in self.weights]
        self.live = [weight.detach() for weight in self.weights]
        rate, decay = OPTIMISER.learning_rate, OPTIMISER.weight_decay
        self.optimiser = torch.optim.AdamW(self.weights, lr=rate, weight_decay=decay)  # type: ignore[assignment]
        self.model.pooling.backend = "plain"

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        frames, counts = self.features.batch(rows)
        masks = draw_masks(len(rows), AUGMENT, FEATURES, self.generator)
        return masks.hide(self.model.standardise(frames, counts), counts), counts

    def backward(self, scores: Tensor, targets: Tensor, mark: Mark) -> None:
        loss = functional.cross_entropy(scores, targets, label_smoothing=OPTIMISER.label_smoothing)
        float((scores.argmax(1) == targets).sum())
        mark("loss")
        loss.backward()  # type: ignore[no-untyped-call]
        float(loss.detach())
        mark("backward")

    def update(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.weights, OPTIMISER.clip_norm)
        self.optimiser.step()
        torch._foreach_lerp_(self.means, self.live, 1 - OPTIMISER.ema)


class Clock:
    """CPU seconds of each part of one step, and within it of the cell's kernels."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self.began = self.last = time.thread_time()

    def __call__(self, part: str) -> None:
        now = time.thread_time()
        self.parts[part] = self.parts.get(part, 0.0) + now - self.last
        self.last = now

    def done(self, kernels: float) -> dict[str, float]:
        return {**self.parts, "of which kernels": kernels, "whole step": time.thread_time() - self.began}


def count_kernels() -> list[float]:
    """A number that grows by the CPU seconds of every kernel."""
    spent, run = [0.0], Call.run

    def timed(self: Call, name: str) -> None:
        began = time.thread_time()
        run(self, name)
        spent[0] += time.thread_time() - began

    Call.run = timed  # type: ignore[method-assign]
    return spent


def measure(config: ModelConfig, steps: int) -> dict[str, dict[str, float]]:
    """Median µs of each part of both, and the median of the steps' ratios."""
    spent = count_kernels()
    both = [kind(config) for kind in (Before, Now)]
    found: dict[str, dict[str, list[float]]] = {side.name: {} for side in both}
    order = torch.randperm(CLIPS, generator=torch.Generator().manual_seed(1))
    for number in range(steps + 10):
        rows = order.roll(number * BATCH)[:BATCH]
        for side in both if number % 2 else both[::-1]:
            spent[0], clock = 0.0, Clock()
            side.step(rows, clock)
            for part, seconds in clock.done(spent[0]).items():
                if number >= 10:
                    found[side.name].setdefault(part, []).append(1e6 * seconds)
    before, now = found["before"], found["now"]
    return {
        part: {
            "before": statistics.median(before[part]),
            "now": statistics.median(now[part]),
            "ratio": statistics.median(a / b for a, b in zip(before[part], now[part], strict=True)),
        }
        for part in now
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cell", default="lstm")
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--bidirectional", action="store_true")
    parser.add_argument("--steps", type=int, default=200, help="timed steps of each (default 200)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    choice = parser.parse_args()
    torch.set_num_threads(1)
    config = ModelConfig(
        cell=choice.cell,
        hidden=choice.hidden,
        bidirectional=choice.bidirectional,
        dropout=0.1,
        pooling="attention",
        initialisation="orthogonal",
    )
    parts = measure(config, choice.steps)
    if choice.json:
        sys.stdout.write(json.dumps({"cell": choice.cell, "hidden": choice.hidden, "parts": parts}, indent=1) + "\n")
        return
    lines = [f"{'part':34}{'before':>9}{'now':>9}   (µs)   ratio"]
    lines += [f"{part:34}{row['before']:9.0f}{row['now']:9.0f}{row['ratio']:15.2f}" for part, row in parts.items()]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
