"""What hurts: equations that the file no longer states, a neighbour taken for another, one that breaks the process."""

from __future__ import annotations

import inspect
import os
import pickle
import random
import sys
import typing
from pathlib import Path

import pytest

from cello.cells.definition import Cell
from cello.cells.load import load_cell
from cello.errors import CellError

CELL = """
from cello import cell, tanh
{imports}

@cell
def mine(x, h, W, U):
    return {factor} * tanh(W @ x + U @ h)
"""


def write(folder: Path, imports: str = "", factor: str = "k") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mine.py").write_text(CELL.format(imports=imports, factor=factor))
    return f"{folder}/mine.py:mine"


def constants(cell: Cell) -> list[float | None]:
    return [node.value for node in cell.graph.nodes if node.op == "constant"]


def test_a_file_rewritten_with_the_same_size_and_date_gives_its_new_equations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    seen = []
    for factor in ("0.1", "0.2", "0.3"):
        name = write(tmp_path, factor=factor)
        os.utime(tmp_path / "mine.py", (1e9, 1e9))
        seen.append(load_cell(name))
    assert [constants(cell) for cell in seen] == [[0.1], [0.2], [0.3]]
    assert len({cell.graph.fingerprint() for cell in seen}) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]
    assert "0.3 * tanh" in inspect.getsource(seen[-1].function)


@pytest.mark.parametrize(
    ("imports", "files"),
    [
        ("from helper import k", {"helper.py": "k = {}"}),
        ("import helper\nk = helper.k", {"helper.py": "k = {}"}),
        ("import helper as other\nk = other.k", {"helper.py": "k = {}"}),
        ("from .helper import k", {"helper.py": "k = {}"}),
        ("from . import helper\nk = helper.k", {"helper.py": "k = {}"}),
        ("from helper import *", {"helper.py": "k = {}"}),
        ("from first import k", {"first.py": "from second import k", "second.py": "k = {}"}),
        ("import parts.deep.gate\nk = parts.deep.gate.k", {"parts/deep/gate.py": "k = {}", "parts/__init__.py": ""}),
        (
            "from parts.gate import k",
            {"parts/__init__.py": "", "parts/gate.py": "from .base import k", "parts/base.py": "k = {}"},
        ),
        ("from parts import gate\nk = gate.k", {"parts/gate.py": "k = {}"}),
    ],
    ids=range(10),
)
def test_neighbours_are_the_folders_own_as_they_are_now(tmp_path: Path, imports: str, files: dict[str, str]) -> None:
    """Two folders have neighbours of one name; an edit of one is another fingerprint, as it is another cell."""
    fingerprints = set()
    for folder, factor in (("a", 0.25), ("b", 0.5), ("a", 0.75)):
        for file, text in files.items():
            (tmp_path / folder / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / file).write_text(text.format(factor))
        cell = load_cell(write(tmp_path / folder, imports))
        assert constants(cell) == [factor]
        fingerprints.add(cell.graph.fingerprint())
    assert len(fingerprints) == 3
    assert not {Path(file).parts[0].removesuffix(".py") for file in files} & sys.modules.keys()
    assert not list(tmp_path.rglob("*.pyc"))
    assert not [entry for entry in sys.path if entry.startswith(str(tmp_path))]


def test_a_neighbour_hides_neither_the_standard_library_nor_what_is_installed(tmp_path: Path) -> None:
    for name in ("random", "torch", "msgspec", "cello"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('the neighbour')")
    (tmp_path / "rich").mkdir()
    cell = load_cell(write(tmp_path, "import random, rich.console, msgspec\nk = 0.5"))
    assert constants(cell) == [0.5]
    assert sys.modules["random"] is random


def test_a_neighbour_goes_before_a_module_of_the_users_own_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "helper.py").write_text("k = 0.125")
    monkeypatch.syspath_prepend(str(tmp_path))
    name = write(tmp_path / "below", "from helper import k")
    assert constants(load_cell(name)) == [0.125]
    (tmp_path / "below" / "helper.py").write_text("k = 0.5")
    assert constants(load_cell(name)) == [0.5]
    sys.modules.pop("helper")


