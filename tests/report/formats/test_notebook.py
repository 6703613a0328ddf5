"""What hurts: a stranger's study whose text or folder runs as code, or a notebook that tells whose machine made it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from cello.audio.origin import Origin
from cello.cli.main import main
from cello.report.formats import notebook
from cello.report.results import StudyResults
from cello.report.write import NOT_EXECUTED, write_report
from cello.study.store import Store

MARK = "PWNED"
TITLES = (
    "Nice\n%%\n!touch PWNED",
    "Nice\n# %%\n!touch PWNED",
    "Nice\n# +\nopen('PWNED', 'w')",
    "Nice\n```python\nopen('PWNED', 'w')\n```",
    "'); open('PWNED', 'w') #",
    "<script>alert(1)</script> [x](javascript:alert(1)) $\\href{javascript:x}{y}$",
)


def every_text(results: StudyResults, text: str) -> StudyResults:
    """The study with a text as its title, as names of its first row, column and label, and as its corpus's."""
    labels = (text, *results.corpus.labels[1:])

    def rename(run: object) -> object:
        result = msgspec.structs.replace(run.result, labels=labels, backend=text)  # type: ignore[attr-defined]
        row = text if run.row == results.rows[0] else run.row  # type: ignore[attr-defined]
        column = text if run.column == results.columns[0] else run.column  # type: ignore[attr-defined]
        return msgspec.structs.replace(run, row=row, column=column, result=result)  # type: ignore[type-var]

    runs = tuple(map(rename, results.runs))
    return msgspec.structs.replace(
        results,
        title=text,
        name=text,
        rows=(text, *results.rows[1:]),
        columns=(text, *results.columns[1:]),
        runs=runs,
        corpus=msgspec.structs.replace(results.corpus, name=text, source=text, origin=Origin(), labels=labels),
    )


@pytest.mark.parametrize("text", TITLES)
def test_no_text_of_a_study_is_in_a_code_cell(foreign: StudyResults, text: str) -> None:
    plain, hostile = notebook.cells(foreign, ".."), notebook.cells(every_text(foreign, text), "..")
    assert [cell for cell in hostile if cell[0] == "code"] == [cell for cell in plain if cell[0] == "code"]
    assert len(hostile) == len(plain)
    title = hostile[0][1].splitlines()[0]
    assert not set("<`$[|") & set(title.replace("\\<", "").replace("\\`", "").replace("\\$", "").replace("\\[", ""))
    assert "javascript" not in title or "](" not in title.replace("\\](", "")


def plant(folder: Path, mark: Path) -> None:
    """Modules that say that they were imported, under the names that a kernel imports first."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("cello", "IPython", "ipykernel", "ipykernel_launcher", "numpy", "matplotlib", "sitecustomize"):
        (folder / f"{name}.py").write_text(f"open({str(mark)!r}, 'a').write({name!r})\n")
    startup = folder / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text(f"open({str(mark)!r}, 'a').write('startup')\n")
    kernel = folder / "kernels" / "python3"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(
        json.dumps({"argv": ["touch", str(mark)], "display_name": "x", "language": "x"})
    )


def test_a_kernel_runs_neither_a_title_nor_what_lies_beside_the_report(
    tmp_path: Path,
    small: StudyResults,
    fill: Callable[[Path, StudyResults], Store],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, mark = tmp_path / "study", tmp_path / MARK
    fill(folder, msgspec.structs.replace(small, title=f"Nice\n%%\n!touch {mark}"))
    for place in (folder, folder / "report"):
        plant(place, mark)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((".", "", str(folder), "../study/report")))
    for name in ("JUPYTER_PATH", "JUPYTER_DATA_DIR", "IPYTHONDIR", "PYTHONSTARTUP"):
        monkeypatch.setenv(name, str(folder / "report"))
    (path,) = write_report(folder, formats=("notebook",), execute=True)
    assert not mark.exists()
    text = path.read_text("utf-8")
    assert '"image/png"' in text
    document = json.loads(text)
    shown = json.dumps([cell for cell in document["cells"] if cell["source"] != document["cells"][0]["source"]])
    assert str(tmp_path) not in shown


def test_a_study_of_somebody_else_is_not_executed_unless_asked(
    tmp_path: Path, stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for path in stored.iterdir():
        (foreign / path.name).symlink_to(path)
    header = json.loads((stored / "study.json").read_bytes())
    header["study"]["title"] = "changed on the way"
    (foreign / "study.json").unlink()
    header.pop("crc32")  # as whoever edits it on purpose has to
    (foreign / "study.json").write_text(json.dumps(header))
    assert main(["report", str(foreign), "--format", "notebook", "--out", str(tmp_path / "out")]) == 0
    assert NOT_EXECUTED in " ".join(capsys.readouterr().out.split())
    (path,) = (tmp_path / "out").iterdir()
    code = [cell for cell in json.loads(path.read_bytes())["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)


@pytest.mark.parametrize(
    ("study", "out", "seen"),
    [
        ("home/anna/s", "home/anna/s/report", ".."),
        ("home/anna/s", "home/anna/b/n", "../../s"),
        ("home/anna/s", "home/bert/n", "s"),
        ("home/anna/s", "elsewhere/n", "s"),
    ],
)
def test_the_way_to_a_study_does_not_tell_whose_home_it_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, study: str, out: str, seen: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home" / "anna"))
    assert notebook._seen_from(tmp_path / study, tmp_path / out) == seen
