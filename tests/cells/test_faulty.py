"""What hurts: one wrong cell that takes all others of its file away, and one that is wrong without a word."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from cello.cells.definition import Cell
from cello.cells.load import cells_of_file, load_cell
from cello.errors import CellError

RIGHT = "@cell\ndef right(x, h, W):\n    return tanh(W @ x + 0.5 * h)\n"
WRONG = "@cell\ndef wrong_one(x, h, W):\n    return tanh(V @ x + 0.5 * h)\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.py"


def write(file: Path, text: str, imports: str = "from cello import cell, tanh") -> None:
    """The cell that a test is about stands first, so what it does to the file befalls all that follows."""
    file.write_text(f"{imports}\n{text}\n{RIGHT}")


def refusal(file: Path, name: str) -> str:
    with pytest.raises(CellError) as caught:
        load_cell(f"{file}:{name}")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (WRONG, "wrong_one", "cell 'wrong-one' (mine.py, line 4): unknown name 'V'. States and parameters are arg"),
        (
            "@cell\ndef own(x, h, w: Fixed(1.0)):\n    return w * x + h",
            "own",
            "cell 'own' (mine.py, line 3): NameError: name 'Fixed' is not defined. Write from cello import Fixed at",
        ),
        (
            "@cell\ndef own(x, h, W=1 / 0):\n    return W @ x + h",
            "own",
            "cell 'own' (mine.py, line 3): ZeroDivisionError: division by zero. Run python ",
        ),
        (
            "@cell()\ndef own(x, h, W):\n    return W @ x + h",
            "own",
            "cell (mine.py, line 2): @cell() is called without a function. Write @cell, without parentheses.",
        ),
        (
            "@cell(paper=3)\ndef own(x, h, W):\n    return W @ x + h",
            "own",
            "cell 'own' (mine.py, line 2): @cell(paper=...) takes a cello.Paper, but got 3; write Paper(",
        ),
        ("@cell\nclass own: ...", "own", "cell 'own' (mine.py, line 2): @cell decorates a class, which is not a fun"),
        ("@cell\nasync def own(x, h): ...", "own", "cell 'own' (mine.py, line 2): the function is async, which an eq"),
        (
            "small = cell(lambda x, h: h)",
            "small",
            "cell 'small' (mine.py, line 2): cell '<lambda>' (mine.py, line 2): a lambda has no name. Write def NAME(",
        ),
        (
            "for k in range(2):\n    if k:\n        @cell\n        def own(x, h, W):\n            return V @ x",
            "own",
            "cell 'own' (mine.py, line 6): unknown name 'V'.",
        ),
        (
            f"{WRONG}@cell\ndef own(x, h, W):\n    return wrong_one(x, h, W)",
            "own",
            "cell 'own' (mine.py, line 7): cell 'wrong-one' (mine.py, line 4): unknown name 'V'.",
        ),
    ],
    ids=range(10),
)
def test_beside_a_wrong_cell_the_others_are_usable_and_it_says_what_is_wrong_when_asked_for(
    file: Path, text: str, name: str, message: str
) -> None:
    write(file, text)
    assert load_cell(f"{file}:right").parameters(3, 4) == {"W": (4, 3)}
    assert refusal(file, name).startswith(message)


def test_cellos_own_name_for_the_decorator_works_too(file: Path) -> None:
    write(file, WRONG.replace("@cell", "@cello.cell"), imports="import cello\nfrom cello import cell, tanh")
    assert isinstance(load_cell(f"{file}:right"), Cell)
    assert "unknown name 'V'" in refusal(file, "wrong_one")


def test_a_wrong_cell_of_a_neighbour_hides_none_of_those_beside_it(file: Path) -> None:
    (file.parent / "others.py").write_text(f"from cello import cell, tanh\n{WRONG}{RIGHT}")
    write(file, "from others import right as other, wrong_one")
    assert isinstance(load_cell(f"{file}:other"), Cell)
    assert refusal(file, "wrong_one").startswith("cell 'wrong-one' (others.py, line 4): unknown name 'V'.")


def test_lists_say_which_cells_are_faulty(file: Path) -> None:
    write(file, WRONG)
    assert refusal(file, "writ") == (
        "unknown cell in mine.py 'writ'; did you mean 'right'? Known: right. "
        "Faulty: wrong_one; ask for one to see what is wrong with it."
    )
    with pytest.raises(CellError) as caught:
        load_cell(str(file))
    assert str(caught.value) == (
        f"'{file}' names a file, not a cell in it; write {file}:right. "
        f"Faulty: wrong_one; ask for one to see what is wrong with it."
    )
    right, faulty = cells_of_file(str(file))
    assert (*right,) == ("right",)
    assert str(faulty["wrong_one"].error).startswith("cell 'wrong-one' (mine.py, line 4)")
    file.write_text(f"from cello import cell\n{WRONG}")
    assert "unknown cell in mine.py 'right'. Faulty: wrong_one; ask" in refusal(file, "right")


def test_what_is_wrong_elsewhere_in_a_file_still_stops_it_and_says_so(file: Path) -> None:
    for text in ("half = 1 / 0", "def helper(x, a=1 / 0): ..."):
        write(file, text)
        assert refusal(file, "right").startswith("mine.py, line 2 cannot be imported: ZeroDivisionError"), text
    write(file, f"{WRONG}states = wrong_one.states")
    assert refusal(file, "right").startswith("cell 'wrong-one' (mine.py, line 4): unknown name 'V'.")
    write(file, f"try:\n    {WRONG.replace(chr(10), chr(10) + '    ')}\nexcept Exception as error:\n    print(error)")
    assert isinstance(load_cell(f"{file}:right"), Cell)
    assert "unknown cell in mine.py 'wrong_one'" in refusal(file, "wrong_one")


def test_python_itself_stops_at_the_wrong_cell() -> None:
    """Only what Cello loads by its name goes on: in a notebook or a script an error stands where it is made."""
    with pytest.raises(CellError, match="unknown name 'V'"):
        exec(f"from cello import cell, tanh\n{WRONG}", {"__name__": "mine"})


def test_a_file_keeps_its_lines_its_text_and_its_first_words(file: Path) -> None:
    write(file, WRONG, imports='"""Mine."""\nfrom __future__ import annotations\nfrom cello import cell, tanh')
    function = load_cell(f"{file}:right").function
    assert function is not None
    assert function.__globals__["__doc__"] == "Mine."
    assert inspect.getsource(function) == RIGHT
    assert "line 6)" in refusal(file, "wrong_one")
