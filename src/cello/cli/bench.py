"""Measure cells on this machine: `cello bench`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from tyro.conf import Positional, UseAppendAction, arg

from cello.bench import settings as bench
from cello.terminal import bars, one_line, say


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measure cells on this machine: forward and backward through every back end, beside torch's own layers."""

    what: Annotated[Positional[Literal["cells"]], arg(help="what is measured")]
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
    rounds: Annotated[int, arg(help="how often each is timed, after 2 times to warm up")] = bench.BenchConfig.rounds
    dtype: bench.DType = bench.BenchConfig.dtype
    x_gradient: Annotated[bool, arg(help="also the gradient of the frames, which a layer above the first needs")] = (
        False
    )
    out: Annotated[Path | None, arg(help="also write everything to this file, as JSON")] = None

    def run(self, console: Console) -> None:
        from cello.bench.measure import machine, run
        from cello.bench.record import can_save, save
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
        with bars(console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("", total=None)

            def start(what: str, total: int) -> None:
                progress.update(task, description=one_line(what), total=total)

            try:
                record = run(settings, about, on_start=start, on_round=lambda: progress.advance(task))
            except KeyboardInterrupt:
                raise KeyboardInterrupt("stopped; nothing was saved, and the same command starts again") from None
        show(record, console)
        if self.out:
            save(record, self.out)
            say(console, str(self.out))
