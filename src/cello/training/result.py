"""Define the record of a finished run, and check one that was read. Needs no torch."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Literal

import msgspec

from cello.files import DamagedFileError
from cello.training.config import RunConfig

RESULT_FORMAT = 1
FINISHED = ("config.json", "model.safetensors", "predictions.npz", "result.json")
"""The files of a finished run."""
ConditionKind = Literal["snr_db", "shift_ms", "lost_frames"]


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
    """The test clips once more: with noise at ``value`` dB below them, moved by ``value`` ms, later if positive, or
    with this share of their frames lost."""

    kind: ConditionKind
    value: float
    test: SplitMetrics


class Epoch(msgspec.Struct, frozen=True, kw_only=True):
    """One epoch as it went: ``train_*`` is the running mean in train mode on augmented clips, validation in eval mode.

    ``train_seconds`` (wall) and ``train_cpu_seconds`` (CPU time of the thread that trains) are of the training steps
    alone: forward, backward and update, without the making of batches. ``data_seconds`` (wall) is the time that this
    thread spends on making augmented batches or waiting for them, ``validation_seconds`` (wall) the evaluation.

    The whole epoch is everything from the first batch's making to the validation's end: ``epoch_seconds`` is its wall
    time, ``epoch_cpu_seconds`` the CPU time of the process meanwhile, all threads. The checkpoint is in neither.
    Records from before these fields have no ``epoch_cpu_seconds``; their ``epoch_seconds``, 0 as read, becomes the sum
    of the three phases, which then followed one another without a gap.
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
    epoch_seconds: float = 0.0
    epoch_cpu_seconds: float | None = None

    def __post_init__(self) -> None:
        if not self.epoch_seconds:
            whole = self.train_seconds + self.data_seconds + self.validation_seconds
            msgspec.structs.force_setattr(self, "epoch_seconds", whole)


class StartRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a run started from: the id of a run, and which of its own labels began with that run's weights.

    ``drawn`` are its labels that the other run did not have, ``left`` those that the other run had and it has not.
    """

    run: str
    kept: tuple[str, ...]
    drawn: tuple[str, ...]
    left: tuple[str, ...]


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a finished run: ``train``, ``validation``, ``test`` never share a column anywhere.

    ``seconds_per_epoch`` is the median over epochs after the first of ``train_cpu_seconds`` (one thread, so CPU time is
    the time on an idle machine); ``wall_seconds_per_epoch`` is the same of ``train_seconds``. ``clips_per_second`` =
    training clips / ``seconds_per_epoch``. This is what published studies call the time of an epoch.

    ``epoch_seconds`` is the median over the same epochs of the whole epoch's wall time (augmentation, features,
    training steps, validation), ``epoch_cpu_seconds`` that of its CPU time over all threads, None where no epoch has
    one, and ``epoch_clips_per_second`` = training clips / ``epoch_seconds``. Where ``epoch_seconds`` is 0, as in
    records from before these fields, all three are computed from ``history``; without a history they stay 0 and None.

    ``confusion`` is (C, C) counts on the test clips, rows truth, columns
    prediction; a run that settings are chosen by has none, and its ``test`` is ``NOT_EVALUATED``. ``chosen_epoch``
    counts from 1. ``conditions`` are those that ``config.data`` asks for.

    ``device`` is cpu or cuda:N, ``device_reason`` why it was that one, and ``precision`` that of matrix products. Of a
    GPU, ``hardware`` has the name (gpu), the driver and the CUDA version of torch; there ``seconds_per_epoch`` is wall
    time, as ``wall_seconds_per_epoch`` is, and training steps include features and augmentation.

    ``start`` says which weights of another run it began with, those of ``config.initial_weights``; None where it began
    at random, and of a run made before Cello kept it.
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
    device_reason: str = ""
    epoch_seconds: float = 0.0
    epoch_cpu_seconds: float | None = None
    epoch_clips_per_second: float = 0.0
    start: StartRecord | None = None

    def __post_init__(self) -> None:
        if self.epoch_seconds or not self.history:
            return
        epochs = warm(self.history)
        seconds = statistics.median(epoch.epoch_seconds for epoch in epochs)
        cpu = [epoch.epoch_cpu_seconds for epoch in epochs if epoch.epoch_cpu_seconds is not None]
        msgspec.structs.force_setattr(self, "epoch_seconds", seconds)
        msgspec.structs.force_setattr(self, "epoch_cpu_seconds", statistics.median(cpu) if cpu else None)
        if seconds > 0:
            msgspec.structs.force_setattr(self, "epoch_clips_per_second", self.train.clips / seconds)


def warm(history: Sequence[Epoch]) -> Sequence[Epoch]:
    """The epochs after the first, which warms up; the first where there is no other."""
    return history[1:] or history


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
    whole = (result.epoch_seconds, result.epoch_cpu_seconds or 0.0, result.epoch_clips_per_second)
    if not all(0 <= share <= 1 for share in shares):
        raise DamagedFileError("an accuracy is not in [0, 1]")
    if not all(0 <= count <= LARGEST_COUNT for count in (*counts, result.parameters, result.chosen_epoch)):
        raise DamagedFileError("a count is below 0 or beyond any")
    if min(*times, *whole, *(split.loss for split in measured)) < 0:
        raise DamagedFileError("a time or a loss is below 0")
    if result.confusion and {len(result.labels)} != {len(result.confusion), *map(len, result.confusion)}:
        raise DamagedFileError(f"its confusion matrix is not of its {len(result.labels)} labels")
