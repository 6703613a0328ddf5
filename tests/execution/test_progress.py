"""A view that miscounts or breaks on a name would mislead, or stop, hours of work."""

from __future__ import annotations

import io

import pytest
from fake_training import epoch_of, result_of
from rich.console import Console

from cello.execution.progress import Bars, Forecast, Lines, Silent, view
from cello.study.config import StudyConfig
from cello.study.plan import plan
from cello.training.config import CorpusRef


def test_lines_tell_each_end_once_with_brackets_left_alone(small: StudyConfig) -> None:
    runs = list(plan(small, CorpusRef(name="x", checksum="0")))
    out = io.StringIO()
    lines = Lines(Console(file=out, width=40), Forecast(runs, 2), done=4, total=10)
    epoch = epoch_of(runs[0].config, 5, 0.0)
    lines.started(runs[0])
    lines.epoch(runs[0], epoch)
    lines.finished(runs[0], result_of(runs[0].config, [epoch]))
    lines.failed(runs[1], "unknown [cell] 'lsmt'")
    first, second, third = out.getvalue().splitlines()
    assert first == "4 of 10 runs are finished, 6 to do on 2 workers"
    assert second.startswith("[5/10] C, seed 0: validation ")
    assert "test" not in out.getvalue()  # nobody is to choose by the test clips, not even when to stop a study
    assert third == "B, seed 0: failed: unknown [cell] 'lsmt'"


def test_bars_show_each_running_run(small: StudyConfig) -> None:
    runs = list(plan(small, CorpusRef(name="x", checksum="0")))
    out = io.StringIO()
    console = Console(file=out, width=120, force_terminal=True)
    bars = Bars(console, Forecast(runs, 2), done=0, total=6)
    try:
        bars.started(runs[0])
        bars.started(runs[1])
        bars.epoch(runs[0], epoch_of(runs[0].config, 3, 0.0))
        with console.capture() as captured:
            console.print(bars.picture())
    finally:
        bars.close()
    text = captured.get()
    assert all(
        part in text for part in ("0/6 runs", "left", "seed 0", "epoch 3/5", "validation", "epoch 0/5", "starting")
    )


def test_time_left_is_work_left_over_workers_but_no_less_than_the_longest_run(small: StudyConfig) -> None:
    runs = list(plan(small, CorpusRef(name="x", checksum="0")))[:2]
    forecast = Forecast(runs, 2)
    assert forecast.seconds_left() is None
    for number in range(1, 6):
        forecast.epoch(runs[0], epoch_of(runs[0].config, number, 0.0))
    alone = forecast.seconds_left()
    assert alone == pytest.approx(forecast.seconds / forecast.work * forecast.left[runs[1].id])
    forecast.over(runs[0])
    forecast.over(runs[1])
    assert forecast.seconds_left() == 0


def test_a_file_gets_lines_and_silence_is_kept(small: StudyConfig, capsys: pytest.CaptureFixture[str]) -> None:
    runs = list(plan(small, CorpusRef(name="x", checksum="0")))
    assert isinstance(view(False, runs, 6, 2), Silent)
    assert capsys.readouterr() == ("", "")
    assert isinstance(view(True, runs, 6, 2), Lines)
    assert capsys.readouterr() == ("", "0 of 6 runs are finished, 6 to do on 2 workers\n")
