"""Train models: a config, and a seed or several, in; the folders of finished runs out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, overload

from cello.audio.corpus import Corpus
from cello.training.config import RunConfig
from cello.training.execution import ExecutionConfig
from cello.training.replicates import train_seeds
from cello.training.result import Epoch, RunResult
from cello.training.single import train_one
from cello.training.start import InitialWeights


@overload
def train(
    config: RunConfig,
    corpus: Corpus,
    folder: Path,
    *,
    cache: Path | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    test: bool = True,
    execution: ExecutionConfig = ...,
    start: InitialWeights | None = None,
) -> RunResult: ...


@overload
def train(
    config: RunConfig,
    corpus: Corpus,
    folder: Path,
    *,
    seeds: Sequence[int],
    cache: Path | None = None,
    on_epoch: Callable[[int, Epoch], None] | None = None,
    execution: ExecutionConfig = ...,
    start: InitialWeights | None = None,
) -> list[RunResult]: ...


def train(
    config: RunConfig, corpus: Corpus, folder: Path, *, seeds: Sequence[int] | None = None, **settings: Any
) -> RunResult | list[RunResult]:
    """Train one model on a corpus, choose its weights on validation clips, evaluate the test clips once.

    Without ``test`` the test clips are not evaluated: the result's ``test`` counts none, and there is no
    ``predictions.npz``. Settings are to be chosen by such runs.

    Writes into ``folder``: ``config.json``, ``checkpoint.pt`` after each epoch, and at the end ``model.safetensors``,
    ``predictions.npz`` (test clips: target, prediction, probability of both) and, last, ``result.json``. A folder in
    which this run was interrupted is resumed to the same bits; a finished one is returned as it is. ``execution``
    is how it is computed, on one thread unless it says otherwise; the result records the back end that was used.
    ``start`` are the weights that ``config.initial_weights`` names; they bring the mean and deviation of frames too.

    With ``seeds`` in place of the config's, a run of each is trained in the folder of its id within ``folder``, and
    their results are given in that order; ``on_epoch`` is told the seed, too. On a GPU their steps are made together,
    as ``execution.replicates`` says; each is as if it were alone, and one that fails is told when the others are
    finished.

    Raises:
        TrainingError: the corpus is not the config's, the folder holds another run, or this one without its test, or
            cannot be written.
        DivergenceError: the loss is not finite.
    """
    if seeds is None:
        return train_one(config, corpus, folder, **settings)
    return train_seeds(config, corpus, folder, seeds, **settings)


def trial(
    config: RunConfig,
    corpus: Corpus,
    folder: Path,
    *,
    cache: Path | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    execution: ExecutionConfig = ExecutionConfig(),  # noqa: B008 - frozen
) -> RunResult:
    """A run by which settings are chosen: ``train`` without evaluating the test clips."""
    return train_one(config, corpus, folder, cache=cache, on_epoch=on_epoch, test=False, execution=execution)
