"""Load cells by name, from the zoo or from the user's own file."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from types import ModuleType

from cello.cells.definition import Cell
from cello.cells.functions import FUNCTIONS
from cello.cells.hints import NAMES
from cello.cells.methods import METHODS
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
        own = [key for key, value in vars(_imported(path)).items() if isinstance(value, Cell)]
        if own:
            return f"{name!r} names a file, not a cell in it; write {' or '.join(f'{name}:{one}' for one in own[:5])}"
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
        cells = [key for key, value in found.items() if isinstance(value, Cell)]
        remedy = "" if cells else f"The file defines no cell: write @cell over a function in {path.name}."
        raise CellError(unknown(f"cell in {path.name}", name, cells, remedy))
    value = found[name]
    if not isinstance(value, Cell):
        raise CellError(
            f"cell {file}:{name}: {name} is a {type(value).__name__}, not a cell. Write @cell above its function."
        )
    remember(f"{file}:{name}", value)
    return value


def _imported(path: Path) -> ModuleType:
    try:
        return run_file(path)
    except CellError:
        raise
    except (OSError, DamagedFileError) as error:
        if _line(path, error):  # the file's own code met it
            raise _refused(path, error) from error
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            raise CellError(f"file {path.absolute()} does not exist. Give the path of your .py file.") from error
        reason = error.strerror if isinstance(error, OSError) else error
        raise CellError(f"cell file {path} cannot be read: {reason}. Give a .py file that you may read.") from error
    except (Exception, SystemExit) as error:
        raise _refused(path, error) from error


def _refused(path: Path, error: BaseException) -> CellError:
    wanted = _instead_of(error) or f"Run python {path} and correct the error."
    return CellError(f"{path.name}{_line(path, error)} cannot be imported: {type(error).__name__}: {error}. {wanted}")


def _instead_of(error: BaseException) -> str | None:
    """What to write instead of a name that a file lacks, or asks of Cello, where that is known."""
    match = re.search(r"name '(\w+)' (is not defined|from 'cello)", str(error))
    name = match[1] if match and isinstance(error, NameError | ImportError) else ""
    if name in ("D", "H"):
        return f'Write sizes in quotes, as in Size("{name}").'
    if name in (*NAMES, *FUNCTIONS, "cell", "uniform", "normal", "spectral_radius"):
        return f"Write from cello import {name} at the top of the file."
    return f"{METHODS[name].format(v='v')}." if name in METHODS and isinstance(error, ImportError) else None


def _line(path: Path, error: BaseException) -> str:
    """Where in the file, and where in a neighbour that it imports, the error was raised."""
    steps = [(Path(step.filename), step.lineno) for step in traceback.extract_tb(error.__traceback__)]
    own = [line for file, line in steps if file == path.absolute()]
    if not own:
        return ""
    inner, line = steps[-1]
    outside = inner == path.absolute() or not inner.is_relative_to(path.absolute().parent)
    return f", line {own[-1]}" + ("" if outside else f" ({inner.name}, line {line})")
