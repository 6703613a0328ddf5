"""The report as a notebook: a short Python source in the percent format, turned by jupytext and executed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, CellExecutionError

from cello.errors import ReportError
from cello.report import conditions, ranking
from cello.report.outline import CONFUSIONS, CURVES
from cello.report.published import WINDOWS_TEXT
from cello.report.results import StudyResults

NAMES = {"windows": "Resultados_1.ipynb", "gates": "Resultados_2.ipynb"}
TIMEOUT_SECONDS = 300
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
SETUP = """\
from IPython.display import Image, Markdown

from cello.report import conditions, cost, diagrams, findings, markdown, paper, plots, published, ranking
from cello.report import references, tables
from cello.report.metrics import BY_KEY
from cello.report.results import load_results

results = load_results(FOLDER)"""


def file_name(results: StudyResults) -> str:
    """The published study's own file names for its two stages, ``Results.ipynb`` for any other study."""
    return NAMES.get(results.stage, "Results.ipynb")


def source(results: StudyResults, folder: str) -> str:
    """The notebook as Python with ``# %%`` cells; ``folder`` is the study's folder as seen from the notebook's."""
    cells = [
        ("markdown", f"# {results.title}\n\nThis notebook reads a finished or partial study from its folder and shows "
                     "its tables and pictures. It trains nothing; run it again whenever the folder has grown."),
        ("code", f"FOLDER = {folder!r}  # the study's output folder, from where this notebook lies"),
        ("code", SETUP),
        ("markdown", "## Summary"),
        ("code", "Markdown(markdown.points(findings.summary(results) + findings.missing(results)))"),
        *_results(results),
        *_evidence(results),
        *_conditions(results),
        ("markdown", "## Accuracy and cost\n\nOne point a cell of the table; up and to the left is better."),
        ("code", "Markdown(markdown.points(cost.sentences(results)))"),
        ("code", "Image(plots.png(plots.cost(results), across=2))"),
        *_order(results),
        *_published(results),
        ("markdown", f"## Learning curves\n\n{CURVES}"),
        ("code", f"Image(plots.png(plots.curves(results), across={_across(results)}))"),
        ("markdown", f"## Confusion matrices\n\n{CONFUSIONS}"),
        ("code", _confusions(results)),
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
        cells.append(("code", "Markdown(markdown.table(tables.bad_clips(results)))"))
    cells += [("markdown", "## Settings"), ("code", "Markdown(markdown.table(tables.settings(results)))")]
    return "\n\n".join(_percent(kind, text) for kind, text in cells) + "\n"


def report(results: StudyResults, study: Path, out: Path) -> bytes:
    """The executed notebook, pictures included, as it is to lie in folder ``out``; the same bytes for the same store.

    Raises:
        ReportError: a cell failed, or no Jupyter kernel for Python could be started.
    """
    notebook: Any = jupytext.reads(source(results, Path(os.path.relpath(study, out)).as_posix()), fmt="py:percent")
    notebook.metadata = {"kernelspec": KERNEL}
    for number, cell in enumerate(notebook.cells, 1):
        cell["id"] = f"cell-{number:02d}"
        cell["metadata"] = {"tags": ["parameters"]} if number == 2 else {}
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT_SECONDS,
        kernel_name="python3",
        record_timing=False,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(out)}},
    )
    try:
        client.execute()
    except (CellExecutionError, CellControlSignal, OSError, RuntimeError) as error:
        raise ReportError(
            f"{file_name(results)}: the notebook of {str(study)!r} could not be executed: {_last_line(error)}; "
            f"check that ipykernel is installed beside Cello, or write another format"
        ) from error
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    text: str = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
    return text.encode() + b"\n"


def _results(results: StudyResults) -> list[tuple[str, str]]:
    cells = [("markdown", "## Results\n\nTrain, validation and test accuracy stand in columns of their own.")]
    if len(results.columns) > 1:
        cells += [
            ("code", 'Markdown(markdown.table(tables.overview(results, BY_KEY["test_accuracy"])))'),
            ("code", 'Markdown(markdown.table(tables.overview(results, BY_KEY["seconds_per_epoch"])))'),
        ]
    pictures = ("code", "Image(plots.png(plots.accuracy(results)))")
    return [*cells, pictures, ("code", "Markdown(markdown.table(tables.details(results)))")]


def _evidence(results: StudyResults) -> list[tuple[str, str]]:
    title = ("markdown", "## What the data can tell")
    cells = [title, ("code", "Markdown(markdown.paragraphs(ranking.explanation(results)))")]
    if ranking.weighed(results):
        cells += [
            ("code", "Markdown(markdown.table(ranking.table(results)))"),
            ("code", f"Image(plots.png(diagrams.forest(results), across={min(len(results.columns), 2)}))"),
            ("code", "Markdown(markdown.points(ranking.verdicts(results)))"),
        ]
    return cells if results.evidence else []


def _conditions(results: StudyResults) -> list[tuple[str, str]]:
    kinds = len(conditions.present(results))
    if not kinds:
        return []
    return [
        ("markdown", f"## Under noise and shifts\n\n{conditions.EXPLANATION}"),
        *(("code", f"Markdown(markdown.table(conditions.tables(results)[{k}]))") for k in range(kinds)),
        ("code", "Image(plots.png(diagrams.conditions(results), across=2))"),
    ]


def _order(results: StudyResults) -> list[tuple[str, str]]:
    if ranking.order(results) is None:
        return []
    return [
        ("markdown", f"## Order over {results.column_title.lower()}s"),
        ("code", "Markdown(markdown.paragraphs(ranking.order_sentences(results)))"),
        ("code", "Image(plots.png(diagrams.order(results)))"),
    ]


def _published(results: StudyResults) -> list[tuple[str, str]]:
    title = "## Beside the published study"
    if results.stage == "gates":
        return [("markdown", title), ("code", "Markdown(markdown.table(published.gates(results)))")]
    return [("markdown", f"{title}\n\n{WINDOWS_TEXT}")] if results.stage == "windows" else []


def _confusions(results: StudyResults) -> str:
    across = 3 if len(results.corpus.labels) <= 16 else 1
    if len(results.columns) == 1:
        return f"Image(plots.png(plots.confusions(results), across={across}))"
    note = f"# each model at the {results.column_title.lower()} of its best validation accuracy\n"
    return f"{note}Image(plots.png(plots.confusions(results, plots.best_places(results)), across={across}))"


def _across(results: StudyResults) -> int:
    return len(results.columns) if 1 < len(results.columns) <= 5 else 3


def _percent(kind: str, text: str) -> str:
    if kind == "code":
        return f"# %%\n{text}"
    return "# %% [markdown]\n" + "\n".join(f"# {line}".rstrip() for line in text.splitlines())


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
