"""Cells as a user has them: in a file of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cello.cells.definition import Cell
from cello.cells.load import load_cell
from cello.errors import CellError

HEAD = """import asyncio, copy, functools, math, pickle, random
import numpy as np
import torch
from cello import Scalar, cell
from cello.cells.functions import exp, log, maximum, minimum, relu, sigmoid, softplus, sqrt, tanh, where
"""


@pytest.fixture
def own_cell(tmp_path: Path) -> Callable[[str], Cell]:
    """Loads the cell called own from the text of a file, below the usual imports."""

    def load(text: str) -> Cell:
        file = tmp_path / "mine.py"
        file.write_text(HEAD + text)
        return load_cell(f"{file}:own")

    return load


@pytest.fixture
def refusal(own_cell: Callable[[str], Cell]) -> Callable[[str], str]:
    """The message for an illegal cell called own, without its place: that is the line that ends in ``# here``."""

    def message(text: str) -> str:
        with pytest.raises(CellError) as caught:
            own_cell(text)
        here = [number for number, line in enumerate((HEAD + text).splitlines(), start=1) if line.endswith("# here")]
        place = f"cell 'own' (mine.py, line {here[0]}): "
        assert str(caught.value).startswith(place)
        assert str(caught.value).endswith(".")
        return str(caught.value).removeprefix(place)

    return message
