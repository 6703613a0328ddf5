"""Write a study's report again: `cello report`."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg

from cello.errors import ConfigError
from cello.terminal import counted, say

Format = Literal["md", "html", "csv", "latex", "pdf", "json", "notebook", "parquet", "tensorboard"]
TABLES = ("parquet", "tensorboard")
"""The formats for other programs, which are written by name only."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write the report of a study again, as far as its runs have come."""

    folder: Annotated[Positional[Path], arg(help="a study's output folder, or the folder of one run", metavar="DIR")]
    format: Annotated[
        UseAppendAction[tuple[Format, ...]],
        arg(
            help="repeat for several; by default all but parquet and tensorboard, of more than 1,000 runs without pdf, "
            "json and notebook"
        ),
    ] = ()
    out: Annotated[Path | None, arg(help="where to write; DIR/report by default")] = None
    predictions: Annotated[
        bool, arg(help="with csv or parquet, also a row for each test clip of each run"), FlagCreatePairsOff
    ] = False
    execute: Annotated[
        bool, arg(help="execute the notebook of a study that was not made here too"), FlagCreatePairsOff
    ] = False

    def run(self, console: Console) -> None:
        gc.freeze()  # imports stay: no need to look through them for garbage while thousands of runs are read
        if self.predictions and not {"csv", "parquet"} & set(self.format):
            raise ConfigError("--predictions has no table to go into; add --format csv or --format parquet")
        texts = tuple(name for name in self.format if name not in TABLES)
        if texts or not self.format:
            self._texts(console, texts)
        self._tables(console)

    def _texts(self, console: Console, formats: tuple[str, ...]) -> None:
        from cello.report.write import LEFT_OUT, NOT_EXECUTED, write_report
        from cello.study.made import is_made

        execute = self.execute or is_made(self.folder)
        written = write_report(self.folder, formats=formats, out=self.out, execute=execute)
        for path in written:
            say(console, str(path))
        if not execute and any(path.suffix == ".ipynb" for path in written):
            say(console, NOT_EXECUTED)
        if not formats and all(path.suffix != ".ipynb" for path in written):
            say(console, LEFT_OUT)

    def _tables(self, console: Console) -> None:
        from cello.report.formats.parquet import write_parquet
        from cello.report.formats.predictions import write_predictions
        from cello.report.formats.tensorboard import write_tensorboard
        from cello.study.folder import below

        out = self.out or below(self.folder, "report")
        if self.predictions and "csv" in self.format:
            say(console, str(write_predictions(self.folder, out)))
        if "parquet" in self.format:
            for path in write_parquet(self.folder, out, self.predictions):
                say(console, str(path))
        if "tensorboard" in self.format:
            found = write_tensorboard(self.folder, out / "tensorboard")
            say(console, f"{out / 'tensorboard'}: {counted(len(found), 'run')}; look at them with tensorboard --logdir")
