"""A kernel is compiled once, by any number of processes, and never taken half written or damaged."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest
import torch

from cello.cells.load import zoo
from cello.compiler import backends
from cello.compiler.c import launch
from cello.compiler.scan import scan
from cello.errors import BackendError
from cello.native import build as c_build

needs_compiler = pytest.mark.wants("cc")
TEXT = "int seven(void) { return 7; }"


@needs_compiler
def test_a_text_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert c_build.load(TEXT, "seven", tmp_path).seven() == 7
    there = sorted(tmp_path.iterdir())
    monkeypatch.setattr(c_build, "_run", lambda *_: pytest.fail("compiled again"))
    c_build._working.cache_clear()
    assert c_build.load(TEXT, "seven", tmp_path).seven() == 7
    assert [path.name.split("-")[0] for path in there] == ["seven", "trial"]
    assert sorted(tmp_path.iterdir()) == there


CALLER, SHARED = (
    "int shared(void); int seven(void) { return shared() + N; }",
    ("both", "int shared(void) { return 3; }"),
)


@needs_compiler
def test_what_texts_share_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    c_build.load(TEXT, "seven", tmp_path)
    asked, run = list[list[str]](), c_build._run
    monkeypatch.setattr(c_build, "_run", lambda command, *rest: asked.append(command) or run(command, *rest))
    for number in (4, 5):
        text = CALLER.replace("N", str(number))
        assert c_build.load(text, "caller", tmp_path, shared=SHARED).seven() == 3 + number
    assert ["-c" in command for command in asked] == [True, False, False]


@needs_compiler
def test_a_text_is_linked_with_the_functions_it_was_given(tmp_path: Path) -> None:
    other = (SHARED[0], SHARED[1].replace("3", "30"))
    assert c_build.load(CALLER.replace("N", "4"), "caller", tmp_path, shared=SHARED).seven() == 7
    (kept,) = tmp_path.glob("both-*.o")
    kept.write_bytes(kept.read_bytes()[:-1])
    assert c_build.load(CALLER.replace("N", "5"), "caller", tmp_path, shared=SHARED).seven() == 8
    assert c_build.load(CALLER.replace("N", "4"), "caller", tmp_path, shared=other).seven() == 34


@needs_compiler
def test_another_text_is_another_library(tmp_path: Path) -> None:
    c_build.load(TEXT, "seven", tmp_path)
    assert c_build.load(TEXT.replace("7", "8"), "seven", tmp_path).seven() == 8
    assert len([*tmp_path.glob("seven-*.so")]) == 2


@needs_compiler
@pytest.mark.parametrize("damaged", [b"", b"not a library"], ids=["empty", "text"])
def test_a_damaged_library_is_compiled_anew(tmp_path: Path, damaged: bytes) -> None:
    text = TEXT + f"/* {damaged!r} */"
    c_build.load(text, "seven", tmp_path / "elsewhere")
    name = next((tmp_path / "elsewhere").glob("seven-*.so")).name
    (tmp_path / name).write_bytes(damaged)
    assert c_build.load(text, "seven", tmp_path).seven() == 7


@needs_compiler
def test_two_processes_at_once(tmp_path: Path) -> None:
    load = f"load({TEXT!r}, 'seven', Path({str(tmp_path)!r})).seven()"
    code = f"from pathlib import Path; from cello.native.build import load; print({load})"
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in running] == ["7", "7"]
    assert [path.suffix for path in tmp_path.iterdir()] == [".so", ".so"]


@needs_compiler
def test_what_the_compiler_says_is_passed_on(tmp_path: Path) -> None:
    said = r"c cannot compile the kernel broken in .*: kernel\.c:1.* error.*\. Name another compiler with CC, choose"
    with pytest.raises(BackendError, match=said):
        c_build.load("int broken(", "broken", tmp_path)
    assert [path.name.split("-")[0] for path in tmp_path.iterdir()] == ["trial"]


@pytest.fixture
def untried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compiled_quickly: None) -> Iterator[Path]:
    """Nothing is known of compilers and kernels yet; the cache is new. A folder for compilers of the test's own."""
    cached = (launch.compiled, c_build.missing_compiler, c_build._working, backends._unavailable, backends._warn_once)
    for each in cached:
        each.cache_clear()
    monkeypatch.setenv("CELLO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)
    (tmp_path / "bin").mkdir()
    yield tmp_path / "bin"
    for each in cached:
        each.cache_clear()


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def backend_and_warnings(backend: str = "auto") -> tuple[str, list[str]]:
    """What runs a cell three times, and what is said; its numbers are right."""
    cell = zoo()["rnn"]
    weights = {name: torch.full(shape, 0.1) for name, shape in cell.parameters(2, 3).items()}
    x = torch.ones(1, 2, 2)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        results = [scan(cell, x, weights, backend=backend) for _ in range(3)]
    torch.testing.assert_close(results[0].outputs, scan(cell, x, weights, backend="plain").outputs)
    (used,) = {result.backend for result in results}
    return used, [str(warning.message) for warning in said]


def assert_fallback(reason: str) -> None:
    """Auto computes by plain evaluation and says why, once; "c" says the same, with both remedies."""
    used, said = backend_and_warnings()
    assert used == "plain"
    (text,) = said
    assert re.match(rf'cells run without backend="c", a few times slower: .*{reason}', text), text
    assert re.search(r"\. .*([Cc]hoose a cache with --cache|CC), or set --execution\.backend plain\.$", text), text
    with pytest.raises(BackendError, match=reason):
        backend_and_warnings("c")


def test_without_a_compiler_everything_works_and_the_remedy_is_said_once(
    untried: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(untried))
    assert_fallback(r"no C compiler \(cc, gcc, clang\) is on PATH\. Install one")


BROKEN = {
    "no cc1": ("echo 'cc: fatal error: cannot execute cc1' >&2; exit 1", "cannot compile the kernel trial .*: .*cc1"),
    "silent": ("exit 3", "cannot compile the kernel trial .*: it ended with 3"),
    "not UTF-8": ("printf 'error \\377\\033[31m' >&2; exit 1", "the kernel trial .*: error \ufffd \\[31m"),
    "killed": ("kill -9 $$", "cannot compile the kernel trial .*: it ended with -9"),
    "nothing written": ("exit 0", "cannot compile the kernel trial .*: it writes no library"),
    "no library": (
        'while [ "$1" != -o ]; do shift; done; echo junk > "$2"',
        "trial cannot be run from .*: file too short",
    ),
    "no end": ("sleep 100", "it was not done after 0.5 s"),
}


@pytest.mark.skipif(platform.system() != "Linux", reason="what is said of a file that is no library is Linux's")
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_compiler_is_none(untried: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    text, reason = BROKEN[kind]
    monkeypatch.setenv("CC", str(program(untried / "broken", text)))
    monkeypatch.setattr(c_build, "LONGEST_TRIAL_S", 0.5 if kind == "no end" else 60)
    assert_fallback(reason)


@needs_compiler
def test_a_compiler_that_computes_wrong_is_none(untried: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c_build, "TRIAL", "int trial(int n) { return n; }")
    assert_fallback(r"compiles does not run \(it gives a wrong result\)")


@needs_compiler
def test_a_compiler_without_headers_is_none(untried: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", f"{compiler_path()} -nostdinc")
    assert_fallback(r"cannot compile the kernel trial .*math\.h")


def compiler_path() -> str:
    found = c_build.compiler()
    assert found is not None
    return found[0]


@needs_compiler
def test_a_good_compiler_behind_a_broken_one_is_found(untried: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cc", "gcc"):
        program(untried / name, "exit 1")
    monkeypatch.setenv("PATH", str(untried), prepend=os.pathsep)
    assert backend_and_warnings() == ("c", [])


@needs_compiler
def test_cc_is_asked_first_with_its_arguments(untried: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = program(untried / "wrapper", f'echo "$*" >> "{untried}/calls"; shift; exec {compiler_path()} "$@"')
    monkeypatch.setenv("CC", f"'{wrapper}' --first")
    assert backend_and_warnings("c") == ("c", [])
    calls = (untried / "calls").read_text().splitlines()
    assert [call.split()[0] for call in calls] == ["--first"] * 3  # a trial, what kernels share, the kernel


@pytest.mark.parametrize("asked", ["no-such-cc -O2", "cc 'open"], ids=["missing", "no command"])
def test_a_cc_that_does_not_exist_is_named(untried: Path, monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.setenv("CC", asked)
    assert_fallback(r"CC is .*, which is no program on PATH")


@needs_compiler
def test_a_cell_that_cannot_be_compiled_runs_plain(untried: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse = 'grep -q forward_tile "$a" && { echo "error: No space left" >&2; exit 1; }'
    text = f'for a; do case $a in *.c) {refuse};; esac; done; exec {compiler_path()} "$@"'
    monkeypatch.setenv("CC", str(program(untried / "full", text)))
    assert_fallback(r"cannot compile the kernel rnn-float in .*: error: No space left")


@needs_compiler
def test_a_folder_that_cannot_be_written_is_named(untried: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (untried / "file").write_text("")
    monkeypatch.setenv("CELLO_CACHE", str(untried / "file"))
    assert_fallback(r"cannot be compiled into .*file/kernels: .*\. Make room there, choose a cache")


@needs_compiler
def test_no_home_is_no_reason_to_stop(untried: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(_: str) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("CELLO_CACHE")
    monkeypatch.setattr(platformdirs, "user_cache_path", no_home)
    assert_fallback("there is no folder for compiled cells")


@needs_compiler
def test_libraries_are_ordinary_ones(tmp_path: Path) -> None:
    assert isinstance(c_build.load(TEXT, "seven", tmp_path), ctypes.CDLL)
