"""Say where a study's tables are written now: `cello export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg

from cello.errors import ConfigError

Target = Literal["parquet", "tensorboard"]


@dataclass(frozen=True, kw_only=True)
class Export:
    """Tables of a study's runs are formats of cello report: --format parquet and --format tensorboard."""

    folder: Annotated[Positional[Path], arg(help="a study's output folder, or the folder of one run", metavar="DIR")]
    to: Annotated[UseAppendAction[tuple[Target, ...]], arg(help="moved: cello report DIR --format parquet")] = ()
    predictions: Annotated[bool, arg(help="moved: cello report DIR --predictions"), FlagCreatePairsOff] = False
    out: Annotated[Path | None, arg(help="moved: cello report DIR --out")] = None

    def run(self, console: Console) -> None:
        formats = " ".join(f"--format {target}" for target in self.to or ("parquet",))
        more = " --predictions" * self.predictions + (f" --out {self.out}" if self.out else "")
        raise ConfigError(
            f"cello export writes no tables any more, which are formats of reports; give: "
            f"cello report {self.folder} {formats}{more}"
        )
