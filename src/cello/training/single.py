"""Begin a run in its folder, and train it alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import torch

from cello.audio.corpus import SPLITS, Corpus, Split
from cello.errors import TrainingError
from cello.files import seal_json, write_whole
from cello.models.config import resolve
from cello.training.checkpoint import DamagedCheckpointError, set_aside
from cello.training.config import RunConfig
from cello.training.device import choose, computing, memory_errors
from cello.training.execution import ExecutionConfig
from cello.training.folder import bring_cell, check_own, keep_cell, writing
from cello.training.result import Epoch, RunResult
from cello.training.start import InitialWeights, check_start
from cello.training.trainer import Trainer

CHOICE_SPLITS: tuple[Split, ...] = ("train", "validation")


def train_one(
    config: RunConfig,
    corpus: Corpus,
    folder: Path,
    *,
    cache: Path | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    test: bool = True,
    execution: ExecutionConfig = ExecutionConfig(),  # noqa: B008 - frozen
    start: InitialWeights | None = None,
) -> RunResult:
    """``run.train`` without seeds."""
    config, finished = begin(config, corpus, folder, start, test=test)
    if finished is not None:
        return finished
    device = choose(execution)
    with threads(execution.threads), computing(device, execution.precision), memory_errors(config, device):
        run = resumed(config, corpus, folder, cache, SPLITS if test else CHOICE_SPLITS, execution, start)
        while run.epoch < config.optimiser.epochs:
            record = run.train_epoch()
            run.keep()
            if on_epoch is not None:
                on_epoch(record)
        result = run.finish()
    (folder / "checkpoint.pt").unlink(missing_ok=True)
    return result


def begin(
    config: RunConfig, corpus: Corpus, folder: Path, start: InitialWeights | None, *, test: bool
) -> tuple[RunConfig, RunResult | None]:
    """Hold a run to its corpus and to what its folder holds, and begin the folder; the run's result where it is there.

    Raises:
        TrainingError: as ``run.train`` says.
    """
    if corpus.manifest.checksum != config.corpus.checksum:
        raise TrainingError(
            f"run {config.id} is for corpus {config.corpus.name!r} with checksum {config.corpus.checksum[:12]}…, but "
            f"the corpus given has {corpus.manifest.checksum[:12]}…: its clips differ; plan the study anew for it"
        )
    bring_cell(folder, config.model)
    if not config.model.equations:
        config = msgspec.structs.replace(config, model=resolve(config.model))
    _check_equations(config)
    with writing(folder):
        finished = check_own(folder, config)
        if finished is not None:
            _check_evaluated(finished, folder, test)
            return config, finished
        check_start(config, start)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "config.json", seal_json(msgspec.json.format(msgspec.json.encode(config), indent=2)))
        keep_cell(folder, config.model)
    return config, None


def resumed(
    config: RunConfig,
    corpus: Corpus,
    folder: Path,
    cache: Path | None,
    splits: tuple[Split, ...],
    execution: ExecutionConfig,
    start: InitialWeights | None,
) -> Trainer:
    """The run at the end of its last whole epoch; at its beginning where the checkpoint is damaged."""
    run = Trainer(config, corpus, folder, cache, splits, execution, start)
    try:
        run.resume()
    except DamagedCheckpointError as error:
        with writing(folder):
            set_aside(folder / "checkpoint.pt", config.id, error.reason)
        run = Trainer(config, corpus, folder, cache, splits, execution, start)
    return run


def _check_evaluated(finished: RunResult, folder: Path, test: bool) -> None:
    if test and not finished.test.clips:
        raise TrainingError(
            f"{str(folder)!r} holds run {finished.run} as a trial, trained without evaluating the test set; choose "
            f"another folder to train it with its test"
        )


def _check_equations(config: RunConfig) -> None:
    """Refuse equations that are not those the run is named after."""
    if resolve(config.model) == config.model:
        return
    raise TrainingError(
        f"run {config.id}: the equations of {config.model.cell!r} have changed since the run was planned "
        f"({config.model.equations}); put them back, or plan the run anew"
    )


@contextmanager
def threads(count: int) -> Iterator[None]:
    """torch on so many threads within, for the sums of a run must not depend on the machine's cores; as before after.

    The random numbers of torch's own generator, which dropout draws from, are given back too.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(before)