PYTHON = """
from __future__ import annotations
import pickle, typing
from dataclasses import dataclass
from pathlib import Path

@dataclass(frozen=True)
class Setting:
    factor: float = 0.5
    kinds: typing.ClassVar[list[str]] = []

assert pickle.loads(pickle.dumps(Setting(2.0))) == Setting(2.0)
assert __name__ != "__main__"
k = float((Path(__file__).parent / "k.txt").read_text())

def later():
    from helper import k
    return k
"""


def test_what_python_runs_runs(tmp_path: Path) -> None:
    """Dataclasses with postponed annotations, pickle, ``__file__``, an import within a function: while and after."""
    name = write(tmp_path, PYTHON)
    (tmp_path / "mine.py").write_text(PYTHON + CELL.format(imports="", factor="k"))
    (tmp_path / "k.txt").write_text("0.5")
    (tmp_path / "helper.py").write_text("k = 4")
    cell = load_cell(name)
    module = sys.modules[cell.function.__module__]
    assert pickle.loads(pickle.dumps(module.Setting(3.0))) == module.Setting(3.0)
    assert typing.get_type_hints(module.Setting)["factor"] is float
    assert module.later() == 4
    assert inspect.getsource(module.later).startswith("def later")


def test_source_in_another_encoding_is_read_as_it_says(tmp_path: Path) -> None:
    name = write(tmp_path, factor="0.5")
    text = f"# -*- coding: latin-1 -*-\n# größer{CELL.format(imports='', factor='0.5')}"
    (tmp_path / "mine.py").write_bytes(text.encode("latin-1"))
    assert constants(load_cell(name)) == [0.5]
    (tmp_path / "mine.py").write_bytes(b"\xef\xbb\xbf" + CELL.format(imports="", factor="0.25").encode())
    assert constants(load_cell(name)) == [0.25]
    (tmp_path / "mine.py").write_bytes(b"# \xff\n")
    with pytest.raises(CellError, match=r"mine\.py cannot be imported: SyntaxError: "):
        load_cell(name)


def test_a_file_behind_a_link_has_the_neighbours_of_both_places(tmp_path: Path) -> None:
    target = write(tmp_path / "real", "from helper import k").partition(":")[0]
    (tmp_path / "real" / "helper.py").write_text("k = 0.5")
    (tmp_path / "link.py").symlink_to(target)
    assert constants(load_cell(f"{tmp_path}/link.py:mine")) == [0.5]


def test_a_fault_in_a_neighbour_is_named_with_both_places(tmp_path: Path) -> None:
    name = write(tmp_path, "import helper")
    (tmp_path / "helper.py").write_text("one = 1\nnone = missing\n")
    with pytest.raises(CellError, match=r"mine\.py, line 3 \(helper\.py, line 2\) cannot be imported: NameError: name"):
        load_cell(name)
    assert not [module for module in sys.modules.values() if str(tmp_path) in str(getattr(module, "__file__", ""))]


def test_what_is_no_readable_file_is_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "folder.py").mkdir()
    for name, reason in (("pipe", "not a regular file"), ("folder", "a folder, not a regular file")):
        with pytest.raises(CellError, match=rf"cell file .*{name}\.py cannot be read: {reason}\. Give a \.py file"):
            load_cell(f"{tmp_path}/{name}.py:mine")
    with pytest.raises(CellError, match=r"file .*no/mine\.py does not exist"):
        load_cell(f"{tmp_path}/no/mine.py:mine")
    with pytest.raises(CellError, match=r"cell file .* cannot be read: File name too long"):
        load_cell(f"{tmp_path}/{'n' * 300}.py:mine")


def test_loading_a_file_again_and_again_keeps_one_module(tmp_path: Path) -> None:
    name = write(tmp_path, "from helper import k")
    for number in range(5):
        (tmp_path / "helper.py").write_text(f"k = {number + 1}")
        load_cell(name)
    assert (
        len([module for module in sys.modules.values() if str(tmp_path) in str(getattr(module, "__file__", ""))]) == 2
    )
