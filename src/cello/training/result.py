"""Define the record of a finished run, and check one that was read. Needs no torch."""

from __future__ import annotations

from typing import Literal

import msgspec

from cello.files import DamagedFileError
from cello.training.config import RunConfig

RESULT_FORMAT = 1
FINISHED = ("config.json", "model.safetensors", "predictions.npz", "result.json")
"""The files of a finished run."""
ConditionKind = Literal["snr_db", "shift_ms"]


class SplitMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """One split, all clips counted, in eval mode with the chosen weights. Accuracies are in [0, 1], loss in nats.

    ``word_mean`` is the mean over classes of each class's accuracy.
    """

    clips: int
    loss: float
    accuracy: float
    word_mean: float


NOT_EVALUATED = SplitMetrics(clips=0, loss=0.0, accuracy=0.0, word_mean=0.0)
"""The test metrics of a trial: settings are chosen by it, so its test clips are not evaluated."""


class ConditionMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """The test clips once more, with noise at ``value`` dB below them or moved by ``value`` ms, later if positive."""

    kind: ConditionKind
    value: float
    test: SplitMetrics


class Epoch(msgspec.Struct, frozen=True, kw_only=True):
    """One epoch as it went: ``train_*`` is the running mean in train mode on augmented clips, validation in eval mode.

    ``train_cpu_seconds`` is this process's CPU time for the training steps alone; ``data_seconds`` (wall) is features
    and augmentation made on the fly, ``validation_seconds`` (wall) the evaluation.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    train_seconds: float
    train_cpu_seconds: float
    data_seconds: float
    validation_seconds: float


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a finished run: ``train``, ``validation``, ``test`` never share a column anywhere.

    ``seconds_per_epoch`` is the median over epochs after the first of ``train_cpu_seconds`` (one thread, so CPU time is
    the time on an idle machine); ``wall_seconds_per_epoch`` is the same of ``train_seconds``. ``clips_per_second`` =
    training clips / ``seconds_per_epoch``. ``confusion`` is (C, C) counts on the test clips, rows truth, columns
    prediction; a run that settings are chosen by has none, and its ``test`` is ``NOT_EVALUATED``. ``chosen_epoch``
    counts from 1. ``conditions`` are those that ``config.data`` asks for.
    """

    format: int = RESULT_FORMAT
    run: str
    config: RunConfig
    labels: tuple[str, ...]
    parameters: int
    backend: str
    chosen_epoch: int
    train: SplitMetrics
    validation: SplitMetrics
    test: SplitMetrics
    confusion: tuple[tuple[int, ...], ...]
    seconds_per_epoch: float
    wall_seconds_per_epoch: float
    clips_per_second: float
    total_seconds: float
    hardware: dict[str, str]
    versions: dict[str, str]
    history: tuple[Epoch, ...]
    conditions: tuple[ConditionMetrics, ...] = ()
    device: str = "cpu"
    precision: str = "float32"


LARGEST_COUNT = 2**53


def check_possible(result: RunResult) -> None:
    """Hold a record that was read to what training can have measured.

    Raises:
        DamagedFileError: an accuracy outside [0, 1], a count below 0, a table of another shape than its labels.
    """
    measured = [result.train, result.validation, result.test, *(condition.test for condition in result.conditions)]
    shares = [share for split in measured for share in (split.accuracy, split.word_mean)]
    counts = [split.clips for split in measured] + [count for row in result.confusion for count in row]
    counts += [epoch.epoch for epoch in result.history]
    times = (result.seconds_per_epoch, result.wall_seconds_per_epoch, result.clips_per_second, result.total_seconds)
    if not all(0 <= share <= 1 for share in shares):
        raise DamagedFileError("an accuracy is not in [0, 1]")
    if not all(0 <= count <= LARGEST_COUNT for count in (*counts, result.parameters, result.chosen_epoch)):
        raise DamagedFileError("a count is below 0 or beyond any")
    if min(*times, *(split.loss for split in measured)) < 0:
        raise DamagedFileError("a time or a loss is below 0")
    if result.confusion and {len(result.labels)} != {len(result.confusion), *map(len, result.confusion)}:
        raise DamagedFileError(f"its confusion matrix is not of its {len(result.labels)} labels")
