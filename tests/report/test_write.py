from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cello.cli.main import main
from cello.errors import ReportError
from cello.report import write
from cello.report.formats import notebook
from cello.report.results import StudyResults, load_results
from cello.report.write import FORMATS, LARGE, usual, write_report
from cello.study.store import Store

TEXT_FORMATS = tuple(name for name in FORMATS if name != "notebook")


@pytest.fixture(scope="module")
def written(stored: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The files of all formats of text, in a folder of their own."""
    return write_report(stored, formats=TEXT_FORMATS, out=tmp_path_factory.mktemp("written") / "out")


def test_each_format_becomes_its_files_and_nothing_is_left_lying_about(written: list[Path]) -> None:
    assert [p.name for p in written] == [
        "report.md", "report.html", "runs.csv", "clips.csv", "groups.csv", "tables.tex", "methods.tex",
        "references.bib", "accuracy.pdf", "comparisons.pdf", "cost.pdf", "curves.pdf", "confusions.pdf", "report.json",
    ]  # fmt: skip
    assert sorted(p.name for p in written[0].parent.iterdir()) == sorted(p.name for p in written)


def test_the_same_store_gives_the_same_bytes(stored: Path, written: list[Path]) -> None:
    """PDF plots too, which the test of several processes writes once more."""
    again = write_report(stored, formats=tuple(name for name in TEXT_FORMATS if name != "pdf"))
    before = {p.name: p.read_bytes() for p in written if p.suffix != ".pdf"}
    assert {p.name: p.read_bytes() for p in again} == before
    assert {p.parent for p in again} == {stored / "report"}


def test_an_unknown_format_is_refused_before_anything_is_written(stored: Path, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="unknown report format 'htlm'; did you mean 'html'"):
        write_report(stored, formats=("md", "htlm"), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_named(stored: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ReportError, match=r"file/out.*cannot be written there.*choose a folder"):
        write_report(stored, formats=("md",), out=tmp_path / "file" / "out")


def test_the_notebook_is_executed_in_place_with_its_pictures(
    tmp_path: Path, gates: StudyResults, fill: Callable[[Path, StudyResults], Store]
) -> None:
    fill(tmp_path / "study", gates)
    (path,) = write_report(tmp_path / "study", formats=("notebook",), out=tmp_path / "notebooks")
    assert path.name == "Resultados_2.ipynb"
    document = json.loads(path.read_text("utf-8"))
    assert document["metadata"]["kernelspec"]["name"] == "python3"
    code = [cell for cell in document["cells"] if cell["cell_type"] == "code"]
    assert code[0]["source"][0].startswith("FOLDER = '../study'")
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [o for o in outputs if o["output_type"] in ("error", "stream")]
    assert sum("image/png" in o.get("data", {}) for o in outputs) == 5
    assert not [cell for cell in document["cells"] if "execution" in cell["metadata"]]


def test_the_notebook_has_the_name_that_the_study_states(windows: StudyResults, stored: Path) -> None:
    assert windows.notebook == "Results.ipynb"
    assert load_results(stored).notebook == "Resultados_1.ipynb"


def test_a_notebook_cell_that_fails_is_an_error_with_its_cause(tmp_path: Path, gates: StudyResults) -> None:
    with pytest.raises(ReportError, match=r"Results.ipynb: .*could not be executed.*StoreError.*no study"):
        notebook.report(gates, tmp_path / "nothing", tmp_path)


def test_a_report_written_by_several_processes_has_the_same_bytes(
    stored: Path, written: list[Path], tmp_path: Path
) -> None:
    here = {p.name: p.read_bytes() for p in written}
    code = (
        "import sys\nfrom pathlib import Path\nfrom cello.report import parallel, plots, write\n"
        "parallel.usable_cores = lambda: 2\nparallel.MANY_RUNS = plots.MANY = 1\n"
        f"write.write_report(Path(sys.argv[1]), formats={TEXT_FORMATS!r}, out=Path(sys.argv[2]))"
    )
    subprocess.run([sys.executable, "-c", code, str(stored), str(tmp_path / "there")], timeout=120, check=True)
    assert here == {p.name: p.read_bytes() for p in (tmp_path / "there").iterdir()}


def test_a_large_study_gets_json_and_a_notebook_only_by_name(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert usual(LARGE) == list(FORMATS)
    monkeypatch.setattr(write, "LARGE", 1)
    assert main(["report", str(stored), "--out", str(tmp_path)]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "clips.csv", "groups.csv", "methods.tex", "references.bib", "report.html", "report.md", "runs.csv",
        "tables.tex",
    ]  # fmt: skip
    assert "report.json, the notebook and the PDF plots are left out" in " ".join(capsys.readouterr().out.split())
    assert [p.name for p in write_report(stored, formats=("json",), out=tmp_path)] == ["report.json"]
