"""Show the progress of a study: bars on a terminal, one line per run elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cello.study.plan import PlannedRun, cost
from cello.terminal import Stream, Terminal, clock, counted, escaped, one_line
from cello.training.result import Epoch, RunResult


class View(Protocol):
    """What shows progress."""

    def started(self, run: PlannedRun) -> None: ...
    def epoch(self, run: PlannedRun, epoch: Epoch) -> None: ...
    def finished(self, run: PlannedRun, result: RunResult) -> None: ...
    def failed(self, run: PlannedRun, reason: str) -> None: ...
    def close(self) -> None: ...


class Forecast:
    """Time left, from how long the epochs so far took: seconds per unit of ``cost``, spread over the workers."""

    def __init__(self, todo: list[PlannedRun], workers: int) -> None:
        self.left = {run.id: cost(run.config) for run in todo}
        self.workers = workers
        self.seconds = 0.0
        self.work = 0.0

    def epoch(self, run: PlannedRun, epoch: Epoch) -> None:
        whole, epochs = cost(run.config), run.config.optimiser.epochs
        self.seconds += epoch.epoch_seconds
        self.work += whole / epochs
        self.left[run.id] = whole * (1 - min(epoch.epoch, epochs) / epochs)

    def over(self, run: PlannedRun) -> None:
        self.left.pop(run.id, None)

    def seconds_left(self) -> float | None:
        """None before the first epoch; never less than the longest run that is left, for one run is on one worker."""
        if not self.work:
            return None
        each = self.seconds / self.work
        return each * max(sum(self.left.values()) / self.workers, max(self.left.values(), default=0.0))


class Silent:
    """Shows nothing."""

    def started(self, run: PlannedRun) -> None: ...
    def epoch(self, run: PlannedRun, epoch: Epoch) -> None: ...
    def finished(self, run: PlannedRun, result: RunResult) -> None: ...
    def failed(self, run: PlannedRun, reason: str) -> None: ...
    def close(self) -> None: ...


class Lines:
    """One line when a run ends, for logs."""

    def __init__(self, console: Console, forecast: Forecast, done: int, total: int) -> None:
        self.console, self.forecast, self.done, self.total = console, forecast, done, total
        self._say(f"{done} of {total} runs are finished, {total - done} to do on {counted(forecast.workers, 'worker')}")

    def started(self, run: PlannedRun) -> None: ...

    def epoch(self, run: PlannedRun, epoch: Epoch) -> None:
        self.forecast.epoch(run, epoch)

    def finished(self, run: PlannedRun, result: RunResult) -> None:
        self.forecast.over(run)
        self.done += 1
        self._say(  # no test accuracy: whoever stops or changes a study by it has chosen by the test clips
            f"[{self.done}/{self.total}] {one_line(run)}: validation {result.validation.accuracy:.1%}, "
            f"{clock(result.total_seconds)}; {clock(self.forecast.seconds_left())} left"
        )

    def failed(self, run: PlannedRun, reason: str) -> None:
        self.forecast.over(run)
        self._say(f"{one_line(run)}: failed: {reason}")

    def close(self) -> None: ...

    def _say(self, line: str) -> None:
        self.console.print(Text(escaped(line)), soft_wrap=True)


class Bars:
    """All of the study on one bar and a line for each run that is under way; what ended scrolls off above."""

    def __init__(self, console: Console, forecast: Forecast, done: int, total: int) -> None:
        self.lines = Lines(console, forecast, done, total)
        self.forecast, self.total = forecast, total
        self.began = time.monotonic()
        self.running: dict[str, tuple[PlannedRun, Epoch | None]] = {}
        self.live = Live(console=console, get_renderable=self.picture, refresh_per_second=4, transient=True)
        self.live.start()

    def started(self, run: PlannedRun) -> None:
        self.running[run.id] = run, None

    def epoch(self, run: PlannedRun, epoch: Epoch) -> None:
        self.forecast.epoch(run, epoch)
        self.running[run.id] = run, epoch

    def finished(self, run: PlannedRun, result: RunResult) -> None:
        self.running.pop(run.id, None)
        self.lines.finished(run, result)

    def failed(self, run: PlannedRun, reason: str) -> None:
        self.running.pop(run.id, None)
        self.lines.failed(run, reason)

    def close(self) -> None:
        self.live.stop()

    def picture(self) -> RenderableType:
        """The overall line above one line per running run."""
        done, left = self.lines.done, clock(self.forecast.seconds_left())
        head = Table.grid(padding=(0, 2))
        spent = clock(time.monotonic() - self.began)
        head.add_row(_bar(done, self.total), f"{done}/{self.total} runs", f"{spent} so far", f"{left} left")
        body = Table.grid(padding=(0, 2))
        for run, epoch in list(self.running.values()):
            body.add_row(*_line(run, epoch))
        return Group(head, body)


def _line(run: PlannedRun, epoch: Epoch | None) -> tuple[RenderableType, ...]:
    now, epochs = epoch.epoch if epoch else 0, run.config.optimiser.epochs
    accuracy = f"validation {epoch.validation_accuracy:.1%}" if epoch else "starting"
    which = f"seed {run.seed}, fold {run.fold}" if run.fold else f"seed {run.seed}"
    names = Text(one_line(run.row)), Text(one_line(run.column)), Text(one_line(which))
    return *names, _bar(now, epochs), f"epoch {now}/{epochs}", accuracy


def _bar(done: float, total: float) -> ProgressBar:
    return ProgressBar(total=total, completed=done, width=24)


def view(show: bool, todo: list[PlannedRun], total: int, workers: int) -> View:
    """Bars on a terminal, lines elsewhere, nothing if not asked for; both go to standard error."""
    if not show:
        return Silent()
    console = Terminal(file=Stream(sys.stderr, needed=False))
    kind = Bars if console.is_terminal else Lines
    return kind(console, Forecast(todo, workers), total - len(todo), total)
