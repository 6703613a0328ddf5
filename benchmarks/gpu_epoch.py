"""Time whole epochs on a GPU, and the gates study, on synthetic sound: augmentation, features, steps, validation.

    python benchmarks/gpu_epoch.py [check|epoch|gates] [--precision float32|tf32|bf16] [--device auto] [--no-graph]
    python benchmarks/gpu_epoch.py epoch --clips 1500 --batch 64 --epochs 3

check: the same small run by CUDA graphs, kernel by kernel, and on the CPU; how far their losses are apart.
epoch: one LSTM of 64 units over 84,843 clips of one second in batches of 256; medians over the epochs after the first.
gates: 6 cells × 30 epochs × 5 seeds on 7,080 clips of 14 labels, the seeds of a cell together.
Both use the settings of the gates study's fair protocol, and both run on the CPU too, far longer.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from cello.audio.corpus import Clip, Corpus, Manifest, Split
from cello.audio.open import open_corpus
from cello.study.overrides import override
from cello.study.plan import PlannedRun, plan
from cello.study.study_file import load_study
from cello.training import replicates, single, trainer
from cello.training.config import CorpusRef, RunConfig
from cello.training.device import Device, choose, computing
from cello.training.execution import ExecutionConfig
from cello.training.run import train
from cello.training.single import threads
from cello.training.trainer import Together, Trainer

RATE_HZ = 16_000
CHUNK = 1024
PATIENCE_SECONDS = 90.0
"""For a run on the CPU beside those on the GPU."""


def synthetic(train_clips: int, other_clips: int, labels: int, samples: int, loudness: float = 3000.0) -> Corpus:
    """A tone for each label under noise: clips of which so many train, and so many validate and test each."""
    rng = np.random.default_rng(0)
    times = np.arange(samples) / RATE_HZ
    tones = np.stack([loudness * np.sin(2 * np.pi * (300 + 200 * label) * times) for label in range(labels)]).astype(
        np.int16
    )
    noise = rng.normal(0, 1000, (CHUNK + 1) * samples).astype(np.int16)
    counts: list[tuple[Split, int]] = [("train", train_clips), ("validation", other_clips), ("test", other_clips)]
    whole = sum(count for _, count in counts)
    targets = np.arange(whole) % labels
    sound = np.empty((whole, samples), dtype=np.int16)
    for first in range(0, whole, CHUNK):
        own = sound[first : first + CHUNK]
        start = int(rng.integers(samples))
        own[:] = noise[start : start + own.size].reshape(own.shape)
        own += tones[targets[first : first + CHUNK]]
    splits = [split for split, count in counts for _ in range(count)]
    clips = tuple(
        Clip(name=f"{n}.wav", label=f"{targets[n]:02}", split=split, speaker=f"{n}", start=n * samples, samples=samples)
        for n, split in enumerate(splits)
    )
    names = tuple(f"{label:02}" for label in range(labels))
    of = repr((train_clips, other_clips, labels, samples, loudness))
    checksum = hashlib.sha256(of.encode()).hexdigest()  # frames are cached by it
    manifest = Manifest(
        corpus="synthetic", rate_hz=RATE_HZ, labels=names, clips=clips, bad=(), checksum=checksum, source="made"
    )
    return Corpus(manifest, sound.reshape(-1))


def planned(corpus: Corpus, seeds: int, settings: dict[str, object]) -> list[PlannedRun]:
    """The runs of the gates study's fair protocol on a corpus."""
    reference = CorpusRef(name=corpus.manifest.corpus, checksum=corpus.manifest.checksum)
    study = override(load_study("gates"), range(seeds), settings)
    return list(plan(study, reference, len(corpus.manifest.labels)))


def cells_of_gates() -> list[str]:
    """The cells of the gates study."""
    return list(dict.fromkeys(run.config.model.cell for run in planned(synthetic(28, 14, 14, 1), 1, {})))


