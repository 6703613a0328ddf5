"""List cells and print their equations: `cello cell`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from rich.console import Console
from rich.table import Table
from tyro.conf import OmitArgPrefixes, Positional, arg, subcommand

if TYPE_CHECKING:
    from cello.cells import definition

Target = Literal["equations", "latex", "graph", "c", "triton", "js"]
FOR_PEOPLE = ("equations", "graph")
"""Targets that are read and go nowhere else; shapes follow them."""
FEATURES, HIDDEN = 39, 64
"""The sizes for which parameters are counted."""


@dataclass(frozen=True, kw_only=True)
class CellList:
    """List the zoo, or a file's cells: each with states, parameters for 39 features at H = 64, and paper."""

    file: Annotated[Positional[str], arg(help="a file of your own cells", metavar="[FILE.py]")] = ""

    def run(self, console: Console) -> None:
        if self.file:
            _list_file(console, self.file)
        else:
            _list_zoo(console)


def _list_zoo(console: Console) -> None:
    from cello.cells.load import every_cell, zoo

    table, apart = _table(), []
    for name, cell in every_cell().items():
        table.add_row(name, " ".join(cell.states), _count(cell), cell.reference)
        if name not in zoo():
            apart.append(f"{name} ({', '.join(part for part, _ in cell.parts)})")
    console.print(table)
    console.print(
        f"Frames of these have parts: {'; '.join(apart)}. They are in no study of the whole zoo; name them in a "
        f"study with data.lost_frames."
    )


def _list_file(console: Console, file: str) -> None:
    """The cells of a file, then what is wrong with those that are faulty."""
    from cello.cells.load import cells_of_file

    right, faulty = cells_of_file(file)
    table = _table()
    for name, cell in right.items():
        table.add_row(name, " ".join(cell.states), _count(cell), cell.reference)
    for name in faulty:
        table.add_row(name, "faulty", "", "")
    console.print(table)
    for one in faulty.values():
        console.print(f"faulty: {one.error}", markup=False, highlight=False, soft_wrap=True)


def _table() -> Table:
    return Table("cell", "states", "parameters", "paper", title=f"parameters for {FEATURES} features at H = {HIDDEN}")


def _count(cell: definition.Cell) -> str:
    """The parameters for the features that a cell is given, with the nearest H that its heads divide; - if none are."""
    from cello.errors import ModelError
    from cello.models.frames import frame_size

    try:
        inputs = frame_size(cell, FEATURES)
    except ModelError:  # frames that are not of sound
        return "-"
    return f"{cell.parameter_count(inputs, _hidden(cell)):,}"


def _hidden(cell: definition.Cell) -> int:
    """The usual H, or the next that a cell with heads can have."""
    return -(-HIDDEN // cell.multiple) * cell.multiple


@dataclass(frozen=True, kw_only=True)
class CellShow:
    """Print a cell's equations with the shapes of its parameters, or its graph, LaTeX, kernels, step in JavaScript."""

    name: Annotated[Positional[str], arg(help="a cell of the zoo, or FILE.py:NAME", metavar="CELL")]
    target: Target = "equations"

    def run(self, console: Console) -> None:
        from cello.cells.load import load_cell
        from cello.compiler.render import render

        cell = load_cell(self.name)
        text = render(cell, self.target)
        if self.target in FOR_PEOPLE:
            text += f"\n\n{_sizes(cell)}"
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def _sizes(cell: definition.Cell) -> str:
    """The shapes of states and parameters, and how many parameters a layer of the usual size has."""
    from cello.compiler.text import shapes_text
    from cello.errors import ModelError
    from cello.models.frames import frame_size

    hidden = _hidden(cell)
    try:
        inputs = frame_size(cell, FEATURES)
    except ModelError:  # frames that are not of sound: their sizes are the user's
        return shapes_text(cell)
    count = cell.parameter_count(inputs, hidden)
    return f"{shapes_text(cell)}\n{'':10s} {count:,} parameters for D = {inputs}, H = {hidden}"


@dataclass(frozen=True)
class Cell:
    """Look at cells: list, show."""

    action: OmitArgPrefixes[
        Annotated[CellList, subcommand("list", prefix_name=False)]
        | Annotated[CellShow, subcommand("show", prefix_name=False)]
    ]

    def run(self, console: Console) -> None:
        self.action.run(console)
