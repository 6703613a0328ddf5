"""What hurts: a typo answered by a traceback, help that a newcomer cannot use, an error that names no remedy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import cello
from cello.cli import corpus_slug, file_name, main


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


@pytest.mark.parametrize("command", ["study", "train", "report", "corpus", "cell"])
def test_every_commands_help_has_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    status, out, _ = run(capsys, command, "--help")
    assert status == 0
    assert f"For example: cello {command}" in out


def test_help_comes_without_torch() -> None:
    code = "import sys, cello.cli as c\ntry: c.main(['--help'])\nexcept SystemExit: print('torch' in sys.modules)"
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
        (["study", "gates", "--seeds", "-1"], "--seeds -1 leaves nothing to run; give at least 1"),
        (["study", "gates", "--epochs", "0", "--corpus", "/nowhere/at/all"], "optimiser.epochs=0 trains nothing"),
    ],
)
def test_a_wrong_name_is_one_sentence(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    status, _, err = run(capsys, *arguments)
    assert status == 1
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in err


def test_cells_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "cell", "list")
    assert status == 0
    assert "lstm-coupled" in out
    status, out, _ = run(capsys, "cell", "show", "lstm", "--target", "latex")
    assert status == 0
    assert r"\sigma" in out


def test_a_folder_is_inspected(capsys: pytest.CaptureFixture[str], tone_folder: Path, tmp_path: Path) -> None:
    (tone_folder / "high" / "broken_nohash_0.wav").write_bytes(b"not sound")
    arguments = ["corpus", "inspect", f"folder:{tone_folder}", "--cache", str(tmp_path / "c"), "--allow-bad", "0.1"]
    status, out, _ = run(capsys, *arguments)
    assert status == 0
    assert "1 unusable clips: high/broken_nohash_0.wav:" in out


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


def test_a_study_of_ones_own_runs_reports_and_resumes(tone_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(STUDY)
    command = [sys.executable, "-m", "cello.cli", "study", "tiny.toml", "--corpus", f"folder:{tone_folder}"]
    command += ["--cache", "cache", "--out", "out", "--workers", "2"]
    environment = {**os.environ, "COLUMNS": "200"}
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert first.returncode == 0, first.stderr
    assert "4 runs in out" in first.stdout
    page = (tmp_path / "out" / "report" / "report.html").read_text("utf-8")
    assert "LSTM" in page
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "runs").rglob("result.json")}
    assert len(stamps) == 4
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert again.returncode == 0, again.stderr
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


def test_the_corpus_is_read_at_the_rate_of_the_features(
    capsys: pytest.CaptureFixture[str], tone_folder: Path, tmp_path: Path
) -> None:
    arguments = ["--corpus", f"folder:{tone_folder}", "--cache", str(tmp_path / "c"), "--out", str(tmp_path / "run")]
    arguments += ["--model.hidden", "2", "--optimiser.epochs", "1", "--features.rate-hz", "8000"]
    status, _, err = run(capsys, "train", *arguments)
    assert (status, err) == (0, "")


def test_a_studys_name_makes_one_folder() -> None:
    assert file_name("../a/b <x>-ünï 1") == "-a-b-x--ünï-1"
    assert file_name("gates-fair") == "gates-fair"


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
