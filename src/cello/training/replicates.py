"""Train several seeds of one config: together on a GPU, one after the other on the CPU, each as if it were alone."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch

from cello.audio.corpus import SPLITS, Corpus
from cello.errors import ConfigError, TrainingError
from cello.models.direction import TORCH_LAYERS
from cello.training.config import RunConfig
from cello.training.device import choose, computing, out_of_memory
from cello.training.execution import ExecutionConfig
from cello.training.result import Epoch, RunResult
from cello.training.single import begin, resumed, threads, train_one
from cello.training.start import InitialWeights
from cello.training.trainer import Together, Trainer

ConfiguredRun = tuple[RunConfig, Path]
"""A run and its folder."""


class SharedSettings(NamedTuple):
    """What several runs have in common."""

    corpus: Corpus
    cache: Path | None
    execution: ExecutionConfig
    start: InitialWeights | None
    on_epoch: Callable[[RunConfig, Epoch], None] | None


def train_seeds(
    config: RunConfig,
    corpus: Corpus,
    folder: Path,
    seeds: Sequence[int],
    *,
    cache: Path | None = None,
    on_epoch: Callable[[int, Epoch], None] | None = None,
    execution: ExecutionConfig = ExecutionConfig(),  # noqa: B008 - frozen
    start: InitialWeights | None = None,
) -> list[RunResult]:
    """``run.train`` with seeds: the run of each in the folder of its id in ``folder``.

    Raises:
        ConfigError: no seeds, or one twice.
        TrainingError: runs that failed, when all others are finished.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds={list(seeds)} is invalid: give at least one, and each once")
    configs = [msgspec.structs.replace(config, seed=seed) for seed in seeds]
    told = None if on_epoch is None else (lambda of, epoch: on_epoch(of.seed, epoch))
    runs = [(one, folder / one.id) for one in configs]
    found = train_together(runs, corpus, cache=cache, on_epoch=told, execution=execution, start=start)
    results = [one for one in found if isinstance(one, RunResult)]
    faults = [one for one in found if isinstance(one, TrainingError)]
    if len(faults) == 1 == len(seeds):
        raise faults[0]
    if faults:
        others = f"; the other {len(results)} are finished in {str(folder)!r}" if results else ""
        raise TrainingError(f"{len(faults)} of {len(seeds)} seeds failed{others}: {faults[0]}") from faults[0]
    return results


def train_together(
    runs: Sequence[ConfiguredRun],
    corpus: Corpus,
    *,
    cache: Path | None = None,
    on_epoch: Callable[[RunConfig, Epoch], None] | None = None,
    execution: ExecutionConfig = ExecutionConfig(),  # noqa: B008 - frozen
    start: InitialWeights | None = None,
) -> list[RunResult | TrainingError]:
    """Train runs that differ in the seed alone; the result of each, or why it failed, which stops no other.

    Raises:
        ConfigError: the device asked for cannot be used.
    """
    shared = SharedSettings(corpus, cache, execution, start, on_epoch)
    most = execution.most_replicates
    together = choose(execution).resident and runs[0][0].model.cell not in TORCH_LAYERS
    if most == 1 or not together:
        return [_alone(run, shared) for run in runs]
    found: list[RunResult | TrainingError] = []
    for first in range(0, len(runs), most):
        found += _group(runs[first : first + most], shared)
    return found


def _alone(run: ConfiguredRun, shared: SharedSettings) -> RunResult | TrainingError:
    (config, folder), told = run, shared.on_epoch
    try:
        return train_one(
            config, shared.corpus, folder, cache=shared.cache, execution=shared.execution, start=shared.start,
            on_epoch=None if told is None else (lambda epoch: told(config, epoch)),
        )  # fmt: skip
    except TrainingError as error:
        return error


def _group(runs: Sequence[ConfiguredRun], shared: SharedSettings) -> list[RunResult | TrainingError]:
    """Runs at a time; where they do not fit into the memory of the GPU, half of them after the other half."""
    if len(runs) == 1:
        return [_alone(runs[0], shared)]
    try:
        return _Group(runs, shared).train()
    except RuntimeError as error:
        if "vmap" in str(error):
            return _one_by_one(runs, shared, error)
        if not out_of_memory(error):
            raise
    # out of the except block, whose traceback holds all that is on the GPU
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half, device = (len(runs) + 1) // 2, choose(shared.execution).torch
    warnings.warn(
        f"{len(runs)} seeds of {runs[0][0].model.cell} do not fit into the memory of {device} "
        f"together, so {half} at a time are trained; execution.replicates={half} asks for that",
        stacklevel=2,
    )
    return [found for part in (runs[:half], runs[half:]) for found in _group(part, shared)]


def _one_by_one(
    runs: Sequence[ConfiguredRun], shared: SharedSettings, error: Exception
) -> list[RunResult | TrainingError]:
    """Runs of a model with an operation that torch cannot compute for several at once."""
    warnings.warn(
        f"the seeds of {runs[0][0].model.cell} cannot be trained together ({str(error).splitlines()[0].rstrip('.')}), "
        "so each is trained alone; execution.replicates=1 asks for that",
        stacklevel=3,
    )
    return [_alone(run, shared) for run in runs]


class _Group:
    """Trains some runs at once, those that are behind first; each is kept, resumed and finished as one alone is."""

    def __init__(self, runs: Sequence[ConfiguredRun], shared: SharedSettings) -> None:
        self.runs, self.shared, self.device = runs, shared, choose(shared.execution)
        self.results: dict[int, RunResult | TrainingError] = {}
        self.together: Together | None = None

    def train(self) -> list[RunResult | TrainingError]:
        execution = self.shared.execution
        with threads(execution.threads), computing(self.device, execution.precision):
            trainers = {row: trainer for row in range(len(self.runs)) if (trainer := self._begun(row)) is not None}
            while trainers:
                behind = min(trainer.epoch for trainer in trainers.values())
                if behind == self.runs[0][0].optimiser.epochs:
                    break
                self._train_epoch({row: one for row, one in trainers.items() if one.epoch == behind})
                trainers = {row: one for row, one in trainers.items() if row not in self.results}
            for row, trainer in trainers.items():
                self._finish(row, trainer)
        return [self.results[row] for row in range(len(self.runs))]

    def _begun(self, row: int) -> Trainer | None:
        """A run at its last whole epoch's end; none where it is finished, or cannot begin."""
        (asked, folder), (corpus, cache, execution, start, _) = self.runs[row], self.shared
        try:
            config, finished = begin(asked, corpus, folder, start, test=True)
            if finished is None:
                return resumed(config, corpus, folder, cache, SPLITS, execution, start)
            self.results[row] = finished
        except TrainingError as error:
            self.results[row] = error
        return None

    def _train_epoch(self, trainers: dict[int, Trainer]) -> None:
        own = [*trainers.values()]
        if self.together is not None and self.together.trainers != own:
            self.together.release()  # before others take its memory
            self.together = None
        if self.together is None:
            self.together = Together(own)
        for (row, trainer), record in zip(trainers.items(), self.together.train_epoch(), strict=True):
            try:
                if isinstance(record, TrainingError):
                    raise record
                trainer.keep()
                if self.shared.on_epoch is not None:
                    self.shared.on_epoch(self.runs[row][0], record)
            except TrainingError as error:
                self.results[row] = error

    def _finish(self, row: int, trainer: Trainer) -> None:
        try:
            self.results[row] = trainer.finish()
        except TrainingError as error:
            self.results[row] = error
        else:
            (self.runs[row][1] / "checkpoint.pt").unlink(missing_ok=True)
