"""Run the command line; heavy imports stay inside the commands."""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields, replace
from typing import Annotated, Any, Protocol, Union, get_args, get_type_hints

import tyro
from rich.console import Console
from rich.text import Text

import cello
from cello.cli.arguments import (
    Names,
    cache_of,
    check,
    doing,
    misspelt,
    settings_folders,
    stated,
    wide_enough,
    without_traceback,
)
from cello.cli.bench import Bench
from cello.cli.cell import Cell
from cello.cli.corpus import Corpus
from cello.cli.errors import FAILED, FAULT, INTERRUPTED, PIPE, USAGE, outcome
from cello.cli.evaluate import Evaluate
from cello.cli.export import Export
from cello.cli.listen import Listen
from cello.cli.merge import Merge
from cello.cli.predict import Predict
from cello.cli.repeated import gathered, needed, options_of
from cello.cli.report import Report
from cello.cli.serve import Serve
from cello.cli.sound import described
from cello.cli.study import Study
from cello.cli.train import Train
from cello.cli.tune import Tune
from cello.terminal import OutputError, Terminal, one_line, say, streams


class Command(Protocol):
    """What every command is: its arguments, and what it does with them."""

    def run(self, console: Console) -> None: ...


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
            "train --from results/mine --corpus folder:clips --optimiser.learning-rate 0.0005",
        ),
    ]
    | Annotated[
        Predict,
        described(
            Predict,
            "predict",
            "predict runs/1f0c9e8d7b6a5f43 clip.wav",
            "predict results/mine recordings --top 1 --format csv > predictions.csv",
        ),
    ]
    | Annotated[
        Report,
        described(
            Report,
            "report",
            "report results/spoken/gates-fair --format html --format csv",
            "report results/mine --format parquet",
        ),
    ]
    | Annotated[
        Evaluate,
        described(
            Evaluate,
            "evaluate",
            "evaluate runs/1f0c9e8d7b6a5f43 --corpus speech-commands:v0.02",
            "evaluate results/mine --corpus folder:clips --split all --map sheila=unknown --out there",
        ),
    ]
    | Annotated[
        Export,
        described(
            Export,
            "export",
            "export results/mine --out model",
            "export runs/first --out model --to onnx --to c99 --int8 --most-int8-loss 0.5",
            "export model --check",
        ),
    ]
    | Annotated[
        Listen,
        described(Listen, "listen", "listen model", "listen runs/first --file clip.wav", "listen model --device 2"),
    ]
    | Annotated[Serve, described(Serve, "serve", "serve model", "serve runs/1f0c9e8d7b6a5f43 --port 8080")]
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
            Bench,
            "bench",
            "bench cells",
            "bench cells --cell lstm mine.py:my_cell --sizes 64x49x39x64 --threads 1 2",
            "bench features --window 20 40",
        ),
    ]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status, as ``cello.cli.errors`` lists them, 0 when it did what was asked."""
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
    if command_type := _asked(arguments, Commands):
        needs = "" if {"-h", "--help"} & set(arguments) else needed(command_type)
        before = doing(arguments, _names(Commands)).count(" ")
        arguments = gathered(arguments, options_of(command_type), needs, before)
    foreign = any(one_line(argument) != argument for argument in arguments)
    with streams(plain=foreign), wide_enough():  # tyro repeats what it does not know
        commands: Any = _briefly(Commands) if arguments[:1] in (["-h"], ["--help"]) else Commands
        command: Command = tyro.cli(commands, args=arguments, prog="cello", description=_description())
    if isinstance(command, Train):
        return replace(command, stated=stated(arguments))
    return getattr(command, "action", command)


def _briefly(commands: Any) -> Any:
    """The same commands, each with the first line of its help: what one looks through for the right one."""
    brief = []
    for one in get_args(commands):
        (told,) = one.__metadata__
        brief.append(Annotated[one.__origin__, replace(told, description=told.description.partition("\n")[0])])
    return Union[tuple(brief)]  # noqa: UP007, as their number is not known to a type checker


def _description() -> str:
    first = (cello.__doc__ or "").splitlines()[0]
    return (
        f"{first}\n\ncello COMMAND --help shows the options of a command, with examples.\n\n"
        f"With --traceback, anywhere on the line, an error is shown with its traceback.\n"
        f"Exit status: 0 done, {FAILED} an error that you can fix, {USAGE} wrong usage, {FAULT} a bug in Cello, "
        f"{INTERRUPTED} Ctrl-C, {PIPE} the output was closed."
    )


def _names(commands: object) -> Names:
    """The names of the commands of a union, each with those of its ``action``."""
    found: dict[str, Names] = {}
    for one in get_args(commands):
        found[one.__metadata__[0].name] = _names(_below(one.__origin__))
    return found


def _below(command: type) -> object:
    """The commands below one, the union that its ``action`` is; None where it has none."""
    if "action" not in (field.name for field in fields(command)):  # asked first, as hints take a while to evaluate
        return None
    return get_args(get_type_hints(command, include_extras=True)["action"])[0]


def _asked(arguments: Sequence[str], commands: object) -> type | None:
    """The class of the command that the arguments begin with; None where they name none."""
    for one in get_args(commands):
        if arguments and one.__metadata__[0].name == arguments[0]:
            found: type = one.__origin__
            below = _below(found)
            return found if below is None else _asked(arguments[1:], below)
    return None


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
