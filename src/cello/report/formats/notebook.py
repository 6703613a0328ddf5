"""Write the report as a notebook of Cello's own cells, which read the study."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, CellExecutionError

import cello
from cello.errors import ReportError
from cello.report import fonts, ranking, reference_figures, robustness, single
from cello.report.formats import markdown
from cello.report.results import StudyResults
from cello.report.sections import NOTATION, confusions, curves

TIMEOUT_SECONDS = 300
PARAMETERS = 1
"""Which cell says where the study lies."""
HELD = ("PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "IPYTHONDIR", "MATPLOTLIBRC")
"""Variables that could lead a kernel to another's code; of the first, folders that are the user's own stay."""
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
SETUP = """\
from IPython.display import Image, Markdown, display

from cello.report import cost, diagrams, findings, paper, plots, ranking
from cello.report import reference_figures, robustness
from cello.report.formats import markdown
from cello.report import references, single, tables
from cello.report import sections
from cello.report.metrics import BY_KEY
from cello.report.results import load_results

results = load_results(FOLDER)


def show(panels, across=1):
    display(*map(Image, plots.pngs(panels, across)))"""


def cells(results: StudyResults, folder: str) -> list[tuple[str, str]]:
    """The notebook as (kind, text) of each cell; ``folder`` is the study's folder as seen from the notebook's.

    Code is the same whatever a study holds: of its texts only the title is in a cell, escaped, in Markdown.
    """
    found = [
        ("markdown", f"# {markdown.escape(results.title)}\n\nThis notebook reads a finished or partial study from its "
                     "folder and shows its tables and pictures. It trains nothing; run it again whenever the folder "
                     "has grown."),
        ("code", f"FOLDER = {folder!r}  # the study's output folder, from where this notebook lies"),
        ("code", SETUP),
        ("markdown", "## Summary"),
        ("code", "Markdown(markdown.points(findings.summary(results) + findings.missing(results)))"),
        *_results(results),
        *_comparisons(results),
        *_conditions(results),
        ("markdown", "## Accuracy and cost\n\nOne point a cell of the table; up and to the left is better."),
        ("code", "Markdown(markdown.points(cost.sentences(results)))"),
        ("code", "show(plots.cost(results), across=2)"),
        *_order(results),
        *_reference_figures(results),
        ("markdown", f"## Learning curves\n\n{curves(results)}"),
        ("code", f"show(plots.curves(results), across={_across(results)})"),
        ("markdown", f"## Confusion matrices\n\n{confusions(results)}"),
        ("code", _confusions(results)),
        *_single(results),
        ("markdown", "## Methods"),
        ("code", "Markdown(markdown.paragraphs(findings.methods(results)))"),
        ("markdown", "## For a paper"),
        ("code", "Markdown(markdown.paragraphs([paper.paragraph(results)]))"),
        ("code", "Markdown(markdown.points(paper.unrecorded(results)))"),
        ("code", "Markdown(markdown.code(references.bibtex(results)))"),
        ("markdown", "## Corpus"),
        ("code", "Markdown(markdown.table(tables.corpus_clips(results)))"),
    ]  # fmt: skip
    if results.corpus.bad:
        found.append(("code", "Markdown(markdown.table(tables.bad_clips(results)))"))
    return [*found, ("markdown", "## Settings"), ("code", "Markdown(markdown.table(tables.settings(results)))")]


def report(results: StudyResults, study: Path, out: Path, execute: bool = True) -> bytes:
    """The notebook as it is to lie in folder ``out``; executed with its pictures, the same bytes for the same store.

    Raises:
        ReportError: a cell failed, or no Jupyter kernel for Python could be started.
    """
    shown = _notebook(cells(results, _seen_from(study, out)))
    if execute:
        lacking = fonts.warning((*results.rows, *results.columns, *results.corpus.labels))
        if lacking:
            warnings.warn(lacking, stacklevel=2)
        # where the study lies is said to the kernel alone
        executed = _notebook(cells(results, str(study.resolve())))
        try:
            _execute(executed, study, out)
        except (CellExecutionError, CellControlSignal, OSError, RuntimeError) as error:
            raise ReportError(
                f"{results.notebook}: the notebook of {str(study)!r} could not be executed: {_last_line(error)}; "
                f"check that ipykernel is installed beside Cello, or write another format"
            ) from error
        for cell, done in zip(shown.cells, executed.cells, strict=True):
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = done.outputs, done.execution_count
    text: str = nbformat.writes(shown)  # type: ignore[no-untyped-call]
    return text.encode() + b"\n"


def _notebook(found: list[tuple[str, str]]) -> Any:
    make: dict[str, Any] = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    notebook: Any = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    for number, (kind, text) in enumerate(found):
        cell = make[kind](text)
        cell["id"] = f"cell-{number + 1:02d}"
        cell["metadata"] = {"tags": ["parameters"]} if number == PARAMETERS else {}
        notebook.cells.append(cell)
    return notebook


def _seen_from(study: Path, out: Path) -> str:
    """The way from one folder to the other, or only the study's name where the way would tell whose machine it is."""
    here, there = out.resolve(), study.resolve()
    shared = Path(os.path.commonpath([here, there]))
    if shared in (Path(shared.anchor), *Path(os.path.expanduser("~")).resolve().parents):  # noqa: PTH111 (no home: no error)
        return there.name
    return Path(os.path.relpath(there, here)).as_posix()


