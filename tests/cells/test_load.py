"""Cells by name: the zoo is complete and cited, a file of one's own works, and a wrong name meets the right one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from cello.cells.graph import check
from cello.cells.load import every_cell, load_cell, naming, zoo
from cello.errors import CellError

OWN = '''
from cello.cells.definition import cell
from cello.cells.functions import tanh

width = 3

@cell
def echo(x, h, W):
    """An echo."""
    return tanh(W @ x + 0.5 * h)
'''


def test_the_zoo_holds_the_cells_of_the_study_and_of_the_papers() -> None:
    named = (
        "rnn rnn-relu gru gru-original lstm lstm-peephole lstm-peephole-full lstm-coupled lstm-no-forget "
        "lstm-no-input lstm-no-output nig nfg nog niaf noaf cifg np fgr ugrnn mgu janet ligru minimalrnn indrnn "
        "fastgrnn mut1 mut2 mut3"
    )
    assert set(named.split()) <= zoo().keys()


def test_a_cell_is_named_while_another_thread_imports_a_shelf(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = ModuleType("half imported")

    class Defined:
        @property  # type: ignore[misc]
        def __class__(self) -> type:
            setattr(shelf, f"later_{len(vars(shelf))}", 0)
            return object

    shelf.begun = Defined()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cello.cells.zoo.rnn", shelf)
    assert naming(load_cell("gru")) == ("gru", "")


def test_each_cell_is_the_one_of_the_whole_zoo_and_comes_without_the_others() -> None:
    """To trace all of them takes each process a third of a second."""
    assert all(load_cell(name) is cell for name, cell in every_cell().items())
    code = "import sys, cello.cells.load as l; l.load_cell('gru'); print(*(m for m in sys.modules if '.zoo.' in m))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "cello.cells.zoo.papers cello.cells.zoo.gru\n"


@pytest.mark.parametrize("cell", zoo().values(), ids=lambda cell: cell.name)
def test_every_cell_of_the_zoo_is_legal_and_names_its_paper(cell) -> None:  # type: ignore[no-untyped-def]
    check(cell.graph)
    assert re.search(r"\((19|20)\d\d\)\. \w", cell.reference), cell.reference
    assert cell.title.endswith(".")
    assert load_cell(cell.name) is cell


def test_parameter_counts_are_those_of_the_papers() -> None:
    d, h = 39, 64
    counts = {name: cell.parameter_count(d, h) for name, cell in zoo().items()}
    gate = h * d + h * h + h
    assert counts["lstm"] == counts["np"] == 4 * gate
    assert counts["lstm-coupled"] == counts["lstm-no-input"] == counts["gru-original"] == 3 * gate
    assert counts["gru"] == 3 * (gate + h)
    assert counts["lstm-peephole-full"] == 4 * gate + 3 * h * h
    assert counts["cifg"] == 3 * gate + 2 * h
    assert counts["fgr"] == 4 * gate + 3 * h + 9 * h * h
    assert counts["fastgrnn"] == gate + h + 2


def test_a_cell_of_ones_own_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    cell = load_cell(f"{file}:echo")
    assert (cell.name, cell.title, cell.states) == ("echo", "An echo.", ("h",))
    with pytest.raises(CellError, match=r"unknown cell in mine\.py 'ecko'; did you mean 'echo'\? Known: echo\."):
        load_cell(f"{file}:ecko")
    with pytest.raises(CellError, match=r"width is a int, not a cell\. Write @cell above its function\."):
        load_cell(f"{file}:width")


def test_files_that_give_no_cell_say_why(tmp_path: Path) -> None:
    with pytest.raises(CellError, match=r"file .*none\.py does not exist\. Give the path of your \.py file\."):
        load_cell(f"{tmp_path / 'none.py'}:echo")
    empty = tmp_path / "empty.py"
    empty.write_text("")
    with pytest.raises(CellError, match=r"The file defines no cell: write @cell over a function in empty\.py\."):
        load_cell(f"{empty}:echo")
    (tmp_path / "two.py").write_text(OWN)
    with pytest.raises(CellError, match=r"two\.py' names a file, not a cell in it; write .*two\.py:echo$"):
        load_cell(f"{tmp_path / 'two.py'}")
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_the_kind")
    with pytest.raises(
        CellError, match=r"broken\.py, line 1 cannot be imported: ModuleNotFoundError: .*correct the err"
    ):
        load_cell(f"{broken}:echo")
    leaves = tmp_path / "leaves.py"
    leaves.write_text("import sys\nsys.exit(3)")
    with pytest.raises(CellError, match=r"leaves\.py, line 2 cannot be imported: SystemExit: 3\. Run python"):
        load_cell(f"{leaves}:echo")
    illegal = tmp_path / "illegal.py"
    illegal.write_text(OWN.replace("tanh(W", "tanh(V"))
    with pytest.raises(CellError, match=r"cell 'echo' \(illegal\.py, line 10\): unknown name 'V'"):
        load_cell(f"{illegal}:echo")


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        (
            "def own(x, h: Size(H)): ...",
            "NameError: name 'H' is not defined. Write sizes in quotes, as in Size(\"H\").",
        ),
        (
            "A = Fixed(1.0)",
            "NameError: name 'Fixed' is not defined. Write from cello import Fixed at the top of the file.",
        ),
        ("half = tanh(0.5)", "Write from cello import tanh at the top of the file."),
        ("from cello import gelu", ". Write 0.5 * v * (1 + erf(v / sqrt(2)))."),
        ("from cello import nothing", ". Run python {path} and correct the error."),
        ("A = gelu", "NameError: name 'gelu' is not defined. Run python {path} and correct the error."),
    ],
)
def test_a_name_that_a_file_lacks_is_met_with_what_to_write(tmp_path: Path, text: str, remedy: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f"from cello import Size\n{text}")
    with pytest.raises(CellError) as caught:
        load_cell(f"{path}:own")
    assert str(caught.value).startswith("mine.py, line 2 cannot be imported: ")
    assert str(caught.value).endswith(remedy.format(path=path))


def test_an_unknown_name_meets_the_nearest() -> None:
    with pytest.raises(
        CellError, match=r"unknown cell 'lsmt'; did you mean 'lstm'\? A cell of your own is FILE\.py:NAME"
    ):
        load_cell("lsmt")
