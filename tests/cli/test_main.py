"""What hurts: a typo answered by a traceback, help that a newcomer cannot use, an error that names no remedy."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import get_args

import pytest

import cello
from cello.audio import staging
from cello.audio.corpus import Manifest
from cello.bench.record import Compiling
from cello.cli.main import Commands, main
from cello.cli.sound import corpus_slug, file_name
from cello.errors import StudyError
from cello.study.config import StudyConfig
from cello.study.store import CorpusSource, Store
from cello.study.study_file import parse_study

STUDY = """
name = "tiny"
protocol = "mine"
seeds = [0, 1]
[base.optimiser]
epochs = 1
batch = 16
[base.model]
hidden = 4
[[rows]]
name = "GRU"
model.cell = "gru"
[[rows]]
name = "LSTM"
model.cell = "lstm"
"""


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, what was printed, what went to standard error; lines joined, so that wrapping does not matter."""
    try:
        status = main(arguments)
    except SystemExit as left:
        status = int(left.code or 0)
    printed = capsys.readouterr()
    return status, " ".join(printed.out.split()), " ".join(printed.err.split())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"cello {cello.__version__}", "")


@pytest.mark.parametrize(
    "command", ["study", "tune", "train", "predict", "evaluate", "report", "export", "merge", "corpus", "cell", "bench"]
)
def test_every_commands_help_has_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    status, out, _ = run(capsys, command, "--help")
    assert status == 0
    assert f"For example: cello {command}" in out


