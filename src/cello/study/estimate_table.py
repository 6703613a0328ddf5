"""Print an estimate of a study as a table and a sentence."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cello.study.estimate import StudyEstimate
from cello.terminal import clock, counted, one_line, say


def show(estimate: StudyEstimate, console: Console) -> None:
    """Print what would run, at which sizes, what is done, and how long the rest may take."""
    reference, matched = estimate.study.reference, estimate.study.match
    title = f"parameters or flops of a frame beside {reference}'s, matched by {matched}" if reference else None
    table = Table("row", "column", "done", "hidden", "parameters", "flops", title=title and Text(one_line(title)))
    for name in (*(["off"] if reference else []), "a run"):
        table.add_column(name)
    for column in table.columns[:2]:
        column.overflow = "fold"  # a name is read whole also on a narrow terminal
    for column in table.columns[2:]:
        column.justify = "right"
    for place in estimate.places:
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
    for warning in estimate.warnings:
        say(console, f"warning: {warning}")
    say(console, summary(estimate))


def summary(estimate: StudyEstimate) -> str:
    """What is done, what is left, and how long that may take, in a sentence."""
    todo = estimate.runs - estimate.done
    each = f" ({estimate.folds} folds of each model and seed)" if estimate.folds else ""
    said = f"{estimate.done} of {estimate.runs} runs{each} are finished, {todo} to do"
    if not todo:
        return f"{said}; nothing would run"
    workers = counted(estimate.workers, "worker")
    if estimate.seconds_left is None:
        return f"{said} on {workers}; how long that takes shows when the first has finished"
    return f"{said}; about {clock(estimate.seconds_left)} on {workers}, as the finished ones took"
