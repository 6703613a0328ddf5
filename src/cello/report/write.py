"""Writes a study's reports into its folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from cello.errors import ReportError, unknown
from cello.files import write_whole
from cello.report import latex, markdown, notebook, page, references, schema, tidy
from cello.report.results import StudyResults, load_results

FORMATS = ("md", "html", "csv", "latex", "json", "notebook")
TEXTS: dict[str, dict[str, Callable[[StudyResults], str]]] = {
    "md": {"report.md": markdown.report},
    "html": {"report.html": page.report},
    "csv": {"runs.csv": tidy.report},
    "latex": {"tables.tex": latex.report, "methods.tex": latex.methods, "references.bib": references.bibtex},
    "json": {"report.json": schema.report},
}


def write_report(folder: str | Path, *, formats: Sequence[str] = FORMATS, out: Path | None = None) -> list[Path]:
    """Write the reports of the study in ``folder`` into ``folder/report`` or ``out``; the files written, in order.

    Every file is written whole or not at all; a file of an earlier report is replaced.

    Raises:
        StoreError: the folder holds no study that can be read.
        ReportError: an unknown format, no finished run, a folder that cannot be written, a notebook that fails.
    """
    for name in formats:
        if name not in FORMATS:
            raise ReportError(unknown("report format", name, FORMATS))
    results, study = load_results(folder), Path(folder)
    target = out if out is not None else study / "report"
    try:
        target.mkdir(parents=True, exist_ok=True)
        return [path for name in dict.fromkeys(formats) for path in _write(name, results, study, target)]
    except OSError as error:
        raise ReportError(
            f"{str(target)!r}: the report cannot be written there: {error}; choose a folder you may write to"
        ) from error


def _write(name: str, results: StudyResults, study: Path, target: Path) -> list[Path]:
    if name == "notebook":
        contents = {notebook.file_name(results): notebook.report(results, study, target)}
    else:
        contents = {file: text(results).encode() for file, text in TEXTS[name].items()}
    for file, content in contents.items():
        write_whole(target / file, content)
    return [target / file for file in contents]
