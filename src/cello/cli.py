"""The command line: parse → one library call → print. Heavy imports stay inside the commands."""

from __future__ import annotations

import gc
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Protocol, get_args, get_type_hints

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional, UseAppendAction, arg, subcommand

import cello
from cello.bench import settings as bench
from cello.cli_arguments import (
    Names,
    cache_of,
    check,
    doing,
    misspelt,
    settings_folders,
    wide_enough,
    without_traceback,
)
from cello.cli_corpus import Corpus
from cello.cli_faults import FAILED, FAULT, INTERRUPTED, PIPE, USAGE, outcome
from cello.cli_sound import described
from cello.cli_store import Export, Merge
from cello.cli_study import Study
from cello.cli_train import Train
from cello.cli_tune import Tune
from cello.terminal import OutputError, Terminal, bars, one_line, say, streams

Format = Literal["md", "html", "csv", "latex", "json", "notebook"]
Target = Literal["equations", "latex", "graph", "c"]


class Command(Protocol):
    """What every command is: its arguments, and what it does with them."""

    def run(self, console: Console) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write the report of a study again, as far as its runs have come."""

    folder: Annotated[Positional[Path], arg(help="a study's output folder, or the folder of one run", metavar="DIR")]
    format: Annotated[
        UseAppendAction[tuple[Format, ...]],
        arg(help="repeat for several; all by default, of more than 1,000 runs without json and notebook"),
    ] = ()
    out: Annotated[Path | None, arg(help="where to write; DIR/report by default")] = None
    execute: Annotated[
        bool, arg(help="execute the notebook of a study that was not made here too"), FlagCreatePairsOff
    ] = False

    def run(self, console: Console) -> None:
        from cello.report.write import LEFT_OUT, NOT_EXECUTED, write_report
        from cello.study.made import is_made

        gc.freeze()  # imports stay: no need to look through them for garbage while thousands of runs are read
        execute = self.execute or is_made(self.folder)
        written = write_report(self.folder, formats=self.format, out=self.out, execute=execute)
        for path in written:
            say(console, str(path))
        if not execute and any(path.suffix == ".ipynb" for path in written):
            say(console, NOT_EXECUTED)
        if not self.format and all(path.suffix != ".ipynb" for path in written):
            say(console, LEFT_OUT)


@dataclass(frozen=True, kw_only=True)
class CellList:
    """List the zoo: every cell, its states, its parameters at D = 39 and H = 64, its paper."""

    def run(self, console: Console) -> None:
        from cello.cells.load import zoo

        table = Table("cell", "states", "parameters", "paper", title="parameters at D = 39, H = 64")
        for name, cell in zoo().items():
            table.add_row(name, " ".join(cell.states), f"{cell.parameter_count(39, 64):,}", cell.reference)
        console.print(table)


@dataclass(frozen=True, kw_only=True)
class CellShow:
    """Print a cell's equations, LaTeX, graph or C kernel."""

    name: Annotated[Positional[str], arg(help="a cell of the zoo, or FILE.py:NAME", metavar="CELL")]
    target: Target = "equations"

    def run(self, console: Console) -> None:
        from cello.cells.load import load_cell
        from cello.compiler.render import render

        console.print(render(load_cell(self.name), self.target), markup=False, highlight=False, soft_wrap=True)


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
            help="clips, frames, numbers of a frame, units, as BxTxDxH; by default "
            + " ".join(str(size).replace("×", "x") for size in bench.SIZES),
            metavar="BxTxDxH ...",
        ),
    ] = ()
    threads: Annotated[
        UseAppendAction[tuple[tuple[int, ...], ...]],
        arg(help="torch's threads, each number in turn; 1 by default", metavar="N ..."),
    ] = ()
    rounds: Annotated[int, arg(help="how often each is timed, after 2 times to warm up")] = bench.Settings.rounds
    dtype: bench.DType = bench.Settings.dtype
    x_gradient: Annotated[bool, arg(help="also the gradient of the frames, which a layer above the first needs")] = (
        False
    )
    out: Annotated[Path | None, arg(help="also write everything to this file, as JSON")] = None

    def run(self, console: Console) -> None:
        from cello.bench.measure import machine, run
        from cello.bench.record import can_save, save
        from cello.bench.table import show
        from cello.compiler.memory import keep_freed_memory

        settings = bench.Settings(
            cells=sum(self.cell, ()) or bench.CELLS,
            sizes=tuple(bench.parse_size(text) for text in sum(self.sizes, ())) or bench.SIZES,
            threads=sum(self.threads, ()) or bench.Settings.threads,
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
                raise KeyboardInterrupt("stopped; nothing is kept, and the same command begins anew") from None
        show(record, console)
        if self.out:
            save(record, self.out)
            say(console, str(self.out))


@dataclass(frozen=True)
class Cell:
    """Look at cells: list, show."""

    action: OmitArgPrefixes[
        Annotated[CellList, subcommand("list", prefix_name=False)]
        | Annotated[CellShow, subcommand("show", prefix_name=False)]
    ]

    def run(self, console: Console) -> None:
        self.action.run(console)


Commands = (
    Annotated[
        Study,
        described(
            Study,
            "study",
            "study --list",
            "study gates --dry-run",
            "study zoo --corpus folder:clips --seeds 5 --set model.hidden=96",
            "study --show gates > mine.toml",
            "study mine.toml --out x",
        ),
    ]
    | Annotated[Tune, described(Tune, "tune", "tune gates --trials 20", "tune mine.toml --corpus folder:clips --out x")]
    | Annotated[
        Train,
        described(
            Train,
            "train",
            "train --model.cell lstm",
            "train --corpus folder:clips --model.cell mine.py:my_cell --seed 1",
        ),
    ]
    | Annotated[Report, described(Report, "report", "report results/spoken/gates-fair --format html --format csv")]
    | Annotated[
        Export, described(Export, "export", "export results/spoken/gates-fair", "export DIR --to tensorboard --out x")
    ]
    | Annotated[Merge, described(Merge, "merge", "merge here/gates-fair there/gates-fair --out results/gates")]
    | Annotated[
        Corpus,
        described(Corpus, "corpus", "corpus list", "corpus inspect folder:clips", "corpus clean --older-than 90"),
    ]
    | Annotated[
        Cell,
        described(
            Cell,
            "cell",
            "cell list",
            "cell show lstm --target latex",
            "cell show lstm --target c",
            "cell show mine.py:x",
        ),
    ]
    | Annotated[
        Bench,
        described(
            Bench, "bench", "bench cells", "bench cells --cell lstm mine.py:my_cell --sizes 64x49x39x64 --threads 1 2"
        ),
    ]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status, as ``cli_faults`` lists them, 0 when it did what was asked."""
    arguments, whole = without_traceback(sys.argv[1:] if arguments is None else arguments)
    try:
        with streams():
            return _run(arguments, whole)
    except OutputError as error:  # met where all that is left is to say so
        with streams():
            return _failed(error, "cello", whole)


def _run(arguments: list[str], whole: bool) -> int:
    console, problems = Terminal(), Terminal(stderr=True)
    if arguments == ["--version"]:
        console.print(f"cello {cello.__version__}", highlight=False)
        return 0
    named = _names(Commands)
    try:
        check(arguments)
        if wrong := misspelt(arguments, named):
            return _say_error(problems, wrong, USAGE)
        command = _parsed(arguments)
        with warnings.catch_warnings(), settings_folders(), cache_of(getattr(command, "cache", None)):
            warnings.showwarning = lambda message, *_: say(problems, f"warning: {message}")
            command.run(console)
    except KeyboardInterrupt as stopped:
        say(problems, str(stopped) or "stopped; the same command again resumes")
        return INTERRUPTED
    except Exception as error:
        return _failed(error, doing(arguments, named), whole)
    return 0


def _parsed(arguments: list[str]) -> Command:
    """The command that the arguments say; wrong usage and ``--help`` leave, having said what is to be said."""
    foreign = any(one_line(argument) != argument for argument in arguments)
    with streams(plain=foreign), wide_enough():  # tyro repeats what it does not know
        command: Command = tyro.cli(Commands, args=arguments, prog="cello", description=_description())
    return getattr(command, "action", command)


def _description() -> str:
    first = (cello.__doc__ or "").splitlines()[0]
    return (
        f"{first}\n\nWith --traceback, wherever it stands, an error is shown with all that led to it.\n"
        f"Exit status: 0 done, {FAILED} an error to be mended, {USAGE} wrong usage, {FAULT} a fault of Cello, "
        f"{INTERRUPTED} Ctrl-C, {PIPE} nobody reads any more."
    )


def _names(commands: object) -> Names:
    """The names of the commands of a union, each with those of its ``action``."""
    found: dict[str, Names] = {}
    for one in get_args(commands):
        below = get_type_hints(one.__origin__, include_extras=True).get("action")
        found[one.__metadata__[0].name] = _names(get_args(below)[0]) if below else {}
    return found


def _failed(error: Exception, what: str, whole: bool) -> int:
    """Say what was wrong, on standard error, and give the exit status."""
    problems = Terminal(stderr=True)
    if whole:
        with suppress(OutputError):
            say(problems, "".join(traceback.format_exception(error)).rstrip())
    sentence, status = outcome(error, what)
    return _say_error(problems, sentence, status) if sentence else status


def _say_error(problems: Console, sentence: str, status: int) -> int:
    with suppress(OutputError):  # where nobody reads errors either, the status alone tells
        problems.print(Text("error: ", style="bold red"), end="")
        say(problems, sentence)
    return status


if __name__ == "__main__":
    sys.exit(main())
