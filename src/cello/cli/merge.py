"""Merge stores of one study: `cello merge`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console
from tyro.conf import FlagCreatePairsOff, Positional, arg

from cello.terminal import counted, say


@dataclass(frozen=True, kw_only=True)
class Merge:
    """Make one new store of several of one study, as from two machines with other seeds, rows or columns.

    The stores stay as they are. A run that several have is taken once; one with two results is refused.
    """

    folders: Annotated[
        Positional[tuple[Path, ...]], arg(help="two or more output folders of the study", metavar="DIR DIR ...")
    ]
    out: Annotated[Path, arg(help="the new store; a folder that does not exist yet, or an empty one")]
    prefer_first: Annotated[
        bool, arg(help="of a run with two results take the first store's, in the order given"), FlagCreatePairsOff
    ] = False

    def run(self, console: Console) -> None:
        from cello.study.merge import merge_stores

        store = merge_stores(self.folders, self.out, self.prefer_first)
        todo = len(store.pending())
        rest = f"; {todo} of the plan {_are(todo)} not, and cello study with --out {self.out} runs them" if todo else ""
        done = len({run.id for run in store.runs}) - todo
        say(console, f"{counted(done, 'run')} in {self.out} {_are(done)} finished{rest}")


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
