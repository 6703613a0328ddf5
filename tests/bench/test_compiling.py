"""What hurts: a time called new that comes from a cache, or a measurement that fills the user's own."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from cello.bench import compiling as module
from cello.bench.compiling import compiling, main
from cello.errors import BackendError
from cello.native import build

MINE = """
print("[1, 2, 3]")
from cello import cell, tanh
@cell
def rnn(x, h, W, U, b):
    return tanh(W @ x + U @ h + b)
"""


@pytest.mark.wants("cc")
def test_a_kernel_is_compiled_into_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("CELLO_CACHE", "XDG_CACHE_HOME"):  # a measurement that turns one of them alone fills the other's
        monkeypatch.setenv(variable, str(tmp_path / "users" / variable))
    compiler = tmp_path / "quickly"
    compiler.write_text(f'#!/bin/sh\nexec {shlex.join(build.compiler() or ())} "$@" -O0\n')
    compiler.chmod(0o700)
    monkeypatch.setenv("CC", str(compiler))
    (tmp_path / "mine.py").write_text(MINE)
    names = (f"{tmp_path}/mine.py:rnn", "rnn", "rnn")
    found = compiling(names, "c", "float32")
    assert [row.cell for row in found] == [*names[:2]]
    assert None not in [row.new_seconds for row in found]
    assert not (tmp_path / "users").exists()


def test_where_nothing_is_compiled_nothing_is_called_new(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CELLO_CACHE", str(tmp_path))  # the measurement changes it, here in this process
    monkeypatch.setattr(
        module, "_in_a_new_process", lambda names, backend, dtype, folder: main([folder, backend, dtype, *names])
    )
    (row,) = compiling(["rnn"], "plain", "float32")
    assert row.new_seconds is None


def test_a_cell_that_does_not_run_is_said_with_the_reason() -> None:
    with pytest.raises(
        BackendError, match=r'time to compile rnn for backend="d" .*unknown back end \'d\'.*report this'
    ):
        compiling(["rnn"], "d", "float32")
