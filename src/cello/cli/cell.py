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
    """List the zoo: every cell, its states, its parameters for 39 features at H = 64, its paper."""

    def run(self, console: Console) -> None:
        from cello.cells.load import every_cell, zoo
        from cello.models.frames import frame_size

        table = Table(
            "cell", "states", "parameters", "paper", title=f"parameters for {FEATURES} features at H = {HIDDEN}"
        )
        apart = []
        for name, cell in every_cell().items():
            count = cell.parameter_count(frame_size(cell, FEATURES), HIDDEN)
            table.add_row(name, " ".join(cell.states), f"{count:,}", cell.reference)
            if name not in zoo():
                apart.append(f"{name} ({', '.join(part for part, _ in cell.parts)})")
        console.print(table)
        console.print(
            f"Frames of these have parts: {'; '.join(apart)}. They are in no study of the whole zoo; name them in a "
            f"study with data.lost_frames."
        )


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

    hidden = -(-HIDDEN // cell.multiple) * cell.multiple
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
