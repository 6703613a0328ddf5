"""What hurts: a README whose examples do not run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from cello.cells.load import load_cell
from cello.study.plan import parse_study, plan
from cello.training.config import CorpusRef

ROOT = Path(__file__).parents[1]
PYTHON = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)


def run(folder: Path, *command: str) -> str:
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "COLUMNS": "200"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_cell_of_the_readme_is_shown_and_trained(tmp_path: Path, tone_folder: Path) -> None:
    (tmp_path / "mine.py").write_text(PYTHON[0])
    cello = (sys.executable, "-m", "cello.cli")
    assert r"\tanh" in run(tmp_path, *cello, "cell", "show", "mine.py:my_gru", "--target", "latex")
    options = ("--corpus", f"folder:{tone_folder}", "--model.cell", "mine.py:my_gru", "--optimiser.epochs", "1")
    assert "test" in run(tmp_path, *cello, "train", *options)


def test_the_ten_lines_of_python_run_and_resume(tmp_path: Path, tone_folder: Path) -> None:
    tone_folder.rename(tmp_path / "my_clips")
    lines = PYTHON[1]
    assert len(lines.splitlines()) <= 10
    for long, short in (("range(3)", "range(1)"), ('"optimiser.epochs": 10', '"optimiser.epochs": 1')):
        assert long in lines
        lines = lines.replace(long, short)
    (tmp_path / "ten_lines.py").write_text(lines)
    first, again = (run(tmp_path, sys.executable, "ten_lines.py") for _ in range(2))
    runs = [line for line in first.splitlines() if line.startswith("No input gate")]
    assert len(runs) == 1
    assert runs[0] in again
    assert (tmp_path / "results" / "mine" / "report" / "report.html").exists()


def test_the_documents_examples_are_legal(tmp_path: Path) -> None:
    cells = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "cells.md").read_text("utf-8"), re.DOTALL)
    (tmp_path / "mine.py").write_text(cells[0])
    assert load_cell(f"{tmp_path}/mine.py:lstm").graph.fingerprint() == load_cell("lstm").graph.fingerprint()
    tomls = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "studies.md").read_text("utf-8"), re.DOTALL)
    text, matched, tuned, harder = tomls
    study = parse_study(text.replace("mine.py:my_cell", f"{tmp_path}/mine.py:lstm"), "docs/studies.md")
    assert len(plan(study, CorpusRef(name="x", checksum="0" * 64))) == 2 * 2 * 5
    rows = '[[rows]]\nname = "LSTM"\n[rows.model]\ncell = "lstm"\n[[rows]]\nname = "GRU"\n[rows.model]\ncell = "gru"\n'
    more = parse_study(f'name = "more"\nseeds = [0]\n{matched}\n{harder}\n{tuned}\n{rows}', "docs/studies.md")
    sizes = {run.row: run.config.model.hidden for run in plan(more, CorpusRef(name="x", checksum="0" * 64), labels=12)}
    assert sizes["LSTM"] == 64 < sizes["GRU"]


def test_the_layer_of_the_docs_trains_in_place_of_torchs(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "layer.md").read_text("utf-8"), re.DOTALL)
    (tmp_path / "swap.py").write_text("\n".join(blocks))
    said = run(tmp_path, sys.executable, "swap.py")
    assert float(said.removeprefix("loss ")) < 0.2
