"""What hurts: a public name that is promised and not there, or a heavy import before it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

import cello


def test_every_promised_name_is_there_and_sorted() -> None:
    assert sorted(cello.__all__) == cello.__all__
    for name in cello.__all__:
        assert getattr(cello, name) is not None
    assert set(cello._HOME) | {"__version__"} == set(cello.__all__)


def test_completion_shows_the_public_names_and_no_others() -> None:
    assert dir(cello) == cello.__all__
    assert {"Layer", "cell", "scan", "CellError", "TrainingError", "run_study"} <= set(dir(cello))
    assert not {"resolve", "settled"} & set(dir(cello))


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'cello' has no attribute 'lsmt'"):
        _ = cello.lsmt


def test_importing_cello_alone_is_light() -> None:
    code = "import sys, cello; print(any(m in sys.modules for m in ('torch', 'numpy', 'distributed')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
