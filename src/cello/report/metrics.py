"""Define the figures of a report: name, value of a run, mean over seeds with interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

from cello.statistics.means import CONFIDENCE, FEW_SEEDS, t_interval
from cello.training.result import RunResult

PERCENT = "Accuracy, %"
WHOLE_EPOCH = "Whole epoch"
UNRECORDED = "–"
EQUAL = 1e-12  # a spread of this share of the mean is of its rounding
LARGE = 1e9  # figures from here on have a power of ten
SAME = "‡"
SAME_NOTE = f" {SAME} marks a figure that is the same in all its runs, from which no interval can be estimated."
CUT_OFF = " Where ± would reach beyond 0 or 100 %, the interval itself stands in brackets, cut off there."


class Interval(NamedTuple):
    """A mean over n seeds; ``half`` is half the width of its interval, None from a single seed."""

    mean: float
    half: float | None
    n: int

    @property
    def indicative(self) -> bool:
        """Fewer than five seeds: the interval itself is uncertain."""
        return self.n < FEW_SEEDS


def interval(values: Iterable[float]) -> Interval:
    """Mean and 95 % t-interval, mean ± t(0.975, n − 1) · s / √n, of independent values (one a seed).

    Raises:
        ValueError: no value at all.

    >>> interval([94.0, 95.0, 96.0])
    Interval(mean=95.0, half=2.484..., n=3)
    >>> interval([94.0])
    Interval(mean=94.0, half=None, n=1)
    """
    numbers = [float(v) for v in values]
    try:
        return Interval(*t_interval(numbers, CONFIDENCE), len(numbers))
    except (OverflowError, ValueError) as error:
        if not numbers:
            raise ValueError(str(error)) from error
        return Interval(math.nan, math.nan, len(numbers))  # sums beyond all floating-point numbers, or inf − inf


class Metric(NamedTuple):
    """One figure of a run: its name in files and in sentences, its heading under a group's, how it is printed."""

    key: str
    name: str
    group: str
    title: str
    decimals: int
    value: Callable[[RunResult], float]

    def over(self, runs: Iterable[RunResult]) -> Interval:
        return interval(self.value(r) for r in runs)

    def text(self, runs: Iterable[RunResult]) -> str:
        found = self.over(runs)
        if self.group == WHOLE_EPOCH and math.isnan(found.mean):
            return UNRECORDED
        return text(found, self.decimals, self.group == PERCENT)

    def told(self, runs: Iterable[RunResult], unit: str) -> str:
        """The figure in a sentence, with its unit."""
        found = self.text(runs := tuple(runs))
        if found.endswith(SAME):
            return f"{found.removesuffix(SAME).strip()} {unit} (the same in all {len(runs)} runs)"
        return f"{found} {unit}"

    def cut(self, runs: Iterable[RunResult]) -> bool:
        """Whether the interval would leave 0 to 100 %."""
        return self.group == PERCENT and leaves(self.over(runs), self.decimals)


def text(value: Interval, decimals: int, share: bool = False) -> str:
    """A mean with its interval as people read it; that of a ``share`` in per cent ends at 0 and 100.

    Runs that happen to agree do not show that there is no uncertainty: their mean has a mark and no interval.

    >>> text(Interval(95.0, 2.4841, 3), 2), text(Interval(98.0, 2.4841, 3), 2, share=True)
    ('95.00 ± 2.48', '98.00 (95.52 to 100.00)')
    >>> text(Interval(95.0, 0.0, 3), 2), text(Interval(1.5, 0.003, 3), 2)
    ('95.00 ‡', '1.50 ± <0.01')
    """
    if not math.isfinite(value.mean):
        return "not finite"
    mean = f"{value.mean:,.{decimals}f}" if abs(value.mean) < LARGE else f"{value.mean:.4g}"
    if value.half is None:
        return mean
    if not math.isfinite(value.half):
        return f"{mean}, its interval not finite"
    if value.half <= EQUAL * max(abs(value.mean), 1.0):
        return f"{mean} {SAME}"
    if value.half < 0.5 * 10**-decimals:
        return f"{mean} ± <{10**-decimals:.{decimals}f}"
    if share and leaves(value, decimals):
        low, high = max(value.mean - value.half, 0.0), min(value.mean + value.half, 100.0)
        return f"{mean} ({low:.{decimals}f} to {high:.{decimals}f})"
    return f"{mean} ± {value.half:,.{decimals}f}" if value.half < LARGE else f"{mean} ± {value.half:.4g}"


def leaves(value: Interval, decimals: int) -> bool:
    """Whether mean ± half, as they are printed, is beyond 0 or 100."""
    if value.half is None:
        return False
    mean, half = round(value.mean, decimals), round(value.half, decimals)
    return mean + half > 100 + 1e-9 or mean - half < -1e-9


ACCURACY = (
    Metric("train_accuracy", "train accuracy, %", PERCENT, "train", 2, lambda r: 100 * r.train.accuracy),
    Metric(
        "validation_accuracy", "validation accuracy, %", PERCENT, "validation", 2, lambda r: 100 * r.validation.accuracy
    ),
    Metric("test_accuracy", "test accuracy, %", PERCENT, "test", 2, lambda r: 100 * r.test.accuracy),
    Metric(
        "test_word_mean",
        "test accuracy, per-word mean, %",
        PERCENT,
        "test, per-word mean",
        2,
        lambda r: 100 * r.test.word_mean,
    ),
)
LOSS = (
    Metric("train_loss", "train loss, nats", "Loss, nats", "train", 3, lambda r: r.train.loss),
    Metric("validation_loss", "validation loss, nats", "Loss, nats", "validation", 3, lambda r: r.validation.loss),
    Metric("test_loss", "test loss, nats", "Loss, nats", "test", 3, lambda r: r.test.loss),
)
COST = (
    Metric("seconds_per_epoch", "seconds per epoch", "Training", "s / epoch", 2, lambda r: r.seconds_per_epoch),
    Metric("clips_per_second", "clips per second", "Training", "clips / s", 0, lambda r: r.clips_per_second),
)
WHOLE = (
    Metric(
        "epoch_seconds",
        "seconds per whole epoch",
        WHOLE_EPOCH,
        "s / epoch",
        2,
        lambda r: r.epoch_seconds or math.nan,  # 0: not recorded
    ),
    Metric(
        "epoch_clips_per_second",
        "clips per second, whole epoch",
        WHOLE_EPOCH,
        "clips / s",
        0,
        lambda r: r.epoch_clips_per_second or math.nan,
    ),
    Metric(
        "epoch_cpu_seconds",
        "CPU seconds per whole epoch",
        WHOLE_EPOCH,
        "CPU s / epoch",
        2,
        lambda r: math.nan if r.epoch_cpu_seconds is None else r.epoch_cpu_seconds,
    ),
)
METRICS = ACCURACY + LOSS + COST + WHOLE
BY_KEY = {metric.key: metric for metric in METRICS}