def test_help_comes_without_torch() -> None:
    code = "import sys, cello.cli.main as c\ntry: c.main(['--help'])\nexcept SystemExit: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("False")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cell", "show", "lsmt"], "unknown cell 'lsmt'; did you mean 'lstm'?"),
        (["study", "gate", "--corpus", "x"], "unknown study 'gate'; did you mean 'gates'?"),
        (["study", "gates", "--protocol", "fiar"], "unknown protocol 'fiar'; did you mean 'fair'?"),
        (["corpus", "inspect", "spokn"], "'spokn'; did you mean 'spoken'?"),
        (["corpus", "inspect", "folder:/nowhere/at/all"], "/nowhere/at/all"),
        (["report", "/nowhere/at/all"], "/nowhere/at/all"),
        (["study", "gates", "--seeds", "-1"], "--seeds -1 is invalid: it must be at least 1"),
        (
            ["study", "gates", "--cluster", "node7"],
            "cluster 'node7' is neither an address nor a scheduler file that is",
        ),
        (
            ["tune", "gates", "--stall-minutes", "0"],
            "stall_minutes=0 would restart every run at once; give minutes",
        ),
        (
            ["study", "gates", "--epochs", "0", "--corpus", "/nowhere/at/all"],
            "optimiser.epochs=0 is invalid: it must be at least 1",
        ),
        (["tune", "gates", "--set", "model.hiden=9"], "unknown setting 'model.hiden'; did you mean 'model.hidden'?"),
        (["tune", "gates", "--set", "model.dropout=0.1"], "--set model.dropout changes nothing: [tune.space] gives"),
        (["bench", "cells", "--cell", "lsmt"], "unknown cell 'lsmt'; did you mean 'lstm'?"),
        (["bench", "cells", "--sizes", "64x49x39"], "size '64x49x39' is not BxTxDxH"),
        (["bench", "cells", "--rounds", "0"], "rounds=0 is invalid: it must be at least 1"),
        (["bench", "cells", "--threads", "1", "0"], "threads=0 is invalid: it must be 1 to"),
        (["bench", "cells", "--out", "/dev/null/x.json"], "cannot be saved as /dev/null/x.json"),
        (["bench", "features", "--rounds", "0"], "rounds=0 is invalid: it must be at least 1"),
        (["bench", "features", "--window", "40", "2000"], "window=2000 is invalid: it must be at most 1000 ms"),
        (["bench", "features", "--out", "/dev/null/x.json"], "cannot be saved as /dev/null/x.json"),
    ],
)
def test_a_wrong_name_is_one_sentence(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    status, _, err = run(capsys, *arguments)
    assert status == 1
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in err


CHANGES = {
    "cell": ('model.cell = "gru"', 'model.cell = "gruu"'),
    "key": ("hidden = 4", "hiden = 4"),
    "section": ("[base.optimiser]", "[base.optimizer]"),
    "syntax": ('protocol = "mine"', "protocol: mine"),
    "seeds": ("seeds = [0, 1]", "seeds = []"),
    "epochs": ("epochs = 1", "epochs = 0"),
    "window": ("[base.model]", "[base.features]\nwindow_ms = 960\n[base.model]"),
    "import": ('model.cell = "gru"', 'model.cell = "broken.py:x"'),
    "file": ('model.cell = "gru"', 'model.cell = "nofile.py:x"'),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("cell", "study 'tiny', row 'GRU': unknown cell 'gruu'; did you mean 'gru'? A cell of your own is "),
        ("key", "tiny.toml: unknown key base.model.hiden; did you mean 'hidden'? Known: "),
        ("section", "tiny.toml: unknown key base.optimizer; did you mean 'optimiser'? Known: "),
        (
            "syntax",
            "tiny.toml: not valid TOML: Expected '=' after a key in a key/value pair (at line 3, column 9); correct",
        ),
        ("seeds", "tiny.toml: study 'tiny' has no seeds, so nothing to run; write for example seeds = [0]"),
        ("epochs", "study 'tiny', row 'GRU': optimiser.epochs=0 is invalid: it must be at least 1"),
        (
            "window",
            "18 of 60 clips are shorter than one window of features.window_ms=960 (row 'GRU'; row 'LSTM'); short",
        ),
        (
            "import",
            "broken.py, line 1 cannot be imported: ZeroDivisionError: division by zero. Run python broken.py",
        ),
        ("file", "row 'GRU': file "),
    ],
)
def test_a_mistake_in_a_studys_file_is_one_sentence_before_anything_runs(
    capsys: pytest.CaptureFixture[str],
    tone_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("x = 1 / 0\n")
    (tmp_path / "tiny.toml").write_text(STUDY.replace(*CHANGES[change]))
    status, out, err = run(capsys, "study", "tiny.toml", "--corpus", str(tone_folder), "--cache", "cache", "--out", "o")
    assert (status, out) == (1, "")
    assert err.startswith("error: ")
    assert message in err
    assert not (tmp_path / "o" / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study", "gates", "--workers", "0"], "workers=0 is invalid: it must be at least 1"),
        (["train", "--model.cell", "gruu"], "unknown cell 'gruu'; did you mean 'gru'? A cell of your own is "),
        (["train", "--seed", "-1"], "--seed -1 is invalid: it must be 0 to 9223372036854775807"),
        (["train", "--seed", str(10**30)], f"--seed {10**30} is invalid: it must be 0 to 9223372036854775807"),
        (
            ["train", "--augment.shift-ms", "1e300"],
            "augment.shift_ms = 1e+300 is invalid: it must be at most 360",
        ),
        (["train", "--optimiser.epochs", "0"], "optimiser.epochs=0 is invalid: it must be at least 1"),
    ],
)
def test_a_mistake_shows_before_the_corpus_is_made(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.setattr("cello.audio.open.open_corpus", None)
    status, _, err = run(capsys, *arguments)
    assert status == 1
    assert message in err


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [(["study", "gates", "--seds", "3"], "--seeds"), (["train", "--model.hiden", "3"], "--model.hidden")],
)
def test_an_option_that_does_not_exist_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], arguments: list[str], nearest: str
) -> None:
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert f"{arguments[-2]}" in err
    assert nearest in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "error: unknown command 'trian'; did you mean 'train'? Known: bench, cell, corpus, "),
        (["corpus", "inspct", "x"], "error: unknown command 'inspct'; did you mean 'inspect'? Known: clean, fetch, "),
        (["\x1b[31mred"], r"error: unknown command '\x1b[31mred'. Known: "),
        (["study", "gates", "--\x1b[31mx"], r"Unrecognized options: --\x1b[31mx"),
        (["study", "gates", "--seeds", "\x1b[31mx"], r"['\x1b[31mx']"),
        (["train", "--model.pooling", "\x9b31m"], r"\x9b31m"),
    ],
)
def test_a_command_that_does_not_exist_is_named_with_the_nearest(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert "\x1b" not in err
    assert "\x9b" not in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["corpus", "inspect", "folder:caf\udce9"],
        ["train", "--out", "caf\udce9"],
        ["train", "--model.cell", "caf\udce9.py:mine"],
        ["report", "caf\udce9"],
        ["study", "caf\udce9.toml"],
        ["study", "gates", "--cache", "caf\udce9"],
        ["merge", "a", "b", "--out", "caf\udce9"],
    ],
)
def test_a_path_that_is_not_utf8_is_to_be_renamed(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (1, "")
    assert err.startswith("error: '")
    assert err.endswith("' is not UTF-8, and Cello's records must be; rename it")
    assert r"caf\xe9" in err


def test_a_current_folder_that_was_removed_is_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    sentence = "error: the current folder cannot be used: No such file or directory; change to another one"
    assert run(capsys, "train") == (1, "", sentence)


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied", "a\x1bb"),
            1,
            r"'a\x1bb': Permission denied; choose a place",
        ),
        (MemoryError(), 1, "error: cello cell list: out of memory; give fewer --workers"),
        (
            ZeroDivisionError("division by zero"),
            70,
            "error: cello cell list met a bug in Cello: ZeroDivisionErr",
        ),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, "error: cello cell list: Broken pipe; see with --traceback"),
    ],
)
def test_every_exception_is_a_sentence_and_the_traceback_shows_on_demand(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
    message: str,
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("cello.cells.load.every_cell", fail)
    for arguments in (["cell", "list"], ["--traceback", "cell", "list"], ["cell", "list", "--traceback"]):
        found, out, err = run(capsys, *arguments)
        assert (found, out) == (status, "")
        assert message in err
        assert ("Traceback (most recent call last)" in err) == ("--traceback" in arguments)
        assert "\x1b" not in err


@pytest.mark.parametrize("columns", ["1", "0", "-1", "letters", "20"])
def test_help_ends_and_is_readable_however_narrow_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    status, out, _ = run(capsys, "corpus", "clean", "--help")
    assert status == 0
    assert "--older-than" in out
    assert os.environ["COLUMNS"] == columns


def test_the_help_tells_of_tracebacks_and_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "--help")
    assert "With --traceback, anywhere on the line, an error is shown with its traceback." in out
    assert "Exit status: 0 done, 1 an error that you can fix, 2 wrong usage, 70 a bug in Cello, 130 Ctrl-C, 141" in out


