"""What hurts: a README whose examples do not run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cello.cli.main import main
from cello.report import write

ROOT = Path(__file__).parents[1]
PYTHON = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)


def run(folder: Path, *command: str) -> str:
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_cell_of_the_readme_is_shown_and_trained(
    tmp_path: Path, tone_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(PYTHON[0])
    assert main(["cell", "show", "mine.py:my_gru", "--target", "latex"]) == 0
    assert r"\tanh" in capsys.readouterr().out
    assert main(["cell", "show", "mine.py:my_gru"]) == 0
    assert "W.f W.n (H, D) · U.f U.n (H, H) · b.f b.n (H,)" in capsys.readouterr().out
    options = ("--corpus", f"folder:{tone_folder}", "--model.cell", "mine.py:my_gru", "--optimiser.epochs", "1")
    assert main(["train", *options]) == 0
    assert "test" in capsys.readouterr().out


def test_the_ten_lines_of_python_run_and_resume(
    tmp_path: Path, tone_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tone_folder.rename(tmp_path / "my_clips")
    lines = PYTHON[1]
    assert len(lines.splitlines()) <= 10
    for long, short in (("range(3)", "range(1)"), ('"optimiser.epochs": 10', '"optimiser.epochs": 1')):
        assert long in lines
        lines = lines.replace(long, short)
    trains, call, report = lines.partition("cello.write_report")
    (tmp_path / "lines.py").write_text(trains)
    first = run(tmp_path, sys.executable, "lines.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(write, "LARGE", 1)  # without the notebook and the PDF plots, which tests of their own write
    exec(compile(trains + call + report, "ten_lines.py", "exec"), {})
    again = capsys.readouterr().out
    runs = [line for line in first.splitlines() if line.startswith("No input gate")]
    assert len(runs) == 1
    assert runs[0] in again
    assert (tmp_path / "results" / "mine" / "report" / "report.html").exists()
