"""A kernel is compiled once, by any number of processes, and never taken half written or damaged."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cello.cells.load import zoo
from cello.compiler import c_build, c_scan
from cello.compiler.scan import scan
from cello.errors import BackendError

needs_compiler = pytest.mark.skipif(c_build.compiler() is None, reason="there is no C compiler on PATH")
TEXT = "int seven(void) { return 7; }"


@needs_compiler
def test_a_text_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert c_build.load(TEXT, "seven", tmp_path).seven() == 7
    (library,) = tmp_path.iterdir()
    monkeypatch.setattr(c_build, "_compile", lambda *_: pytest.fail("compiled again"))
    assert c_build.load(TEXT, "seven", tmp_path).seven() == 7
    assert [*tmp_path.iterdir()] == [library]


@needs_compiler
def test_another_text_is_another_library(tmp_path: Path) -> None:
    c_build.load(TEXT, "seven", tmp_path)
    assert c_build.load(TEXT.replace("7", "8"), "seven", tmp_path).seven() == 8
    assert len([*tmp_path.iterdir()]) == 2


@needs_compiler
@pytest.mark.parametrize("damaged", [b"", b"not a library"], ids=["empty", "text"])
def test_a_damaged_library_is_compiled_anew(tmp_path: Path, damaged: bytes) -> None:
    text = TEXT + f"/* {damaged!r} */"
    c_build.load(text, "seven", tmp_path / "elsewhere")
    name = next((tmp_path / "elsewhere").iterdir()).name
    (tmp_path / name).write_bytes(damaged)
    assert c_build.load(text, "seven", tmp_path).seven() == 7


@needs_compiler
def test_two_processes_at_once(tmp_path: Path) -> None:
    load = f"load({TEXT!r}, 'seven', Path({str(tmp_path)!r})).seven()"
    code = f"from pathlib import Path; from cello.compiler.c_build import load; print({load})"
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in running] == ["7", "7"]
    assert [path.suffix for path in tmp_path.iterdir()] == [".so"]


@needs_compiler
def test_what_the_compiler_says_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"cannot compile the kernel broken-\w+: (?s:.*)error"):
        c_build.load("int broken(", "broken", tmp_path)
    assert [*tmp_path.iterdir()] == []


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    for cached in (c_scan.compiled, c_build.can_compile):
        cached.cache_clear()
    yield
    c_build.can_compile.cache_clear()


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_everything_works_and_the_remedy_is_said_once() -> None:
    cell = zoo()["rnn"]
    weights = {name: torch.zeros(shape) for name, shape in cell.parameters(2, 3).items()}
    with pytest.warns(
        UserWarning, match=r"no C compiler \(cc, gcc, clang\) is on PATH, so .*slower\. Install one"
    ) as said:
        backends = [scan(cell, torch.zeros(1, 1, 2), weights).backend for _ in range(3)]
    assert (backends, len(said)) == (["plain"] * 3, 1)
    with pytest.raises(BackendError, match=r"needs a C compiler, and none of cc, gcc, clang is on PATH\. Install one"):
        scan(cell, torch.zeros(1, 1, 2), weights, backend="c")


@needs_compiler
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        BackendError, match=r"cannot be compiled into .*file.*Make room there, or use backend=\"plain\""
    ):
        c_build.load(TEXT, "seven", tmp_path / "file")


@needs_compiler
def test_libraries_are_ordinary_ones(tmp_path: Path) -> None:
    assert isinstance(c_build.load(TEXT, "seven", tmp_path), ctypes.CDLL)
