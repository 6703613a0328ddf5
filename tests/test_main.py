"""What hurts: Ctrl-C in the first moments of a command answered by a traceback through somebody's imports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import cello

ROOT = Path(__file__).parents[1]
INTERRUPTED = "import os, signal\ntry: os.kill(os.getpid(), signal.SIGINT)\nexcept BaseException: raise ImportError\n"


@pytest.mark.parametrize("module", ["tyro", "rich", "numpy"])
def test_ctrl_c_while_the_imports_run_is_quiet(tmp_path: Path, module: str) -> None:
    (tmp_path / f"{module}.py").write_text(INTERRUPTED)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", "cello", "corpus", "list"],
        env={**os.environ, "PYTHONPATH": path},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell's children ignore it
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_ctrl_c_that_is_to_be_ignored_stays_so(tmp_path: Path) -> None:
    (tmp_path / "tyro.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nraise SystemExit(7)\n")
    done = subprocess.run(
        [sys.executable, "-m", "cello"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN) and None,
        check=False,
    )
    assert done.returncode == 7


def test_the_command_begins_there_and_nothing_heavy_is_imported_before() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"cello": "cello.__main__:main"}
    code = "import sys, cello.__main__; print({'typing', 'numpy', 'rich', 'tyro'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-S", "-c", code], env=bare(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_python_m_cello_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "cello", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"cello {cello.__version__}"


def cello_in_shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A line of shell in which ``cello`` is the command of this tree."""
    run = f'cello() {{ {sys.executable} -m cello "$@"; }}\n{line}'
    there = {**os.environ, **environment}
    return subprocess.run(["bash", "-c", run], env=there, capture_output=True, text=True, check=False, timeout=60)


def test_a_closed_standard_stream_is_no_error_and_no_other_file_gets_its_number() -> None:
    done = cello_in_shell("cello cell show lstm >&- 2>&- <&-; echo $?")
    assert (done.stdout, done.stderr) == ("0\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_behind_standard_output_is_one_sentence_also_for_help() -> None:
    done = cello_in_shell("cello cell show lstm > /dev/full; echo $?; cello --help > /dev/full; echo $?")
    sentence = (
        "error: standard output cannot be written: No space left on device; make room there, or send it elsewhere"
    )
    assert done.stdout == "1\n1\n"
    assert done.stderr.splitlines() == [sentence, sentence]


def test_a_reader_that_has_gone_ends_the_command_without_a_word() -> None:
    done = cello_in_shell("(cello cell show lstm; echo $? >&2) | true; cello trian 2>&1 | true; echo ${PIPESTATUS[0]}")
    assert done.stderr == "141\n"
    assert done.stdout in ("2\n", "141\n")


def test_what_cannot_be_imported_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "tyro.py").write_text("raise ImportError('libx.so is missing')\n")
    done = cello_in_shell("cello cell list; echo $?", PYTHONPATH=os.pathsep.join([str(tmp_path), *sys.path]))
    assert done.stdout == "1\n"
    assert done.stderr.startswith(
        "error: cello cannot start: ImportError: libx.so is missing; install it again, or see"
    )


def test_what_is_raised_beside_the_command_is_a_line_at_most(tmp_path: Path) -> None:
    (tmp_path / "stubborn.py").write_text(
        "import threading\n"
        "class Kept:\n    def __del__(self): raise TimeoutError('closing')\n"
        "kept = Kept()\n"
        "def fail(): raise ValueError('\\x1b[31mred')\n"
        "def mine(x, h, W, U, b):\n    raise SystemExit(0)\n"
        "thread = threading.Thread(target=fail)\nthread.start()\nthread.join()\n"
        "kept = None\nraise ZeroDivisionError('end')\n"
    )
    line = f"cello cell show {tmp_path}/stubborn.py:mine"
    done = cello_in_shell(line)
    first, second = done.stderr.splitlines()
    assert first == r"warning: beside the command: ValueError: \x1b[31mred; see with --traceback where"
    assert second.startswith("error: ")
    whole = cello_in_shell(f"{line} --traceback").stderr
    assert whole.count("Traceback (most recent call last)") >= 3


def bare() -> dict[str, str]:
    """The environment with nothing on the path but Cello, and no site-packages: what they import is not ours."""
    return {**os.environ, "PYTHONPATH": str(Path(cello.__file__).parents[1])}