class _Kernels(KernelSpecManager):
    """This Python alone, whatever kernels are installed; it imports nothing from where it runs."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        argv = [sys.executable, "-P", "-W", "ignore", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name=kernel_name, language="python")


def _execute(notebook: Any, study: Path, out: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="cello-") as private:  # nobody else may look into it or write there
        work = Path(private) / "work"
        work.mkdir()
        manager = AsyncKernelManager(
            kernel_name=KERNEL["name"],
            kernel_spec_manager=_Kernels(),
            connection_file=str(Path(private) / "kernel.json"),
        )
        client = NotebookClient(
            notebook,
            km=manager,
            timeout=TIMEOUT_SECONDS,
            record_timing=False,
            extra_arguments=["--log-level=ERROR", "--InteractiveShellApp.ignore_cwd=True"],
        )
        client.owns_km = True  # it ends the kernel, whatever happens
        client.execute(cwd=str(work), env=_environment(private, study, out))


def _environment(private: str, study: Path, out: Path) -> dict[str, str]:
    """What the kernel is told: no setting of Jupyter's, and no module out of the study's or the report's folder."""
    kept = {k: v for k, v in os.environ.items() if k not in HELD and not k.startswith("JUPYTER")}
    package = Path(cello.__file__).resolve().parents[1]
    given = [Path(entry).resolve() for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    installed = {"site-packages", "dist-packages"} & set(package.parts)
    foreign = (study.resolve(), out.resolve())
    paths = [path for path in given if not any(path == folder or folder in path.parents for folder in foreign)]
    return kept | {
        "PYTHONPATH": os.pathsep.join(map(str, paths if installed else [package, *paths])),
        "PYTHONSAFEPATH": "1",
        "IPYTHONDIR": f"{private}/ipython",
        "JUPYTER_RUNTIME_DIR": f"{private}/runtime",
        "JUPYTER_CONFIG_DIR": f"{private}/config",
        "JUPYTER_DATA_DIR": f"{private}/data",
    }


def _results(results: StudyResults) -> list[tuple[str, str]]:
    cells = [("markdown", "## Results\n\nTrain, validation and test accuracy stand in columns of their own.")]
    if len(results.columns) > 1:
        cells += [
            ("code", 'Markdown(markdown.table(tables.overview(results, BY_KEY["test_accuracy"])))'),
            ("code", 'Markdown(markdown.table(tables.overview(results, BY_KEY["seconds_per_epoch"])))'),
            ("code", 'Markdown(markdown.table(tables.overview(results, BY_KEY["epoch_seconds"])))'),
        ]
    pictures = ("code", "show(plots.accuracy(results))")
    details = ("code", "Markdown(markdown.table(tables.details(results)))")
    return [*cells, pictures, details, ("code", "Markdown(markdown.table(tables.times(results)))")]


def _comparisons(results: StudyResults) -> list[tuple[str, str]]:
    title = ("markdown", "## Comparisons")
    cells = [title, ("code", "Markdown(markdown.paragraphs(ranking.explanation(results)))")]
    if ranking.compared(results):
        cells += [
            ("code", "Markdown(markdown.table(ranking.table(results)))"),
            ("code", f"show(diagrams.forest(results), across={min(len(results.columns), 2)})"),
            ("code", "Markdown(markdown.table(ranking.matrix(results)))"),
            ("code", "Markdown(markdown.points(ranking.verdicts(results)))"),
        ]
    return cells if results.comparisons else []


def _conditions(results: StudyResults) -> list[tuple[str, str]]:
    kinds = len(robustness.present(results))
    if not kinds:
        return []
    return [
        ("markdown", f"## {robustness.heading(results)}\n\n{robustness.explanation(results)}"),
        *(("code", f"Markdown(markdown.table(robustness.tables(results)[{k}]))") for k in range(kinds)),
        ("code", "show(diagrams.conditions(results), across=2)"),
    ]


def _order(results: StudyResults) -> list[tuple[str, str]]:
    if ranking.order(results) is None:
        return []
    return [
        ("markdown", f"## Order over {results.column_title.lower()}s"),
        ("code", "Markdown(markdown.paragraphs(ranking.order_sentences(results)))"),
        ("code", "show(diagrams.order(results))"),
    ]


def _reference_figures(results: StudyResults) -> list[tuple[str, str]]:
    found = []
    if reference_figures.sentences(results):
        found.append(("code", "Markdown(markdown.paragraphs(reference_figures.sentences(results)))"))
    if reference_figures.table(results):
        found.append(("code", "Markdown(markdown.table(reference_figures.table(results)))"))
    title = f"## {markdown.escape(reference_figures.heading(results))}"
    return [("markdown", title), *found] if found else []


def _single(results: StudyResults) -> list[tuple[str, str]]:
    cells = []
    if single.tables(results):
        shown = 'Markdown("\\n\\n".join(map(markdown.table, single.tables(results))))'
        cells += [("markdown", "## By speaker and clip"), ("code", shown)]
    if results.own_cells:
        shown = 'Markdown(markdown.code(sections.own_equations(results), "text"))'
        cells += [("markdown", f"## Cells of this study’s own\n\n{markdown.block(NOTATION)}"), ("code", shown)]
    return cells


def _confusions(results: StudyResults) -> str:
    across = 3 if len(results.corpus.labels) <= 16 else 1
    if len(results.columns) == 1:
        return f"show(plots.confusions(results), across={across})"
    note = f"# each model at the {results.column_title.lower()} of its best validation accuracy\n"
    return f"{note}show(plots.confusions(results, plots.best_places(results)), across={across})"


def _across(results: StudyResults) -> int:
    return len(results.columns) if 1 < len(results.columns) <= 5 else 3


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