def test_the_help_lists_all_commands_on_one_screen_in_plain_words(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    assert len(out.splitlines()) < 45
    named = re.findall(r"• (\w+)", out)
    assert named == [one.__metadata__[0].name for one in get_args(Commands)]
    assert "For example" not in out
    assert "cello COMMAND --help shows the options of a command, with examples." in out
    for command in named:
        told = run(capsys, command, "--help")[1]
        assert "workbench" not in told
        assert "exits " not in told


def test_the_cache_holds_also_what_the_command_compiles(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str | None, object]] = []
    monkeypatch.delenv("CELLO_CACHE", raising=False)
    monkeypatch.setattr(
        "cello.features.clean.held", lambda cache: seen.append((os.environ.get("CELLO_CACHE"), cache)) or []
    )
    monkeypatch.chdir(tmp_path)
    run(capsys, "corpus", "clean", "--cache", "here")
    assert "CELLO_CACHE" not in os.environ
    monkeypatch.setenv("CELLO_CACHE", "/there")
    run(capsys, "corpus", "clean")
    run(capsys, "corpus", "clean", "--cache", "here")
    here = str(tmp_path / "here")
    assert seen == [(here, Path("here")), ("/there", None), (here, Path("here"))]
    assert os.environ["CELLO_CACHE"] == "/there"


