"""Load cells by name, from the zoo or from the user's own file."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping
from functools import cache
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from types import ModuleType

from cello.cells.definition import Cell
from cello.cells.faulty import FaultyCell, raised_in, refused
from cello.cells.neighbours import run_file
from cello.errors import CellError, unknown
from cello.files import DamagedFileError

ZOO = "cello.cells.zoo"
SHELVES = ("rnn", "lstm", "odyssey", "gru", "dynamics", "spiking", "normalised", "sized", "memories", "gaps")
"""The modules of the zoo, in the order in which its cells are listed; importing one traces its cells."""
OWN_FILE, OWN_OBJECT = ".py:", "own:"
"""In the name of a cell that somebody wrote: FILE.py:NAME, or own:NAME of one that was given as an object."""
_KNOWN: dict[tuple[str, str], Cell] = {}


@cache
def every_cell() -> dict[str, Cell]:
    """All cells that come with Cello, by name, those for frames with parts too."""
    return {name: value for shelf in SHELVES for name, value in _cells(import_module(f"{ZOO}.{shelf}")).items()}


@cache
def zoo() -> dict[str, Cell]:
    """The cells that come with Cello and take any features as frames, by name; studies of the whole zoo have them.

    Cells whose frames have parts are apart: beside the features they read which frames were lost (x.mask) and for how
    long (x.gap), so they belong to studies with ``data.lost_frames``. ``load_cell`` loads them by name as any other.

    >>> zoo()["lstm"].states
    ('h', 'c')
    >>> [name for name in every_cell() if name not in zoo()]
    ['gru-d', 't-lstm', 'cfc-gaps']
    """
    return {name: value for name, value in every_cell().items() if not value.parts}


def load_cell(name: str) -> Cell:
    """Load a cell of the zoo by name, or ``FILE.py:NAME``, the function NAME in your own file.

    Raises:
        CellError: no such cell, file or function (with the nearest name), or a function that is no cell.
    """
    if OWN_FILE in name:
        return _from_file(*name.rsplit(":", 1))
    if name.startswith(OWN_OBJECT):
        raise CellError(
            f"cell {name!r} was given as an object in another session, and its equations are not at hand; define it "
            f"again and give the object, or write it into a file and name it FILE.py:{bare_name(name)}"
        )
    if found := _of_the_zoo(name):
        return found
    raise CellError(_unknown(name, every_cell()))


def _cells(module: ModuleType) -> dict[str, Cell]:
    values = list(vars(module).values())  # at once, as another thread may be importing the module
    return {value.name: value for value in values if isinstance(value, Cell)}


@cache
def _of_the_zoo(name: str) -> Cell | None:
    """A cell of the zoo, of which only the module that defines it is imported: all of them take a third of a second."""
    line = f"\ndef {name.replace('-', '_')}("
    texts = ((shelf, (files(ZOO) / f"{shelf}.py").read_text("utf-8")) for shelf in SHELVES)
    shelf = next((shelf for shelf, text in texts if line in text), None)
    return _cells(import_module(f"{ZOO}.{shelf}")).get(name) if shelf else None


def _unknown(name: str, cells: Mapping[str, Cell]) -> str:
    """The sentence for a cell that does not exist; of a file without a name, the cells that it defines."""
    if name.endswith(".py"):
        path = Path(os.path.expanduser(name))  # noqa: PTH111 - as in _from_file
        own, faulty = _own(vars(_imported(path)))
        choices = f"; write {' or '.join(f'{name}:{one}' for one in [*own][:5])}" if own else ""
        if own or faulty:
            return f"{name!r} names a file, not a cell in it{choices}" + (f". {_listed(faulty)}" if faulty else "")
    return unknown("cell", name, cells, "A cell of your own is FILE.py:NAME; cello cell list shows the others.")


def is_own(name: str) -> bool:
    """Whether a cell is the user's own, not the zoo's or PyTorch's."""
    return OWN_FILE in name or name.startswith(OWN_OBJECT)


