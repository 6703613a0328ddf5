"""List cells and print their equations: `cello cell`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from rich.console import Console
from rich.table import Table
from tyro.conf import OmitArgPrefixes, Positional, arg, subcommand

Target = Literal["equations", "latex", "graph", "c", "triton", "js"]


@dataclass(frozen=True, kw_only=True)
class CellList:
    """List the zoo: every cell, its states, its parameters for 39 features at H = 64, its paper."""

    def run(self, console: Console) -> None:
        from cello.cells.load import every_cell, zoo
        from cello.models.frames import frame_size

        table = Table("cell", "states", "parameters", "paper", title="parameters for 39 features at H = 64")
        apart = []
        for name, cell in every_cell().items():
            count = cell.parameter_count(frame_size(cell, 39), 64)
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
    """Print a cell's equations, LaTeX, graph, C kernel or step in JavaScript."""

    name: Annotated[Positional[str], arg(help="a cell of the zoo, or FILE.py:NAME", metavar="CELL")]
    target: Target = "equations"

    def run(self, console: Console) -> None:
        from cello.cells.load import load_cell
        from cello.compiler.render import render

        console.print(render(load_cell(self.name), self.target), markup=False, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Cell:
    """Look at cells: list, show."""

    action: OmitArgPrefixes[
        Annotated[CellList, subcommand("list", prefix_name=False)]
        | Annotated[CellShow, subcommand("show", prefix_name=False)]
    ]

    def run(self, console: Console) -> None:
        self.action.run(console)
