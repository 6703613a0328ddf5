"""Write a study's report again: `cello report`."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg

from cello.terminal import say

Format = Literal["md", "html", "csv", "latex", "json", "notebook"]


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