@pytest.mark.parametrize("home", [None, "/nonexistent", "/proc"])
def test_without_a_home_a_cache_is_asked_for_and_libraries_do_not_complain(
    capsys: pytest.CaptureFixture[str],
    tone_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    home: str | None,
) -> None:
    def nobody(_: int) -> None:
        raise KeyError("getpwuid(): uid not found: 12345")

    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "CELLO_CACHE"):
        monkeypatch.delenv(name, raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    monkeypatch.chdir(tmp_path)
    kept: list[str] = []
    monkeypatch.setattr("cello.features.clean.held", lambda cache: kept.append(os.environ["MPLCONFIGDIR"]) or [])
    assert run(capsys, "corpus", "clean", "--cache", "c")[::2] == (0, "")
    assert kept
    assert not Path(kept[0]).exists()
    assert "MPLCONFIGDIR" not in os.environ
    assert run(capsys, "corpus", "inspect", str(tone_folder), "--cache", "c")[::2] == (0, "")
    for arguments in (["folder:~nosuchuser/clips", "--cache", "c"], *([[str(tone_folder)]] if home is None else [])):
        status, _, err = run(capsys, "corpus", "inspect", *arguments)
        assert status == 1
        assert err.startswith("error: ")


def test_a_model_that_no_machine_can_train_is_refused_before_the_corpus_is_made(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cello.audio.open.open_corpus", None)
    status, _, err = run(capsys, "train", "--model.hidden", "1000000")
    assert status == 1
    assert "model.hidden=1000000, layers=1, frame_stacking=1 make matrices of at least 1,000,039,000,000" in err


def one_class(folder: Path) -> str:
    shutil.rmtree(folder / "low")
    shutil.rmtree(folder / "rough")
    return "has only one class ('high'); a classifier needs at least two: add a class folder, or give the folder that"


def empty_split(folder: Path) -> str:
    (folder / "validation_list.txt").write_text("low/00000001_nohash_0.wav\n")
    (folder / "testing_list.txt").write_text("")
    return "the test split of tones is empty (train 59, validation 1, test 0; 0 clips unusable; "


def no_clips(folder: Path) -> str:
    shutil.rmtree(folder)
    folder.mkdir()
    return "has no class folders with files in them; a corpus has one folder of clips for each class"


@pytest.mark.parametrize(
    ("command", "spoil"),
    [
        *product((["study", "gates"], ["train"]), (one_class, empty_split, no_clips)),
        *product((["corpus", "inspect"],), (one_class, no_clips)),
    ],
)
def test_a_corpus_that_cannot_be_used_is_one_sentence(
    capsys: pytest.CaptureFixture[str],
    tone_folder: Path,
    tmp_path: Path,
    command: list[str],
    spoil: Callable[[Path], str],
) -> None:
    message = spoil(tone_folder)
    where = [] if command[0] == "corpus" else ["--corpus"]
    status, out, err = run(capsys, *command, *where, str(tone_folder), "--cache", str(tmp_path / "c"))
    assert (status, out) == (1, "")
    assert message in err


def other_study(out: Path) -> str:
    command = parse_study(STUDY.replace('"tiny"', '"other"'), "other.toml")
    empty = Manifest(corpus="x", rate_hz=1, labels=(), clips=(), bad=(), checksum="0" * 64, source="")
    Store.create_or_open(out, command, empty, CorpusSource(spec="x"))
    return "out' holds another study: its study is other, not tiny; choose another --out for this one"


def newer_store(out: Path) -> str:
    out.mkdir()
    (out / "study.json").write_text('{"format": 99}')
    return f"has format 99, and this is Cello {cello.__version__}, which knows formats up to 1; install a newer Cello"


def other_files(out: Path) -> str:
    out.mkdir()
    (out / "thesis.doc").touch()
    return "out' holds no study but other files (thesis.doc); choose an empty or new folder with --out"


def a_file(out: Path) -> str:
    out.touch()
    return "out' is a file, not a folder; choose another --out"


@pytest.mark.parametrize("spoil", [other_study, newer_store, other_files, a_file])
def test_a_folder_that_cannot_hold_the_study_is_one_sentence(
    capsys: pytest.CaptureFixture[str], tone_folder: Path, tmp_path: Path, spoil: Callable[[Path], str]
) -> None:
    (tmp_path / "tiny.toml").write_text(STUDY)
    out = tmp_path / "out"
    message = spoil(out)
    corpus = ["--corpus", str(tone_folder), "--cache", str(tmp_path / "cache")]
    status, printed, err = run(capsys, "study", str(tmp_path / "tiny.toml"), *corpus, "--out", str(out))
    assert (status, printed) == (1, "")
    assert message in err


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs Linux's /sys, where not even root makes folders")
@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["study", "gates"], "error: '/sys/kernel/x/y' cannot be used: "),
        (["train"], "error: run folder '/sys/kernel/x/y' cannot be used: "),
    ],
)
def test_a_folder_that_cannot_be_written_is_one_sentence(
    capsys: pytest.CaptureFixture[str], tone_folder: Path, tmp_path: Path, command: list[str], message: str
) -> None:
    options = ["--corpus", str(tone_folder), "--cache", str(tmp_path / "cache"), "--out", "/sys/kernel/x/y"]
    status, _, err = run(capsys, *command, *options)
    assert status == 1
    assert err.startswith(message)
    assert "Errno" not in err
    assert "; choose " in err


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("cello.study.store.write_whole", "out' is full ("),
        (
            "cello.audio.decoded._build",
            "cache' (No space left on device); free space there or choose another cache folder",
        ),
    ],
)
def test_a_full_disk_is_one_sentence(
    capsys: pytest.CaptureFixture[str],
    tone_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    message: str,
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(function, full)
    (tmp_path / "tiny.toml").write_text(STUDY)
    corpus = ["--corpus", str(tone_folder), "--cache", str(tmp_path / "cache")]
    status, _, err = run(capsys, "study", str(tmp_path / "tiny.toml"), *corpus, "--out", str(tmp_path / "out"))
    assert status == 1
    assert message in err


def test_a_dry_run_says_what_would_run_and_writes_and_opens_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cello.audio.open.open_corpus", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(STUDY)
    arguments = ["study", "tiny.toml", "--corpus", "folder:none", "--match", "flops", "--workers", "3", "--dry-run"]
    status, out, err = run(capsys, *arguments)
    assert (status, err) == (0, "")
    assert "beside GRU's, matched by flops" in out
    assert "0 of 4 runs are finished, 4 to do on 3 workers" in out
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.toml"]


@pytest.mark.parametrize(("options", "folder"), [([], "tiny-mine"), (["--match", "flops"], "tiny-mine-flops")])
def test_a_study_matched_otherwise_has_a_folder_of_its_own_and_warnings_are_one_line(
    capsys: pytest.CaptureFixture[str],
    tone_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    folder: str,
) -> None:
    def instead(study: StudyConfig, source: CorpusSource, out: Path, **_: object) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn(f"{study.match} in {out}", stacklevel=2)
        raise StudyError("enough")

    monkeypatch.setattr("cello.execution.run.run_study", instead)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(STUDY)
    corpus = ["--corpus", str(tone_folder), "--cache", str(tmp_path / "cache")]
    status, _, err = run(capsys, "study", "tiny.toml", *corpus, *options)
    assert status == 1
    match = "flops" if options else "width"
    assert err == f"warning: {match} in results/tones/{folder} error: enough"


def test_cells_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "cell", "list")
    assert status == 0
    assert "lstm-coupled" in out
    assert "gru-d (value, mask, gap); t-lstm (value, gap); cfc-gaps (value, gap). They are in no study" in out
    status, out, _ = run(capsys, "cell", "show", "lstm", "--target", "latex")
    assert status == 0
    assert r"\sigma" in out


