"""Cells by name: from the zoo, or from anybody's own file."""

from __future__ import annotations

import importlib.util
import traceback
from functools import cache
from pathlib import Path
from types import ModuleType

from cello.cells import grus, lstms, odyssey, rnns
from cello.cells.definition import Cell
from cello.errors import CellError, unknown

SHELVES = (rnns, lstms, odyssey, grus)
"""The modules of the zoo, in the order in which its cells are listed."""
_PLACED: dict[str, Path] = {}


def place_file(name: str, path: Path) -> None:
    """Let ``name.py:NAME`` mean a cell in the file at ``path`` from now on, in this process.

    A run's settings name the file as it lies where the study was begun; another machine has it elsewhere.
    """
    _PLACED[name] = path


@cache
def zoo() -> dict[str, Cell]:
    """All cells that come with Cello, by name.

    >>> zoo()["lstm"].states
    ('h', 'c')
    """
    return {value.name: value for shelf in SHELVES for value in vars(shelf).values() if isinstance(value, Cell)}


def load_cell(name: str) -> Cell:
    """The cell of a name of the zoo, or of ``FILE.py:NAME``, the function NAME in a file of your own.

    Raises:
        CellError: no such cell, file or function (with the nearest name), or a function that is no cell.
    """
    if ".py:" in name:
        return _from_file(*name.rsplit(":", 1))
    cells = zoo()
    if name in cells:
        return cells[name]
    raise CellError(unknown("cell", name, cells, "A cell of your own is FILE.py:NAME."))


def _from_file(file: str, name: str) -> Cell:
    path = _PLACED.get(file, Path(file).expanduser())
    if not path.is_file():
        raise CellError(f"cell {file}:{name}: there is no file {path.absolute()}. Write the path to your .py file.")
    found = vars(_imported(path))
    if name not in found:
        cells = [key for key, value in found.items() if isinstance(value, Cell)]
        remedy = "" if cells else f"The file defines no cell: write @cell over a function in {path.name}."
        raise CellError(unknown(f"cell in {path.name}", name, cells, remedy))
    value = found[name]
    if not isinstance(value, Cell):
        raise CellError(
            f"cell {file}:{name}: {name} is a {type(value).__name__}, no cell. Write @cell over its function."
        )
    return value


def _imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise CellError(f"{path} cannot be imported as Python. Give the file a name that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except CellError:
        raise
    except (Exception, SystemExit) as error:
        lines = [step.lineno for step in traceback.extract_tb(error.__traceback__) if step.filename == str(path)]
        place = f", line {lines[-1]}" if lines else ""
        raise CellError(
            f"{path.name}{place} cannot be imported: {type(error).__name__}: {error}. "
            f"Try python {path} and mend what it says."
        ) from error
    return module