def check(
    clips: int = 300,
    samples: int = 16_000,
    epochs: int = 4,
    execution: ExecutionConfig = ExecutionConfig(),  # noqa: B008
) -> dict[str, float]:
    """The largest differences of the losses of each epoch between three ways to compute one run, and its graphs.

    Without dropout, which a GPU draws otherwise than the CPU.
    """
    corpus = synthetic(clips, 64, 4, samples)
    settings = {"optimiser.epochs": epochs, "model.dropout": 0.0, "model.hidden": 16}
    config = planned(corpus, 1, settings)[0].config
    ways = {
        "graph": execution,
        "eager": msgspec.structs.replace(execution, cuda_graph=False),
        "cpu": ExecutionConfig(device="cpu", backend="plain"),
    }
    losses: dict[str, list[float]] = {}
    graphs = 0
    for way, how in ways.items():
        with tempfile.TemporaryDirectory() as folder, threads(1), computing(choose(how), how.precision):
            trainer = Trainer(config, corpus, Path(folder), Path(folder), execution=how)
            found = [trainer.train_epoch() for _ in range(epochs)]
        losses[way] = [figure for record in found for figure in (record.train_loss, record.validation_loss)]
        graphs += 0 if trainer.together is None else len(trainer.together.resident.graphs.graphs)
    apart = {f"{a} - {b}": max(map(_distance, losses[a], losses[b])) for a, b in (("graph", "eager"), ("graph", "cpu"))}
    return {**apart, "graphs": graphs, "first loss": losses["graph"][0], "last loss": losses["graph"][-2]}


def _distance(one: float, other: float) -> float:
    return abs(one - other)


def epoch(
    clips: int = 84_843,
    samples: int = 16_000,
    batch: int = 256,
    hidden: int = 64,
    cell: str = "lstm",
    epochs: int = 4,
    execution: ExecutionConfig = ExecutionConfig(),  # noqa: B008 - frozen
) -> dict[str, float]:
    """Seconds of one epoch and its parts (medians without the first), of the first, and of what comes before it."""
    corpus = synthetic(clips, min(clips, 256), 35, samples)
    first = planned(corpus, 1, {"optimiser.batch": batch, "model.hidden": hidden, "optimiser.epochs": epochs})[0].config
    config: RunConfig = msgspec.structs.replace(first, model=msgspec.structs.replace(first.model, cell=cell))
    device, began = choose(execution), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, threads(1), computing(device, execution.precision):
        trainer = Trainer(config, corpus, Path(folder), Path(folder), execution=execution)
        before = time.perf_counter() - began
        found = [trainer.train_epoch() for _ in range(epochs)]
    later = found[1:] or found
    medians = {
        name: statistics.median(getattr(record, f"{name}_seconds") for record in later)
        for name in ("epoch", "train", "data", "validation")
    }
    return {**medians, "first": found[0].epoch_seconds, "before": before, "loss": found[-1].train_loss}