def bare_name(name: str) -> str:
    """A cell's name without its file.

    >>> bare_name("work/mine.py:leaky"), bare_name("own:leaky"), bare_name("gru")
    ('leaky', 'leaky', 'gru')
    """
    return name.rpartition(OWN_FILE)[2].removeprefix(OWN_OBJECT)


def naming(cell: Cell) -> tuple[str, str]:
    """The name and fingerprint that a config stores for a cell; the fingerprint is empty for the zoo.

    A cell from a file that this process loaded is called by that file, any other own:NAME.
    """
    shelves = (sys.modules.get(f"{ZOO}.{shelf}") for shelf in SHELVES)  # what is not imported made no cell
    if any(_cells(shelf).get(cell.name) is cell for shelf in shelves if shelf is not None):
        return cell.name, ""
    for (name, fingerprint), one in _KNOWN.items():
        if one is cell:
            return name, fingerprint
    return f"{OWN_OBJECT}{cell.name}", remember(f"{OWN_OBJECT}{cell.name}", cell)


def remember(name: str, cell: Cell) -> str:
    """Register a cell in this process for ``known``; return its fingerprint."""
    fingerprint = cell.fingerprint()
    _KNOWN[name, fingerprint] = cell
    return fingerprint


def known(name: str, fingerprint: str) -> Cell | None:
    """The registered cell with this name and these equations, or None.

    It was loaded from its file, or came as data with a store or a task; no file is looked at.
    """
    return _KNOWN.get((name, fingerprint))


def _from_file(file: str, name: str) -> Cell:
    path = Path(os.path.expanduser(file))  # noqa: PTH111 - Path's raises where there is no home
    found = vars(_imported(path))
    if name not in found:
        cells, faulty = _own(found)
        remedy = "" if cells or faulty else f"The file defines no cell: write @cell over a function in {path.name}."
        raise CellError(unknown(f"cell in {path.name}", name, cells, remedy + _listed(faulty)))
    value = found[name]
    if isinstance(value, FaultyCell):
        value()
    if not isinstance(value, Cell):
        raise CellError(
            f"cell {file}:{name}: {name} is a {type(value).__name__}, not a cell. Write @cell above its function."
        )
    remember(f"{file}:{name}", value)
    return value


def cells_of_file(file: str) -> tuple[dict[str, Cell], dict[str, FaultyCell]]:
    """The cells that a file defines or imports, by their names there, and those whose definitions raise.

    Raises:
        CellError: the file does not exist, cannot be read, raises where it defines no cell, or defines none.
    """
    path = Path(os.path.expanduser(file))  # noqa: PTH111 - as in _from_file
    cells, faulty = _own(vars(_imported(path)))
    if not cells and not faulty:
        raise CellError(f"{path.name} defines no cell. Write @cell over a function in it.")
    return cells, faulty


def _own(found: Mapping[str, object]) -> tuple[dict[str, Cell], dict[str, FaultyCell]]:
    cells = {key: value for key, value in found.items() if isinstance(value, Cell)}
    return cells, {key: value for key, value in found.items() if isinstance(value, FaultyCell)}


def _listed(faulty: Collection[str]) -> str:
    """Which cells of a file are faulty, in one sentence; empty if none is."""
    return f"Faulty: {', '.join(faulty)}; ask for one to see what is wrong with it." if faulty else ""


def _imported(path: Path) -> ModuleType:
    try:
        return run_file(path)
    except CellError:
        raise
    except (OSError, DamagedFileError) as error:
        if raised_in(path, error):
            raise refused(path, error) from error
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            raise CellError(f"file {path.absolute()} does not exist. Give the path of your .py file.") from error
        reason = error.strerror if isinstance(error, OSError) else error
        raise CellError(f"cell file {path} cannot be read: {reason}. Give a .py file that you may read.") from error
    except (Exception, SystemExit) as error:
        raise refused(path, error) from error
