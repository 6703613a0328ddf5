"""What hurts: an example on a page of docs/ that does not run as it is printed."""

from __future__ import annotations

import re
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from cello.cells.load import load_cell
from cello.cli.main import main
from cello.compiler import backends
from cello.models.config import ModelConfig
from cello.study.plan import plan
from cello.study.study_file import parse_study
from cello.training.config import CorpusRef, OptimiserConfig

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CORPUS = CorpusRef(name="x", checksum="0" * 64)
COMPILED_ONLY = {"cluster.md"}  # its block needs dask-jobqueue and a machine with Slurm
ELSEWHERE = {"use-a-model.md", "your-own-corpus.md", "export.md"}  # tests of their own run all of these


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)


PAGES = sorted(path.name for path in DOCS.glob("*.md") if blocks(path.name, "python"))


def nothing(folder: Path) -> None:
    """Prepare nothing: the page brings all it needs."""


def a_finished_study(folder: Path) -> None:
    (folder / "results").mkdir()
    (folder / "results" / "gates").symlink_to(ROOT / "results" / "speech_commands_12" / "gates-fair")


PREPARED: dict[str, Callable[[Path], None]] = {"statistics.md": a_finished_study}
PRINTED: dict[str, str] = {
    "cells.md": r"",
    "compiler.md": r"slow\n",
    "layer.md": r"loss 0\.[01]\d\n",
    "serve.md": r"",
    "statistics.md": r"(.+ points \(95 % .+\n){15}",
}
"""What each page's script prints, as a regular expression over all of it."""


@pytest.mark.parametrize("page", [page for page in PAGES if page not in COMPILED_ONLY | ELSEWHERE])
def test_the_python_of_a_page_runs_as_printed(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    PREPARED.get(page, nothing)(tmp_path)
    (tmp_path / "page.py").write_text("\n".join(blocks(page, "python")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(backends, "TABLE", dict(backends.TABLE))  # a page adds one
    runpy.run_path("page.py", run_name="__main__")
    printed = capsys.readouterr().out
    assert re.fullmatch(PRINTED[page], printed), printed


@pytest.mark.parametrize("page", sorted(COMPILED_ONLY))
def test_python_that_needs_another_machine_is_legal(page: str) -> None:
    for block in blocks(page, "python"):
        compile(block, page, "exec")


def test_the_cell_of_the_page_is_the_zoos(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(blocks("cells.md", "python")[0])
    assert load_cell(f"{tmp_path}/mine.py:lstm").graph.fingerprint() == load_cell("lstm").graph.fingerprint()


def test_the_cell_is_shown_as_the_page_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    (command,), (printed,) = blocks("cells.md", "sh"), blocks("cells.md", "text")
    assert main(command.split()[1:]) == 0
    assert capsys.readouterr().out == printed


def test_the_page_of_models_names_what_cello_train_takes_unless_told() -> None:
    text, model = (DOCS / "use-a-model.md").read_text("utf-8"), ModelConfig()
    assert f"it is a `{model.cell}`, with {model.hidden} units" in text
    assert f"training takes {OptimiserConfig().epochs} epochs" in text


def test_the_study_files_of_the_page_are_legal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # which has the file that the page names
    (tmp_path / "mine.py").write_text(blocks("cells.md", "python")[0].replace("def lstm", "def my_cell"))
    text, beside, figures, matched, tuned, harder, lost = blocks("studies.md", "toml")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "smith.toml").write_text(figures)
    study = parse_study(text, "docs/studies.md")
    assert len(plan(study, CORPUS)) == 2 * 2 * 5
    rows = '[[rows]]\nname = "LSTM"\n[rows.model]\ncell = "lstm"\n[[rows]]\nname = "GRU"\n[rows.model]\ncell = "gru"\n'
    more = parse_study(f'name = "more"\nseeds = [0]\n{beside}\n{matched}\n{harder}\n{tuned}\n{rows}', "docs/studies.md")
    sizes = {run.row: run.config.model.hidden for run in plan(more, CORPUS, labels=12)}
    assert sizes["LSTM"] == 64 < sizes["GRU"]
    losing = parse_study(f'name = "losing"\nseeds = [0]\n{lost}\n{rows}', "docs/studies.md")
    assert {run.config.data.lost_frames for run in plan(losing, CORPUS)} == {0.3}
