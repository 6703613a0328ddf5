"""Keep the user's own cells in a store as data; never load a file that a store names.

A store's ``study.json`` may come from anybody, and the files that it names may hold anything. So it keeps, for each
such cell, the fingerprint of its equations in every run and the equations themselves in ``cells``. Only a study that
the user gives now, a study file or a ``StudyConfig``, makes Cello run the file of a cell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

import msgspec

from cello.cells.load import OWN_OBJECT, is_own, known, remember
from cello.cells.stored import StoredCell
from cello.compiler.latex import latex
from cello.compiler.text import equations_text
from cello.errors import CellError, StoreError
from cello.models.config import ModelConfig, resolve
from cello.study.config import StudyConfig
from cello.study.match import Match
from cello.study.plan import PlannedRun
from cello.training.config import RunConfig

MOST_WRITTEN, LONGEST_WRITTEN = 20, 20_000
"""Cells whose equations a report writes out, and letters of each: more than anybody reads."""


class WrittenCell(NamedTuple):
    """A cell's equations as text and as a LaTeX block."""

    name: str
    text: str
    latex: str


def written(cells: Mapping[str, StoredCell]) -> tuple[WrittenCell, ...]:
    """The equations of a store's cells, of two cells with one name each with its fingerprint.

    What is damaged is left out, for only reports ask, and so is what is too long to be read.
    """
    found = []
    names = Counter(cell.name for cell in cells.values())
    for equations, stored in list(cells.items())[:MOST_WRITTEN]:
        try:
            cell = stored.cell()
        except CellError:
            continue
        name = cell.name if names[cell.name] == 1 else f"{cell.name} ({equations})"
        one = WrittenCell(name, equations_text(cell), latex(cell))
        if max(len(one.text), len(one.latex)) <= LONGEST_WRITTEN:
            found.append(one)
    return tuple(found)


def own_cells(configs: Iterable[RunConfig]) -> dict[str, StoredCell]:
    """The cells of one's own among some runs, as data, by the fingerprints of their equations."""
    found = {}
    for model in {config.model.equations: config.model for config in configs if config.model.equations}.values():
        cell = known(model.cell, model.equations)
        if cell is not None:
            found[model.equations] = StoredCell.of(cell)
    return found


def reordered(one: Mapping[str, StoredCell], other: Mapping[str, StoredCell]) -> str:
    """How a cell's arguments differ, empty if they do not: first weights are drawn in the order of the arguments."""
    for equations, cell in one.items():
        again = other.get(equations, cell)
        if again.arguments != cell.arguments and cell.fingerprint() == equations:
            orders = [f"({', '.join(arguments)})" for arguments in (cell.arguments, again.arguments)]
            return f"the arguments of cell {cell.name!r} are {orders[0]} in the first and {orders[1]} in the other"
    return ""


def named(study: StudyConfig) -> frozenset[str]:
    """Every cell that a study states."""
    parts = (study.base, *study.columns, *study.rows)
    return frozenset(str(part.model["cell"]) for part in parts if "cell" in part.model)


def resolver_from(
    runs: Iterable[PlannedRun], cells: Mapping[str, StoredCell], match: Match, may_load: Collection[str] = ()
) -> Callable[[ModelConfig], ModelConfig]:
    """What ``plan`` takes as ``resolver`` for a study out of a store with these runs and cells.

    ``may_load`` are cells that the user states now; only their files are loaded.
    """
    stored = {run.config.model.cell: run.config.model.equations for run in runs}

    def resolver(model: ModelConfig) -> ModelConfig:
        if not is_own(model.cell) or model.cell in may_load:
            return resolve(model)
        equations = model.equations or stored.get(model.cell, "")
        if not equations:
            raise StoreError(
                f"the store names {model.cell!r}, but none of its runs has that cell, and no file that a store names "
                f"is loaded; its study.json was changed: restore it"
            )
        if match != "width":
            _bring(model.cell, equations, cells)
        return msgspec.structs.replace(model, equations=equations)

    return resolver


def bring_objects(runs: Iterable[PlannedRun], cells: Mapping[str, StoredCell]) -> None:
    """Let this process know the stored cells that were given as objects, for no file holds them."""
    for model in {run.config.model.equations: run.config.model for run in runs}.values():
        if model.cell.startswith(OWN_OBJECT) and model.equations in cells:
            _bring(model.cell, model.equations, cells)


def _bring(name: str, equations: str, cells: Mapping[str, StoredCell]) -> None:
    """Let this process know a stored cell, whose size is to be matched.

    Raises:
        StoreError: the store does not hold it, or another cell in its place.
    """
    if known(name, equations) is not None:
        return
    if equations not in cells:
        raise StoreError(
            f"the store holds the name of {name!r} but not its equations: an older Cello made it; run its study once "
            f"more into it, with cello study FILE.toml --out, which adds them"
        )
    try:
        if remember(name, cells[equations].cell()) != equations:
            raise CellError("other equations are in its place")
    except CellError as error:
        raise StoreError(
            f"the store's cell {name!r} ({equations}) cannot be used: {error} Run its study once more into it."
        ) from error
