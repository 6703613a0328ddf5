"""Keep the other cells of a file usable when one is wrong: its error is raised where that cell is used."""

from __future__ import annotations

import ast
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from cello.cells.functions import FUNCTIONS
from cello.cells.hints import NAMES
from cello.cells.methods import METHODS
from cello.errors import CellError

KEEP = "__cello_faulty__"
"""The builtin of a separated file by which a definition that raises gives its name a ``FaultyCell``."""


class FaultyCell:
    """In place of a cell whose definition raised: calling it, or asking for an attribute, raises that error.

    >>> FaultyCell(CellError("cell 'mine' (mine.py, line 3): unknown name 'V'.")).states
    Traceback (most recent call last):
        ...
    cello.errors.CellError: cell 'mine' (mine.py, line 3): unknown name 'V'.
    """

    def __init__(self, error: CellError) -> None:
        self.error = error

    def __call__(self, *arguments: Any, **named: Any) -> NoReturn:
        raise CellError(str(self.error)) from self.error

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # what Python asks of any object
            raise AttributeError(name)
        self()


def separated(content: bytes, path: Path) -> ast.Module:
    """The syntax tree of a file in which a definition of a cell that raises leaves a ``FaultyCell``.

    Such are functions under ``@cell`` and names that are assigned ``cell(...)``, also below ``if`` and ``for``.
    Everything else runs, and raises, as it stands.

    Raises:
        SyntaxError, ValueError: the file is not Python.
    """
    tree: ast.Module = _Separated().visit(ast.parse(content, path))
    return ast.fix_missing_locations(tree)


class _Separated(ast.NodeTransformer):
    def _definition(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> ast.stmt:
        return _caught(node, node.name) if any(map(_makes_cells, node.decorator_list)) else node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _definition  # noqa: N815 - names of ast's

    def visit_Assign(self, node: ast.Assign) -> ast.stmt:
        target, value = node.targets[0], node.value
        made = isinstance(value, ast.Call) and _makes_cells(value)
        return _caught(node, target.id) if made and isinstance(target, ast.Name) else node

    def visit_Try(self, node: ast.Try) -> ast.stmt:
        return node  # the file catches errors itself


def _makes_cells(called: ast.expr) -> bool:
    """Whether an expression is ``cell``, ``cello.cell`` or a call of either."""
    while isinstance(called, ast.Call):
        called = called.func
    return (called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")) == "cell"


def _caught(statement: ast.stmt, name: str) -> ast.stmt:
    """``try: statement``, ``except Exception: name = KEEP("name")``, all on the lines of the statement."""
    kept = ast.parse(f"try: ...\nexcept Exception: {name} = {KEEP}({name!r})").body[0]
    assert isinstance(kept, ast.Try)
    for node in ast.walk(kept):
        ast.copy_location(node, statement)
    kept.body = [statement]
    return kept


def keeper(path: Path) -> Callable[[str], FaultyCell]:
    """What the definitions of a file call where they raise, with the name that they define."""

    def keep(name: str) -> FaultyCell:
        error = sys.exception()
        assert error is not None  # it is called in an except clause
        cell, text = f"cell {name.replace('_', '-')!r} (", str(error)
        if isinstance(error, CellError) and text.startswith((cell, "cell (")):
            return FaultyCell(error)
        if isinstance(error, CellError):
            found = CellError(f"{cell}{path.name}, line {_lines(path, error)[-1]}): {text}")
        else:
            found = CellError(f"{cell}{path.name}{_line(path, error)}): {_told(path, error)}")
        found.__cause__ = error
        return FaultyCell(found)

    return keep


def refused(path: Path, error: BaseException) -> CellError:
    """The error message for a file that raises this where it defines no cell."""
    return CellError(f"{path.name}{_line(path, error)} cannot be imported: {_told(path, error)}")


def raised_in(path: Path, error: BaseException) -> bool:
    """Whether the file's own code was running when the error was raised."""
    return bool(_line(path, error))


def _told(path: Path, error: BaseException) -> str:
    """An error of Python's, and what to do about it."""
    return f"{type(error).__name__}: {error}. " + (_instead_of(error) or f"Run python {path} and correct the error.")


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
    own = _lines(path, error)
    if not own:
        return ""
    step = traceback.extract_tb(error.__traceback__)[-1]
    inner, line = Path(step.filename), step.lineno
    outside = inner == path.absolute() or not inner.is_relative_to(path.absolute().parent)
    return f", line {own[-1]}" + ("" if outside else f" ({inner.name}, line {line})")


def _lines(path: Path, error: BaseException) -> list[int | None]:
    """The lines of the file that were running when the error was raised, the outermost first."""
    steps = traceback.extract_tb(error.__traceback__)
    return [step.lineno for step in steps if Path(step.filename) == path.absolute()]
