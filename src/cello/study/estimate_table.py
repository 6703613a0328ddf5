"""An outlook as a table and a sentence on a console."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cello.study.estimate import Outlook
from cello.terminal import clock, counted, one_line, say


def show(outlook: Outlook, console: Console) -> None:
    """Print what would run, at which sizes, what is done, and how long the rest may take."""
    reference, matched = outlook.study.reference, outlook.study.match
    title = f"parameters or flops of a frame beside {reference}'s, matched by {matched}" if reference else None
    table = Table("row", "column", "done", "hidden", "parameters", "flops", title=title and Text(one_line(title)))
    for name in (*(["off"] if reference else []), "a run"):
        table.add_column(name)
    for column in table.columns[:2]:
        column.overflow = "fold"  # a name is read whole also on a narrow terminal
    for column in table.columns[2:]:
        column.justify = "right"
    for place in outlook.places:
        table.add_row(
            Text(one_line(place.row)),
            Text(one_line(place.column)),
            f"{place.done} of {place.runs}",
            str(place.hidden),
            "?" if place.parameters is None else f"{place.parameters:,}",
            f"{place.flops:,}",
            *([f"{place.off:+.1%}"] if reference else []),
            clock(place.seconds),
        )
    console.print(table)
    for warning in outlook.warnings:
        say(console, f"warning: {warning}")
    say(console, summary(outlook))


def summary(outlook: Outlook) -> str:
    """What is done, what is left, and how long that may take, in a sentence."""
    todo = outlook.runs - outlook.done
    each = f" ({outlook.folds} folds of each model and seed)" if outlook.folds else ""
    said = f"{outlook.done} of {outlook.runs} runs{each} are finished, {todo} to do"
    if not todo:
        return f"{said}; nothing would run"
    workers = counted(outlook.workers, "worker")
    if outlook.seconds_left is None:
        return f"{said} on {workers}; how long that takes shows when the first has finished"
    return f"{said}; about {clock(outlook.seconds_left)} on {workers}, as the finished ones took"