def test_cells_of_a_file_are_listed_and_the_faulty_ones_with_what_is_wrong(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = MISTYPED + MISTYPED.replace("mine", "wrong").replace("U * h", "V * h").partition("\n")[2]
    (tmp_path / "mine.py").write_text(text)
    status, out, _ = run(capsys, "cell", "list", str(tmp_path / "mine.py"))
    table, _, below = out.partition("faulty: ")
    assert status == 0
    assert re.search(r"mine +│ h +│ 2,624 ", table)
    assert re.search(r"wrong +│ faulty +│ ", table)
    assert below.startswith("cell 'wrong' (mine.py, line 9): unknown name 'V'. States and parameters are arguments of")
    (tmp_path / "none.py").write_text("from cello import cell\n")
    status, out, err = run(capsys, "cell", "list", str(tmp_path / "none.py"))
    assert (status, out) == (1, "")
    assert err == "error: none.py defines no cell. Write @cell over a function in it."


MISTYPED = """from cello import cell, tanh

@cell
def mine(x, h, W, U, b):
    return tanh(W @ x + U * h + b)
"""


def test_a_cell_is_shown_with_its_shapes_where_a_mistyped_product_is_seen(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(MISTYPED)
    _, out, _ = run(capsys, "cell", "show", f"{tmp_path}/mine.py:mine")
    assert "states h (H,) parameters W (H, D) · U (H,) · b (H,) 2,624 parameters for D = 39, H = 64" in out
    (tmp_path / "mine.py").write_text(MISTYPED.replace("U * h", "U @ h"))
    _, out, _ = run(capsys, "cell", "show", f"{tmp_path}/mine.py:mine", "--target", "graph")
    assert "parameters W (H, D) · U (H, H) · b (H,) 6,656 parameters for D = 39, H = 64" in out
    for target in ("latex", "c", "triton", "js"):  # text that goes into a paper or a compiler
        assert "parameters for" not in run(capsys, "cell", "show", "rnn", "--target", target)[1]


FRAMES_OF_ONES_OWN = """from cello import Parts, cell, tanh

@cell
def mine(x: Parts("rest", tag=3), h, W, U, b):
    return tanh(W.tag @ x.tag + W.rest @ x.rest + U @ h + b)
"""


def test_shapes_of_frames_that_are_not_of_sound_are_shown_without_a_count(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(FRAMES_OF_ONES_OWN)
    status, out, _ = run(capsys, "cell", "show", f"{tmp_path}/mine.py:mine")
    assert status == 0
    assert out.endswith(
        "parts x.rest (D-3,) · x.tag (3,) states h (H,) parameters W.tag (H, 3) · W.rest (H, D-3) · U (H, H) · b (H,)"
    )


def test_cells_are_measured_with_all_that_was_asked_for(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiling(names: Sequence[str], backend: str, dtype: str) -> list[Compiling]:
        """In place of new processes, which the tests of that module start."""
        return [Compiling(cell=name, backend=backend, new_seconds=None, cached_seconds=0.5) for name in names]

    monkeypatch.setattr("cello.bench.measure.compiling", compiling)
    monkeypatch.setattr("cello.bench.measure.GEMM", 64)
    out = tmp_path / "new" / "figures.json"
    arguments = ["--cell", "rnn", "--cell", "indrnn", "mingru", "--sizes", "2x3x4x5", "3x3x4x5", "--rounds", "1"]
    status, printed, err = run(capsys, "bench", "cells", *arguments, "--dtype", "float64", "--out", str(out))
    assert (status, err) == (0, "")
    found = json.loads(out.read_text())
    assert [row["cell"] for row in found["rows"]] == ["rnn", "rnn", "indrnn", "indrnn", "mingru", "mingru"]
    assert found["settings"]["dtype"] == "float64"
    for text in (found["machine"]["processor"], "mingru 2×3×4×5 plain", "3×3×4×5 plain", "nn.RNN", str(out)):
        assert text in printed


def test_features_are_measured_and_printed_as_tables_or_as_json_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cello.bench.front_ends.LIBRARIES", {"abacus": None})
    out = tmp_path / "new" / "x.json"
    arguments = ["bench", "features", "--window", "40", "80", "--clips", "2", "--rounds", "1", "--out", str(out)]
    status, printed, err = run(capsys, *arguments, "--format", "json")
    found = json.loads(printed)
    assert (status, err, found) == (0, "", json.loads(out.read_text()))
    assert [(row["window_ms"], row["augmented"]) for row in found["rows"]] == [
        (window, augmented) for augmented in (False, True) for window in (40.0, 80.0)
    ]
    assert found["unavailable"] == {"abacus": "It is not installed."}
    status, printed, err = run(capsys, *arguments)
    assert (status, err) == (0, "")
    for text in ("Features alone", "Not available: abacus. It is not installed.", str(out)):
        assert text in printed


def test_cells_are_printed_as_json_alone_too(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cello.bench.measure.run", lambda settings, about, **_: {"about": about, "settings": settings})
    arguments = ["--cell", "mingru", "--format", "json", "--out", str(tmp_path / "x.json")]
    status, printed, err = run(capsys, "bench", "cells", *arguments)
    assert (status, err) == (0, "")
    assert json.loads(printed) == json.loads((tmp_path / "x.json").read_text())
    assert json.loads(printed)["settings"]["cells"] == ["mingru"]


def test_a_folder_is_inspected(capsys: pytest.CaptureFixture[str], tone_folder: Path, tmp_path: Path) -> None:
    (tone_folder / "high" / "broken_nohash_0.wav").write_bytes(b"not sound")
    arguments = ["corpus", "inspect", f"folder:{tone_folder}", "--cache", str(tmp_path / "c"), "--allow-bad", "0.1"]
    status, out, _ = run(capsys, *arguments)
    assert status == 0
    assert "1 unusable clip: high/broken_nohash_0.wav:" in out


def test_the_cache_is_listed_and_cleared(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    frames = tmp_path / f"{'a' * 64}.npy"
    frames.write_bytes(bytes(2000))
    os.utime(frames, (0, 0))
    (tmp_path / f"{'b' * 64}.npy").write_bytes(bytes(500))
    cache = ["--cache", str(tmp_path)]
    status, out, _ = run(capsys, "corpus", "clean", *cache)
    assert status == 0
    assert out.endswith("2 in the cache, 2.5 kB")
    assert "frames" in out
    status, out, _ = run(capsys, "corpus", "clean", "--older-than", "30", *cache)
    assert status == 0
    assert out.endswith("removed 1 of 2, 2.0 kB of 2.5 kB")
    assert not frames.exists()
    assert run(capsys, "corpus", "clean", "--all", *cache)[1].endswith("removed 1 of 1, 500 bytes of 500 bytes")
    for arguments, message in (
        (["--older-than", "0"], "--older-than 0 is invalid: it must be at least 1, or give --all"),
        (["--older-than", "3", "--all"], "--older-than 3 and --all cannot be combined"),
    ):
        status, _, err = run(capsys, "corpus", "clean", *arguments, *cache)
        assert (status, err) == (1, f"error: {message}")


@pytest.mark.usefixtures("kernels_of_all")
def test_one_run_is_trained_and_its_splits_stand_apart(
    capsys: pytest.CaptureFixture[str], tone_folder: Path, tmp_path: Path
) -> None:
    options = ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "run"), "--optimiser.epochs", "1"]
    status, out, err = run(
        capsys, "train", "--corpus", f"folder:{tone_folder}", "--model.cell", "gru", "--model.hidden", "4", *options
    )
    assert (status, err) == (0, "")
    for split in ("train", "validation", "test"):
        assert split in out
    assert (tmp_path / "run" / "result.json").exists()
    status, out, err = run(capsys, "evaluate", str(tmp_path / "run"), *options[:2])
    assert (status, err) == (0, "")
    assert "on tones, test: " in out


def test_training_says_its_device_and_refuses_one_that_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tone_folder: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr("torch.version.cuda", None)
    monkeypatch.setattr("cello.training.device.sys.platform", "linux")
    options = ["--corpus", f"folder:{tone_folder}", "--model.hidden", "4", "--optimiser.epochs", "1"]
    options += ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "run")]
    status, out, err = run(capsys, "train", *options, "--execution.device", "cuda:1")
    assert (status, out) == (1, "")
    assert re.fullmatch(
        r"error: execution\.device=cuda:1 cannot be used: torch \S+ is built for the CPU only\. .+", err
    )
    status, out, err = run(capsys, "train", *options)
    assert (status, err) == (0, "")
    assert re.match(r"device: cpu \(no GPU is used: torch \S+ is built for the CPU only\) epoch 1/1", out)
    found = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (found["device"], found["precision"]) == ("cpu", "float32")
    assert found["device_reason"].startswith("no GPU is used: torch")


@pytest.mark.usefixtures("kernels_of_all")
def test_a_study_of_ones_own_runs_reports_and_resumes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tone_folder: Path, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "tiny.toml").write_text(STUDY)
    arguments = ["study", "tiny.toml", "--corpus", f"folder:{tone_folder}"]
    arguments += ["--cache", "cache", "--out", "out", "--workers", "2"]
    command = [sys.executable, "-m", "cello.cli", *arguments]
    first = subprocess.run(command, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    assert "4 runs in out" in first.stdout
    page = (tmp_path / "out" / "report" / "report.html").read_text("utf-8")
    assert "LSTM" in page
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "runs").rglob("result.json")}
    assert len(stamps) == 4
    status, _, err = run(capsys, *arguments)
    assert status == 0, err
    assert stamps == {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "runs").rglob("result.json")}


