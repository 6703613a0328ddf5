"""Write a study's reports into its folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path

from cello.errors import ReportError, reason, unknown
from cello.files import write_whole
from cello.report import parallel
from cello.report.results import StudyResults, load_results
from cello.study.folder import below
from cello.study.made import is_made

FORMATS = ("md", "html", "csv", "latex", "pdf", "json", "notebook")
TEXTS = {
    "md": (("report.md", "formats.markdown", "report"),),
    "html": (("report.html", "formats.html", "report"),),
    "csv": (
        ("runs.csv", "formats.csv", "report"),
        ("clips.csv", "formats.csv", "clips"),
        ("groups.csv", "formats.csv", "groups"),
    ),
    "latex": (
        ("tables.tex", "formats.latex", "report"),
        ("methods.tex", "formats.latex", "methods"),
        ("references.bib", "references", "bibtex"),
    ),
    "json": (("report.json", "formats.json", "report"),),
}
"""A format's files, each with the module and function that give its text; ``report`` may also come in ``pieces``.
One without text, of a study that has nothing for it, is not written.

Each is imported when it is asked for: pictures and notebooks bring libraries that take a second.
"""
CURVES = ("html", "json", "pdf")
"""The formats that show every epoch of every run."""
LARGE, SLOW = 1000, ("pdf", "json", "notebook")
"""Of a study with more finished runs than this, these formats, which take long, are made only by name."""
LEFT_OUT = (
    f"report.json, the notebook and the PDF plots are left out, for of more than {LARGE:,} finished runs they take "
    "long; --format json, --format notebook or --format pdf makes them"
)
NOT_EXECUTED = (
    "the notebook is not executed, for this study was not made by you here; cello report … --execute does it, or open "
    "it in Jupyter"
)


def write_report(
    folder: str | Path, *, formats: Sequence[str] = (), out: Path | None = None, execute: bool | None = None
) -> list[Path]:
    """Write the reports of the study in ``folder`` into ``folder/report`` or ``out``; the files written, in order.

    Without ``formats`` all are written, of more than 1,000 finished runs all but the JSON, the PDFs and the
    notebook. That is executed if ``execute`` says so or, where it says nothing, if this user's Cello made the study.
    Every file is written whole or not at all; a file of an earlier report is replaced.

    Raises:
        StoreError: the folder holds no study that can be read.
        ReportError: an unknown format, no finished run, a folder that cannot be written, a notebook that fails.
    """
    for name in formats:
        if name not in FORMATS:
            raise ReportError(unknown("report format", name, FORMATS))
    curves = not formats or any(name in CURVES for name in formats)
    results, study = load_results(folder, curves=curves), Path(folder)
    target = out if out is not None else below(study, "report")
    try:
        target.mkdir(parents=True, exist_ok=True)
        names = list(dict.fromkeys(formats)) or usual(len(results.runs))
        own = is_made(study) if execute is None else execute
        worth = len(results.runs) >= parallel.MANY_RUNS
        written = parallel.on_all_cores(lambda name: _write(name, results, study, target, own), names, worth)
        return [path for paths in written for path in paths]
    except OSError as error:
        raise ReportError(
            f"{str(target)!r}: the report cannot be written there: {reason(error)}; choose a folder you may write to"
        ) from error


def usual(runs: int) -> list[str]:
    """The formats that are written where none are named."""
    return [name for name in FORMATS if runs <= LARGE or name not in SLOW]


def _write(name: str, results: StudyResults, study: Path, target: Path, execute: bool) -> list[Path]:
    if name == "notebook":
        notebook = import_module("cello.report.formats.notebook")
        contents = {results.notebook: notebook.report(results, study, target, execute)}
    elif name == "pdf":
        contents = import_module("cello.report.formats.pdf").files(results)
    else:
        made = {file: _content(results, module, function) for file, module, function in TEXTS[name]}
        contents = {file: content for file, content in made.items() if content}
    for file, content in contents.items():
        write_whole(target / file, content)
    return [target / file for file in contents]


def _content(results: StudyResults, module: str, function: str) -> bytes | Iterable[bytes]:
    format_ = import_module(f"cello.report.{module}")
    if function == "report" and hasattr(format_, "pieces"):
        pieces: Iterable[bytes] = format_.pieces(results)
        return pieces
    text: str = getattr(format_, function)(results)
    if not text:
        return b""
    # without the mark, spreadsheets do not read it as UTF-8
    return text.encode("utf-8-sig" if module == "formats.csv" else "utf-8")
