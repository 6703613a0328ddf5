"""Writes a study's reports into its folder, one file a format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from cello.errors import ReportError, unknown
from cello.files import write_whole
from cello.report import latex, markdown, notebook, page, schema, tidy
from cello.report.results import StudyResults, load_results

FORMATS = ("md", "html", "csv", "latex", "json", "notebook")
TEXTS: dict[str, tuple[str, Callable[[StudyResults], str]]] = {
    "md": ("report.md", markdown.report),
    "html": ("report.html", page.report),
    "csv": ("runs.csv", tidy.report),
    "latex": ("tables.tex", latex.report),
    "json": ("report.json", schema.report),
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
        return [_write(name, results, study, target) for name in dict.fromkeys(formats)]
    except OSError as error:
        raise ReportError(
            f"{str(target)!r}: the report cannot be written there: {error}; choose a folder you may write to"
        ) from error


def _write(name: str, results: StudyResults, study: Path, target: Path) -> Path:
    if name == "notebook":
        path = target / notebook.file_name(results)
        content = notebook.report(results, study, target)
    else:
        file, text = TEXTS[name]
        path, content = target / file, text(results).encode()
    write_whole(path, content)
    return path