def test_labels_and_paths_are_shown_as_they_are(
    capsys: pytest.CaptureFixture[str], tone_folder: Path, tmp_path: Path
) -> None:
    (tone_folder / "low").rename(tone_folder / "[red]low")
    cache = str(tmp_path / "[bold]" / ("long " * 40).strip())
    status, out, _ = run(capsys, "corpus", "inspect", f"folder:{tone_folder}", "--cache", cache)
    assert status == 0
    assert "[red]low" in out
    (tmp_path / "file").touch()
    main(["report", str(tmp_path / "file" / ("long_" * 40))])
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.filterwarnings("ignore:the files are recorded at 16,000 Hz")
def test_the_corpus_is_read_at_the_rate_of_the_features(
    capsys: pytest.CaptureFixture[str], tone_folder: Path, tmp_path: Path
) -> None:
    arguments = ["--corpus", f"folder:{tone_folder}", "--cache", str(tmp_path / "c"), "--out", str(tmp_path / "run")]
    arguments += ["--model.hidden", "2", "--optimiser.epochs", "1", "--features.rate-hz", "8000"]
    status, _, err = run(capsys, "train", *arguments)
    assert (status, err) == (0, "")


@pytest.mark.filterwarnings("default")
def test_inspect_writes_a_page_and_a_corpus_is_cleared_by_its_name(
    capsys: pytest.CaptureFixture[str], tone_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cello.audio.staging._USED", {})
    cache = ("--cache", str(tmp_path / "c"))
    page = tmp_path / "tones.html"
    command = ("corpus", "inspect", str(tone_folder), *cache, "--html")
    status, out, _ = run(capsys, *command, str(page))
    assert status == 0
    assert "same samples" in out
    assert "WAV, 16-bit, mono" in out
    assert page.read_text("utf-8").count("<audio") == 12
    status, out, err = run(capsys, *command, str(tone_folder / "low" / "00000000_nohash_0.wav"))
    assert (status, out) == (1, "")
    assert "exists and is not a page of cello corpus inspect; choose another file" in err
    for file in staging._USED.values():
        os.close(file)
    staging._USED.clear()
    status, out, _ = run(capsys, "corpus", "clean", *cache)
    assert status == 0
    assert "tones" in out
    status, _, err = run(capsys, "corpus", "clean", "--corpus", "tone", *cache)
    assert (status, err) == (1, "error: unknown corpus in the cache 'tone'; did you mean 'tones'? Known: tones.")
    status, _, err = run(capsys, "corpus", "clean", "--corpus", "tones", "--all", *cache)
    assert status != 0
    assert "--corpus tones cannot be combined with --all or --older-than" in err
    status, out, _ = run(capsys, "corpus", "clean", "--corpus", "tones", *cache)
    assert status == 0
    assert "removed 2 of " in out


@pytest.mark.filterwarnings("default")
def test_inspect_shows_a_bad_corpus_whole_with_what_training_would_refuse_first(
    capsys: pytest.CaptureFixture[str], tone_folder: Path, tmp_path: Path
) -> None:
    empty_split(tone_folder)
    for name in ("low/a.wav", "low/b.wav", "high/c.wav", "high/d.wav", "rough/e.wav"):
        (tone_folder / name).write_bytes(b"")
    command = ("corpus", "inspect", str(tone_folder), "--cache", str(tmp_path / "c"))
    status, out, err = run(capsys, *command)
    assert status == 0
    assert "warning: 5 of 65 clips of tones (7.7%) are unusable" in err
    assert "warning: the test split of tones is empty" in err
    assert "5 unusable clips: high/c.wav, high/d.wav, low/a.wav and 2 more: empty: a file of 0 bytes" in out
    assert "split by validation_list.txt and testing_list.txt" in out


@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("kernels_of_all")
def test_a_table_is_a_corpus_and_what_it_says_reaches_the_workers(
    capsys: pytest.CaptureFixture[str], tone_folder: Path, tmp_path: Path
) -> None:
    lines = [
        f"{path.relative_to(tone_folder)},{path.parent.name},{path.name.partition('_')[0]}\n"
        for path in sorted(tone_folder.rglob("*.wav"))
    ]
    (tone_folder / "meta.csv").write_text("file,sound,voice\n" + "".join(lines))
    (tmp_path / "s.toml").write_text(
        'name = "s"\n[base]\nmodel.hidden = 2\noptimiser.epochs = 1\n[[rows]]\nname = "GRU"\nmodel.cell = "gru"\n'
    )
    told = (
        "--table",
        str(tone_folder / "meta.csv"),
        "--columns",
        "label=sound",
        "speaker=voice",
        "--labels",
        "low,high",
    )
    where = ("--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out"), "--workers", "1")
    status, _, err = run(capsys, "study", str(tmp_path / "s.toml"), *told, *where)
    assert status == 0, err
    store = Store.open(tmp_path / "out")
    assert store.corpus.labels == ("low", "high")
    assert [run.result.test.clips > 0 for run in store.results()] == [True]


def test_a_studys_name_makes_one_folder() -> None:
    assert file_name("../a/b <x>-ünï 1") == "-a-b-x--ünï-1"
    assert file_name("gates-fair") == "gates-fair"
    assert len(file_name("語" * 5000).encode()) <= 200


@pytest.mark.parametrize(
    ("spec", "slug"),
    [
        ("spoken", "spoken"),
        ("speech-commands:v0.02", "speech-commands-v0.02"),
        ("folder:/a/my clips", "my clips"),
        ("./clips/", "clips"),
    ],
)
def test_a_corpus_gets_a_readable_folder(spec: str, slug: str) -> None:
    assert corpus_slug(spec) == slug