def gates(
    clips: int = 7080,
    samples: int = 16_000,
    labels: int = 14,
    epochs: int = 30,
    seeds: int = 5,
    execution: ExecutionConfig = ExecutionConfig(),  # noqa: B008 - frozen
) -> Iterator[tuple[str, float]]:
    """Seconds of each row of the gates study, its seeds together, and of all; the sound is made before."""
    corpus = synthetic(clips, max(labels, clips // 8), labels, samples)
    rows = {run.row: run.config for run in planned(corpus, 1, {"optimiser.epochs": epochs})}
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for row, config in rows.items():
            start = time.perf_counter()
            train(config, corpus, Path(folder), seeds=range(seeds), cache=Path(folder), execution=execution)
            yield row, time.perf_counter() - start
    yield "all", time.perf_counter() - began


def seconds_of_seeds(
    seeds: int,
    clips: int,
    samples: int,
    hidden: int = 64,
    execution: ExecutionConfig = ExecutionConfig(),  # noqa: B008 - frozen
) -> dict[str, float]:
    """Seconds of an epoch's training steps of so many seeds together, batch 64, and of the whole epoch with
    validation; medians without the first two, which compile and capture."""
    corpus = synthetic(clips, min(clips, 128), 14, samples)
    runs = planned(corpus, seeds, {"optimiser.epochs": 5, "model.hidden": hidden})
    own = [run.config for run in runs if run.row == runs[0].row]
    device = choose(execution)
    with tempfile.TemporaryDirectory() as folder, threads(1), computing(device, execution.precision):
        trainers = [Trainer(config, corpus, Path(folder), Path(folder), execution=execution) for config in own]
        together = Together(trainers)
        found = [together.train_epoch() for _ in range(5)]
    steps, whole = (
        [sum(getattr(one, f"{name}_seconds") for one in each) for each in found] for name in ("train", "epoch")
    )
    return {"train": statistics.median(steps[2:]), "epoch": statistics.median(whole[2:]), "first": whole[0]}


def together(
    clips: int = 300,
    samples: int = 16_000,
    epochs: int = 4,
    execution: ExecutionConfig = ExecutionConfig(),  # noqa: B008 - frozen
) -> dict[str, float]:
    """The largest difference of the losses of seeds trained together from those of each trained alone.

    With dropout, which each draws as alone.
    """
    corpus = synthetic(clips, 64, 4, samples)
    config = planned(corpus, 1, {"optimiser.epochs": epochs, "model.dropout": 0.2, "model.hidden": 16})[0].config
    losses = []
    for most in (16, 1):
        how = msgspec.structs.replace(execution, replicates=most)
        with tempfile.TemporaryDirectory() as folder:
            found = train(config, corpus, Path(folder), seeds=range(3), cache=Path(folder), execution=how)
        records = [record for result in found for record in result.history]
        losses.append([figure for record in records for figure in (record.train_loss, record.validation_loss)])
    return {"together - alone": max(map(_distance, *losses)), "last loss": losses[0][-2]}


Made = tuple[int, int, int, int, float]
"""What ``synthetic`` is given."""
FAINT: Made = (1400, 700, 14, 16_000, 150.0)
"""Sound of which not every clip is recognised."""


def accuracy(spec: str | Made, seeds: int, execution: ExecutionConfig, epochs: int) -> Iterator[dict[str, Any]]:
    """Test and validation accuracy of the gates study's LSTM, each seed on the GPU and on the CPU, and the difference.

    The CPU's runs have a process each, while the GPU trains all of its own; dry, of made sound, they follow it.
    """
    corpus = _opened(spec)
    runs = planned(corpus, seeds, {"optimiser.epochs": epochs})
    own = [run.config for run in runs if run.config.model.cell == "lstm"]
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        jobs = [(config, spec, str(Path(folder) / f"cpu-{config.seed}")) for config in own]
        beside = execution.device != "cpu"
        pool = stack.enter_context(get_context("spawn").Pool(len(own))) if beside else None
        waiting = [] if pool is None else [pool.apply_async(_on_cpu, (job,)) for job in jobs]
        began = time.perf_counter()
        told = [config.seed for config in own]
        there = train(own[0], corpus, Path(folder) / "gpu", seeds=told, cache=Path(folder), execution=execution)
        yield {"gpu seconds, all seeds": time.perf_counter() - began, "clips": len(corpus.manifest.clips)}
        apart = []
        for number, result in enumerate(there):
            of_cpu = waiting[number].get(PATIENCE_SECONDS) if waiting else _on_cpu(jobs[number], corpus)
            test, validation = of_cpu
            apart.append(result.test.accuracy - test)
            yield {
                "seed": result.config.seed, "gpu": result.test.accuracy, "cpu": test,
                "gpu_validation": result.validation.accuracy, "cpu_validation": validation,
            }  # fmt: skip
    error = statistics.stdev(apart) / len(apart) ** 0.5 if len(apart) > 1 else math.nan
    yield {"mean difference": statistics.mean(apart), "standard error": error}


def _opened(spec: str | Made) -> Corpus:
    return open_corpus(spec) if isinstance(spec, str) else synthetic(*spec)


def _on_cpu(job: tuple[RunConfig, str | Made, str], corpus: Corpus | None = None) -> tuple[float, float]:
    config, spec, folder = job
    found = corpus if corpus is not None else _opened(spec)
    result = train(config, found, Path(folder), execution=ExecutionConfig(device="cpu"))
    return result.test.accuracy, result.validation.accuracy


def stand_in() -> None:
    """Let the CPU stand for a GPU in this process, on which whole epochs run."""
    device = Device(torch.device("cpu"), "dry", resident=True)
    for module in (replicates, single, trainer, sys.modules[__name__]):
        vars(module)["choose"] = lambda execution: device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("check", "epoch", "gates"), default="epoch")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--clips", type=int, default=84_843, help="of epoch")
    parser.add_argument("--batch", type=int, default=256, help="of epoch")
    parser.add_argument("--epochs", type=int, default=4, help="of epoch")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--no-graph", action="store_true")
    choice = parser.parse_args()
    execution = ExecutionConfig(device=choice.device, precision=choice.precision, cuda_graph=not choice.no_graph)
    sizes = {"clips": choice.clips, "batch": choice.batch, "epochs": choice.epochs} if choice.what == "epoch" else {}
    measure: Callable[..., Any] = {"check": check, "epoch": epoch, "gates": gates}[choice.what]
    found = dict(measure(**sizes, execution=execution))
    about = {"what": choice.what, "device": str(choose(execution)), "precision": choice.precision}
    sys.stdout.write(json.dumps({**about, **found}) + "\n")


if __name__ == "__main__":
    main()
