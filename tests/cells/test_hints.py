"""Annotations: those of the language and types are read, and what says nothing is refused with what to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from cello.cells.load import load_cell
from cello.errors import CellError


@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"])
@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ('"H/2"', "is annotated with the text 'H/2', which says nothing by itself. Write h: Size(\"H/2\")."),
        (
            '"x.value"',
            "is annotated with the text 'x.value', which says nothing by itself. Write h: Size(\"x.value\")",
        ),
        (
            '"half of it"',
            "is annotated with the text 'half of it', which says nothing by itself. Write h: Size(\"H\")",
        ),
        (
            "16",
            "is annotated with the number 16, which says nothing by itself. Write h: Size(16) for its elem",
        ),
        (
            "1.5",
            "is annotated with the number 1.5, which says nothing by itself. Write h: Learned(1.5) for its",
        ),
        ("lambda i: i", "is annotated with a function, which says nothing by itself. Write h: Learned(...) or h: Fi"),
        ("[1.0]", "is annotated with a list, which says nothing by itself. Write h: Members(f=Learned(1.0)) for"),
        ("np.eye(3)", "is annotated with a ndarray, which says nothing by itself. Write h: Fixed(lambda i, j: ...)"),
    ],
)
def test_annotations_that_say_nothing_are_refused(tmp_path: Path, future: str, annotation: str, message: str) -> None:
    text = f"def own(x, h: {annotation}, W):\n    return tanh(W @ x + h)"
    assert message in _message(tmp_path, f"{future}import numpy as np\nfrom cello import *\n\n@cell\n{text}")


@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"])
def test_types_are_annotations_that_say_nothing_of_a_cell(tmp_path: Path, future: str) -> None:
    for annotation in ('"Tensor"', '"torch.Tensor"', "torch.Tensor", "np.ndarray", "'np.typing.NDArray[np.float64]'"):
        text = f"def own(x, h: {annotation}, W):\n    return tanh(W @ x + h)"
        file = tmp_path / "mine.py"
        file.write_text(f"{future}import numpy as np, torch\nfrom cello import *\n\n@cell\n{text}")
        assert load_cell(f"{file}:own").state_shapes == (("H",),)


@pytest.mark.parametrize("future", ["", "from __future__ import annotations\n"])
@pytest.mark.parametrize("annotation", ["Half", "'Half'"])
def test_a_name_for_an_annotation_is_read(tmp_path: Path, future: str, annotation: str) -> None:
    file = tmp_path / "mine.py"
    head = f"{future}from cello import *\n\nHalf = Size('H/2')\n\n@cell\n"
    file.write_text(f"{head}def own(x, h: {annotation}, W, U, V):\n    return tanh(W @ x + U @ sigmoid(V @ x)) * h")
    assert load_cell(f"{file}:own").state_shapes == (("H/2",),)


def test_a_size_without_quotes_is_told_with_them(tmp_path: Path) -> None:
    head = "from __future__ import annotations\nfrom cello import *\n\n"
    text = "@cell\ndef own(x, h: H / 2, W):\n    return W @ x + h"
    assert 'Write h: Size("H/2").' in _message(tmp_path, head + text)


def _message(folder: Path, text: str) -> str:
    (folder / "mine.py").write_text(text)
    with pytest.raises(CellError) as caught:
        load_cell(f"{folder / 'mine.py'}:own")
    return str(caught.value)
