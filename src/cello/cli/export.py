"""Export a study's runs to Parquet or TensorBoard: `cello export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg

from cello.terminal import counted, say

Target = Literal["parquet", "tensorboard"]


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a study's runs for other programs: Parquet tables (runs, epochs, predictions) or TensorBoard's files."""

    folder: Annotated[Positional[Path], arg(help="a study's output folder, or the folder of one run", metavar="DIR")]
    to: Annotated[UseAppendAction[tuple[Target, ...]], arg(help="repeat for both; parquet by default")] = ()
    predictions: Annotated[
        bool, arg(help="also predictions.parquet, a row for each test clip of each run"), FlagCreatePairsOff
    ] = False
    out: Annotated[Path | None, arg(help="where to write; DIR/export by default")] = None

    def run(self, console: Console) -> None:
        from cello.report.formats.parquet import write_parquet
        from cello.report.formats.tensorboard import write_tensorboard
        from cello.study.folder import below

        out = self.out or below(self.folder, "export")
        targets = self.to or ("parquet",)
        if "parquet" in targets:
            for path in write_parquet(self.folder, out, self.predictions):
                say(console, str(path))
        if "tensorboard" in targets:
            found = write_tensorboard(self.folder, out / "tensorboard")
            say(console, f"{out / 'tensorboard'}: {counted(len(found), 'run')}; look at them with tensorboard --logdir")
