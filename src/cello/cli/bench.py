"""Measure cells and features on this machine: `cello bench`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from tyro.conf import OmitArgPrefixes, UseAppendAction, arg, subcommand

from cello.bench import settings as bench
from cello.terminal import bars, one_line, say

Format = Annotated[Literal["table", "json"], arg(help="how it is printed")]
Out = Annotated[Path | None, arg(help="also write everything to this file, as JSON")]
Rounds = Annotated[int, arg(help="how often each is timed, after 2 times to warm up")]


@dataclass(frozen=True, kw_only=True)
class BenchCells:
    """Measure cells on this machine: forward and backward through every back end, beside torch's own layers."""

    cell: Annotated[
        UseAppendAction[tuple[tuple[str, ...], ...]],
        arg(help=f"cells of the zoo, or FILE.py:NAME; by default {' '.join(bench.CELLS)}", metavar="CELL ..."),
    ] = ()
    sizes: Annotated[
        UseAppendAction[tuple[tuple[str, ...], ...]],
        arg(
            help="clips, frames, features of a frame, hidden units, as BxTxDxH; by default "
            + " ".join(str(size).replace("×", "x") for size in bench.SIZES),
            metavar="BxTxDxH ...",
        ),
    ] = ()
    threads: Annotated[
        UseAppendAction[tuple[tuple[int, ...], ...]],
        arg(help="torch's threads, each number in turn; 1 by default", metavar="N ..."),
    ] = ()
    rounds: Rounds = bench.BenchConfig.rounds
    dtype: bench.DType = bench.BenchConfig.dtype
    x_gradient: Annotated[bool, arg(help="also the gradient of the frames, which a layer above the first needs")] = (
        False
    )
    format: Format = "table"
    out: Out = None

    def run(self, console: Console) -> None:
        from cello.bench.measure import machine, run
        from cello.bench.record import can_save
        from cello.bench.table import show
        from cello.compiler.memory import keep_freed_memory

        settings = bench.BenchConfig(
            cells=sum(self.cell, ()) or bench.CELLS,
            sizes=tuple(bench.parse_size(text) for text in sum(self.sizes, ())) or bench.SIZES,
            threads=sum(self.threads, ()) or bench.BenchConfig.threads,
            rounds=self.rounds,
            dtype=self.dtype,
            x_gradients=(self.x_gradient,),
        )
        if self.out:
            can_save(self.out)
        about = machine(keeps_memory=keep_freed_memory())
        with _progress(console) as (start, on_round):
            record = run(settings, about, on_start=start, on_round=on_round)
        _tell(record, lambda: show(record, console), self.format, self.out, console)


@dataclass(frozen=True, kw_only=True)
class BenchFeatures:
    """Measure MFCC, alone and with augmentation, on one thread of this machine, beside librosa and torchaudio.

    Each of the two is measured only where it is installed.
    """

    window: Annotated[
        UseAppendAction[tuple[tuple[float, ...], ...]],
        arg(help="windows in ms; by default " + " ".join(f"{w:g}" for w in bench.WINDOWS_MS), metavar="MS ..."),
    ] = ()
    clips: Annotated[int, arg(help="clips of one second in a round")] = bench.FeatureBenchConfig.clips
    rounds: Rounds = bench.FeatureBenchConfig.rounds
    format: Format = "table"
    out: Out = None

    def run(self, console: Console) -> None:
        from cello.bench.feature_table import show_features
        from cello.bench.features import run
        from cello.bench.measure import machine
        from cello.bench.record import can_save
        from cello.compiler.memory import keep_freed_memory

        settings = bench.FeatureBenchConfig(
            windows_ms=sum(self.window, ()) or bench.WINDOWS_MS, clips=self.clips, rounds=self.rounds
        )
        if self.out:
            can_save(self.out)
        about = machine(keeps_memory=keep_freed_memory())
        with _progress(console) as (start, on_round):
            record = run(settings, about, on_start=start, on_round=on_round)
        _tell(record, lambda: show_features(record, console), self.format, self.out, console)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measure on this machine: cells through every back end, or features, beside other libraries."""

    action: OmitArgPrefixes[
        Annotated[BenchCells, subcommand("cells", prefix_name=False)]
        | Annotated[BenchFeatures, subcommand("features", prefix_name=False)]
    ]

    def run(self, console: Console) -> None:
        self.action.run(console)


@contextmanager
def _progress(console: Console) -> Iterator[tuple[Callable[[str, int], None], Callable[[], None]]]:
    """What is called at the start of each part, with the number of all rounds, and after each round."""
    with bars(console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)

        def start(what: str, total: int) -> None:
            progress.update(task, description=one_line(what), total=total)

        try:
            yield start, lambda: progress.advance(task)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("stopped; nothing was saved, and the same command starts again") from None


def _tell(record: object, show: Callable[[], None], form: str, out: Path | None, console: Console) -> None:
    """Print a record as tables or as JSON, and save it where asked; JSON is alone on standard output."""
    from cello.bench.record import as_json, save

    if form == "json":
        say(console, as_json(record).decode())
    else:
        show()
    if out:
        save(record, out)
        if form != "json":
            say(console, str(out))
